// The grid. Only the cards near the visible part exist.

const grid = byId("grid"), floor = byId("floor");
const cards = new Map(); // place of a suspect -> its card
const shape = { columns: 1, width: 0, height: 0, gap: 12 };
let mode = "one";

function layOut() {
  if (mode !== "grid" || views.review.hidden) { return; }
  const rem = parseFloat(getComputedStyle(document.documentElement).fontSize);
  const pictured = index.noun === "images";
  const room = grid.clientWidth - 2 * shape.gap;
  const least = (pictured ? (room < 26 * rem ? 9 : 11) : 19) * rem;
  shape.columns = Math.max(1, Math.floor((room + shape.gap) / (least + shape.gap)));
  shape.width = (room - (shape.columns - 1) * shape.gap) / shape.columns;
  shape.height = (pictured ? 15.8 : 16.5) * rem;
  floor.style.height = `${Math.ceil(listed.length / shape.columns) * (shape.height + shape.gap) + shape.gap}px`;
  for (const card of cards.values()) { card.remove(); }
  cards.clear();
}

const MOST_PRINTED = 120;

function drawGrid(printed) {
  const tall = shape.height + shape.gap;
  const first = printed ? 0 : Math.max(0, Math.floor(grid.scrollTop / tall) - 1) * shape.columns;
  const last = Math.min(listed.length, printed ? MOST_PRINTED
    : (Math.ceil((grid.scrollTop + grid.clientHeight) / tall) + 1) * shape.columns);
  const wanted = new Set(listed.slice(first, last));
  for (const [at, card] of cards) { if (!wanted.has(at)) { card.remove(); cards.delete(at); } }
  for (let place = first; place < last; place += 1) {
    const at = listed[place];
    let card = cards.get(at);
    if (!card) {
      card = makeCard(at);
      cards.set(at, card);
      card.style.width = `${shape.width}px`;
      card.style.height = `${shape.height}px`;
      card.style.left = `${shape.gap + (place % shape.columns) * (shape.width + shape.gap)}px`;
      card.style.top = `${shape.gap + Math.floor(place / shape.columns) * tall}px`;
      card.setAttribute("aria-posinset", place + 1);
      card.setAttribute("aria-setsize", listed.length);
      // In the order of the list, which screen readers and the tab key follow.
      const next = [...floor.children].find((other) => placeOf[Number(other.dataset.at)] > place);
      floor.insertBefore(card, next || null);
    }
    dress(card, at, place);
  }
}

function element(tag, name, text) {
  const made = document.createElement(tag);
  if (name) { made.className = name; }
  if (text !== undefined) { made.textContent = text; }
  return made;
}

function named(tag, name, text) { // a name from the data, whose writing direction must not affect the rest
  const made = element(tag, name);
  made.append(element("bdi", "", text));
  made.title = text;
  return made;
}

function makeCard(at) {
  const card = element("li", "card panel");
  card.tabIndex = -1;
  card.dataset.at = at;
  if (index.noun === "images") {
    const frame = element("div", "picture");
    frame.append(element("span", "missing", "…"));
    card.append(frame);
  } else {
    // Beside a text there is no room for other columns.
    card.append(detailsList(at, index.text === undefined ? 4 : index.text + 1));
  }
  card.append(element("span", "rank", `#${count(suspects.rank[at])}`));
  const pick = element("input", "pick");
  pick.type = "checkbox";
  pick.tabIndex = -1;
  pick.setAttribute("aria-label", `Select ${suspects.id[at]}`);
  card.append(pick);
  const change = element("p", "change");
  change.append(named("span", "given", className(suspects.given[at])),
    named("span", "suggested", className(suspects.suggested[at])));
  card.append(change);
  card.append(element("p", "small", `${suspects.score[at].toFixed(3)} · ${ambiguityWords(suspects.ambiguity[at], BRIEFLY)}`));
  const buttons = element("p", "quick");
  for (const [decision, words, label] of [["accept", "Accept", "Accept the suggestion"], ["keep", "Keep", "Keep the given label"]]) {
    const button = element("button", `act ${decision}`, words);
    button.type = "button";
    button.dataset.decision = decision;
    button.tabIndex = -1;
    button.setAttribute("aria-label", `${label} of ${suspects.id[at]}`);
    buttons.append(button);
  }
  card.append(buttons, element("p", "verdict-badge"));
  return card;
}

function detailsList(at, most) {
  const list = element("dl", "details");
  const values = suspects.details ? suspects.details[at] : [];
  let shown = 0;
  values.forEach((value, column) => {
    if (value === "" || shown >= most) { return; }
    shown += 1;
    const kind = column === index.text ? "sample-text" : "";
    list.append(named("dt", "", index.details[column]), named("dd", kind, value));
  });
  if (!shown) { list.append(element("dt", "", "id"), named("dd", "", suspects.id[at])); }
  return list;
}

function dress(card, at, place) {
  const decision = decisionOf(at);
  card.dataset.decision = decision;
  card.classList.toggle("current", place === current);
  card.classList.toggle("selected", selection.has(at));
  card.querySelector(".pick").checked = selection.has(at);
  card.tabIndex = place === current ? 0 : -1;
  card.setAttribute("aria-label", `#${suspects.rank[at]} ${suspects.id[at]}: given ${className(suspects.given[at])}, suggested ${className(suspects.suggested[at])}, ${decision ? sayDecision(at) : "not decided"}`);
  card.querySelector(".verdict-badge").textContent = decision ? sayDecision(at) : "";
  const frame = card.querySelector(".picture");
  if (frame && !frame.dataset.full) {
    const seen = evidence(at, schedule);
    if (seen) {
      frame.dataset.full = "yes";
      frame.replaceChildren(seen.picture ? image(seen.picture, seen.tiny, `Image ${suspects.id[at]}`) : element("span", "missing", "cannot be read"));
    }
  }
}

function image(source, tiny, words) {
  const made = element("img", tiny ? "tiny" : "");
  made.src = source;
  made.alt = words;
  made.decoding = "async";
  return made;
}

function reveal() {
  if (mode !== "grid" || !listed.length) { return; }
  const tall = shape.height + shape.gap;
  const top = Math.floor(current / shape.columns) * tall;
  if (top < grid.scrollTop) { grid.scrollTop = top; }
  if (top + tall + shape.gap > grid.scrollTop + grid.clientHeight) { grid.scrollTop = top + tall + shape.gap - grid.clientHeight; }
}
