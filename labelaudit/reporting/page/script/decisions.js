// Decisions about suspects: made, changed and undone.

const WORDS = {
  accept: "accepted", keep: "kept", relabel: "relabeled", exclude: "excluded", unsure: "unsure",
};
const decisions = new Map(); // place of a suspect -> {decision, label, note, reviewer, at}
const undone = []; // groups of [place, what it was before], the latest last
let reviewer = "";

const className = (code) => (code < 0 ? "(none)" : index.classes[code] || "(empty name)");
const decisionOf = (at) => (decisions.get(at) || {}).decision || "";
const storageKey = () => `labelaudit:${index.run}`;
const now = () => new Date().toISOString().replace(/\.\d+Z$/, "Z");

const touched = new Set(); // changed on this page; another tab may have changed others

function remember(at, state) {
  touched.add(at);
  if (state) { decisions.set(at, state); } else { decisions.delete(at); }
}

function change(places, make, words) {
  const group = [];
  for (const at of places) {
    const before = decisions.get(at);
    const state = make(at, before);
    if (state === undefined) { continue; }
    group.push([at, before]);
    remember(at, state);
  }
  if (!group.length) { return false; }
  undone.push(group);
  keep(group.map(([at]) => at));
  tell(group.length === 1 ? words(group[0][0]) : `${count(group.length)} suspects: ${words(group[0][0])}`);
  return true;
}

function decide(decision, label) {
  const places = chosen();
  if (!places.length) { return; }
  if (places.length > 1) {
    const again = places.filter((at) => decisionOf(at)).length;
    const words = again ? ` ${count(again)} of them ${again === 1 ? "is" : "are"} already decided and would change.` : "";
    if (!window.confirm(`Apply this decision to ${count(places.length)} suspects?${words}`)) { return; }
  }
  const done = change(places, (at, before) => {
    const given = suspects.given[at], suggested = suspects.suggested[at];
    let what = decision, name = "";
    if (what === "accept" && !index.classes[suggested]) { return undefined; } // there is no suggestion, or its class has no name
    if (what === "accept") { name = index.classes[suggested]; }
    if (what === "relabel") {
      name = label;
      if (suggested >= 0 && label === index.classes[suggested]) { what = "accept"; }
      if (given >= 0 && label === index.classes[given]) { what = "keep"; name = ""; }
    }
    return { decision: what, label: name, note: before ? before.note : "", reviewer, at: now() };
  }, (at) => sayDecision(at));
  if (!done) { tell("There is no suggestion to accept."); return; }
  // Go on to the next suspect. After a decision about several, none is selected.
  const several = places.length > 1;
  selection.clear();
  if (!several) { step(1, true); }
  render();
}

function clear() {
  change(chosen(), (at, before) => (before && before.decision
    ? { ...before, decision: "", label: "", at: now() } : undefined), () => "The decision is removed.");
  render();
}

function undo() {
  const group = undone.pop();
  if (!group) { tell("There is nothing to undo."); return; }
  for (const [at, before] of group) { remember(at, before); }
  keep(group.map(([at]) => at));
  drawn = -1; // a note may be back
  const place = placeOf[group[0][0]];
  if (place >= 0) { current = place; reveal(); }
  tell("Undone.");
  render();
}

function sayDecision(at) {
  const state = decisions.get(at);
  if (!state || !state.decision) { return "not decided"; }
  if (state.decision === "accept" || state.decision === "relabel") { return `${WORDS[state.decision]}: ${state.label}`; }
  if (state.decision === "keep") { return `kept: ${className(suspects.given[at])}`; }
  return WORDS[state.decision];
}
