// The list of suspects: filters, order, selection, and the current one.

let listed = []; // places of the suspects that match, in the order shown
let placeOf = null; // where each suspect is in `listed`, -1 where it is not
let current = 0; // place in `listed`
let anchor = 0; // where a range of the selection began
const selection = new Set(); // places of suspects, several at once
let texts = null; // the text of each suspect that the search looks in

const SORTS = {
  rank: (a, b) => a - b,
  score: (a, b) => suspects.score[a] - suspects.score[b] || a - b,
  clear: (a, b) => (suspects.ambiguity[a] || 0) - (suspects.ambiguity[b] || 0) || a - b,
  pair: (a, b) => suspects.given[a] - suspects.given[b] || suspects.suggested[a] - suspects.suggested[b] || a - b,
  id: (a, b) => (suspects.id[a] < suspects.id[b] ? -1 : suspects.id[a] > suspects.id[b] ? 1 : 0),
};

function searched(at) {
  if (!texts) {
    texts = suspects.id.map((id, i) => [id, className(suspects.given[i]), className(suspects.suggested[i]),
      ...(suspects.details ? suspects.details[i] : [])].join("\n").toLowerCase());
  }
  return texts[at];
}

function filter() {
  const [given, suggested] = byId("pair").value ? byId("pair").value.split(",").map(Number) : [];
  const query = byId("search").value.trim().toLowerCase();
  const least = Number(byId("least").value) || 0;
  const state = byId("state").value;
  const stay = listed[current];
  listed = [];
  for (let at = 0; at < suspects.id.length; at += 1) {
    if (given !== undefined && (suspects.given[at] !== given || suspects.suggested[at] !== suggested)) { continue; }
    if (suspects.score[at] < least) { continue; }
    const decision = decisionOf(at);
    if (state === "open" ? decision : state === "decided" ? !decision : state && decision !== state) { continue; }
    if (query && !searched(at).includes(query)) { continue; }
    listed.push(at);
  }
  const order = SORTS[byId("sort").value];
  if (order !== SORTS.rank) { listed.sort(order); }
  placeOf = new Int32Array(suspects.id.length).fill(-1);
  listed.forEach((at, place) => { placeOf[at] = place; });
  current = stay === undefined ? 0 : Math.max(0, placeOf[stay]);
  selection.clear();
  const all = listed.length === suspects.id.length;
  byId("matches").textContent = all ? `${count(listed.length)} suspects` : `${count(listed.length)} of ${count(suspects.id.length)}`;
  byId("nothing").hidden = listed.length > 0;
  layOut();
  reveal();
  render();
}

function chosen() {
  if (selection.size) { return [...selection].sort((a, b) => a - b); }
  return listed.length ? [listed[current]] : [];
}

function step(by, onlyOpen) {
  let place = current + by;
  while (onlyOpen && place < listed.length && decisionOf(listed[place])) { place += 1; }
  if (onlyOpen && place >= listed.length) {
    const open = listed.findIndex((at) => !decisionOf(at));
    if (open < 0) { tell("Every suspect in this list is decided."); place = Math.min(current + by, listed.length - 1); } else { place = open; }
  }
  current = Math.max(0, Math.min(listed.length - 1, place));
  anchor = current;
  reveal();
}
