// The dialog in which another class is chosen by typing.

const picker = byId("picker"), typed = byId("picker-text"), options = byId("picker-list");
const MOST_OPTIONS = 50;
let offered = [], marked = 0;

function pickClass() {
  if (!chosen().length) { return; }
  typed.value = "";
  offer();
  picker.showModal();
  typed.focus();
}

function offer() {
  const query = typed.value.trim().toLowerCase();
  const names = index.classes.slice(0, index.num_classes);
  const starts = names.filter((name) => name.toLowerCase().startsWith(query))
    .sort((a, b) => (b.toLowerCase() === query) - (a.toLowerCase() === query)); // an exact match first
  const holds = query ? names.filter((name) => !name.toLowerCase().startsWith(query) && name.toLowerCase().includes(query)) : [];
  const found = [...starts, ...holds].filter(Boolean); // a class without a name cannot be set
  byId("picker-more").textContent = found.length > MOST_OPTIONS ? `${count(found.length - MOST_OPTIONS)} more: keep typing` : "";
  offered = found.slice(0, MOST_OPTIONS).map((name) => ({ name, words: name }));
  const exact = typed.value.trim();
  if (exact && !names.includes(exact)) { offered.push({ name: exact, words: `New class “${exact}” (labelaudit apply then needs --allow-new-classes)` }); }
  marked = 0;
  options.replaceChildren(...offered.map((one, i) => {
    const item = element("li", "", one.words);
    item.id = `option-${i}`;
    item.setAttribute("role", "option");
    item.addEventListener("click", () => pick(i));
    return item;
  }));
  mark(0);
}

function mark(i) {
  marked = Math.max(0, Math.min(offered.length - 1, i));
  [...options.children].forEach((item, j) => item.setAttribute("aria-selected", String(j === marked)));
  if (options.children[marked]) {
    options.children[marked].scrollIntoView({ block: "nearest" });
    typed.setAttribute("aria-activedescendant", `option-${marked}`);
  }
}

function pick(i) {
  if (!offered[i]) { return; }
  typed.blur(); // otherwise a key pressed at once would still go to the field
  picker.close();
  decide("relabel", offered[i].name);
}
