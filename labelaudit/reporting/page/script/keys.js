// Actions of keys and clicks.

function help() {
  byId("help").showModal();
  byId("help-title").focus(); // focus on the button at the end would scroll down to it
}

const KEYS = {
  a: () => decide("accept"), k: () => decide("keep"), r: pickClass, x: () => decide("exclude"),
  u: () => decide("unsure"), z: undo, Backspace: clear,
  n: () => { if (mode === "one") { byId("note").focus(); } },
  g: () => setMode(mode === "grid" ? "one" : "grid"),
  "/": () => byId("search").focus(), "?": help,
};

function onKey(event) {
  if (views.review.hidden || event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) { return; }
  const field = event.target.closest("input:not([type=checkbox]), textarea, select");
  if (field) {
    if (event.key === "Escape") {
      // Browsers clear a search field on Escape, without an event for the page.
      event.preventDefault();
      if (field.id === "search" && field.value) { field.value = ""; filter(); } else { field.blur(); }
    }
    return;
  }
  let key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  // On a keyboard of another script, the position of the key counts.
  if (key.length === 1 && key > "~" && /^Key[A-Z]$/.test(event.code)) { key = event.code[3].toLowerCase(); }
  if (event.repeat && (KEYS[key] || key === "Enter")) { event.preventDefault(); return; } // the key is held down
  const onButton = event.target.closest("button, a, summary");
  let done = true;
  if (KEYS[key]) { KEYS[key](); } else if (mode === "grid" && ["ArrowRight", "ArrowLeft", "ArrowDown", "ArrowUp", "PageDown", "PageUp", "Home", "End"].includes(key)) {
    const rows = Math.max(1, Math.floor(grid.clientHeight / (shape.height + shape.gap)));
    const by = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: shape.columns, ArrowUp: -shape.columns, PageDown: rows * shape.columns, PageUp: -rows * shape.columns, Home: -listed.length, End: listed.length }[key];
    go(current + by, event.shiftKey);
  } else if (key === "ArrowRight" || key === "j" || (key === "Enter" && mode === "one" && !onButton)) { step(1); render(); } else if (key === "ArrowLeft" || key === "p") { step(-1); render(); } else if (key === "Enter" && mode === "grid" && !onButton) { setMode("one"); } else if (key === "Escape" && selection.size) { selection.clear(); render(); } else { done = false; }
  if (done) { event.preventDefault(); if (mode === "grid" && !document.querySelector("dialog[open]") && !event.target.closest("#filters") && !document.activeElement.closest("#filters")) { focusCurrent(); } }
}

function go(place, extend) {
  if (!listed.length) { return; }
  const before = current;
  current = Math.max(0, Math.min(listed.length - 1, place));
  if (extend) {
    if (!selection.size) { anchor = before; }
    selection.clear();
    for (let i = Math.min(anchor, current); i <= Math.max(anchor, current); i += 1) { selection.add(listed[i]); }
  } else {
    selection.clear();
    anchor = current;
  }
  reveal();
  render();
}

function onGridClick(event) {
  const card = event.target.closest(".card");
  if (!card) { return; }
  const place = placeOf[Number(card.dataset.at)];
  const button = event.target.closest("[data-decision]:is(button)");
  if (button) {
    if (!selection.has(listed[place])) { selection.clear(); }
    current = place;
    decide(button.dataset.decision);
  } else if (event.shiftKey) {
    go(place, true);
  } else if (event.ctrlKey || event.metaKey || event.target.closest(".pick")) {
    const at = listed[place];
    if (selection.has(at)) { selection.delete(at); } else { selection.add(at); }
    current = place;
    anchor = place;
    render();
  } else {
    current = place;
    setMode("one");
  }
}
