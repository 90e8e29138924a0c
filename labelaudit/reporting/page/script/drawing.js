// Drawing, at most once per frame.

let scheduled = 0;

function schedule() { if (!scheduled) { scheduled = requestAnimationFrame(() => { scheduled = 0; draw(); }); } }

function render() { progress(); draw(); }

function draw() {
  if (views.review.hidden) { return; }
  byId("selection").hidden = mode !== "grid";
  byId("selected-count").textContent = selection.size ? `${count(selection.size)} selected: a decision applies to all of them` : "";
  byId("select-none").hidden = !selection.size;
  byId("selection-acts").hidden = !selection.size;
  byId("undo-several").disabled = !undone.length;
  if (mode === "grid") { drawGrid(); } else { drawOne(); }
}

function setMode(name) {
  mode = name;
  grid.hidden = name !== "grid";
  byId("one").hidden = name !== "one";
  for (const button of document.querySelectorAll("[data-mode]")) {
    button.setAttribute("aria-pressed", String(button.dataset.mode === name));
  }
  selection.clear();
  drawn = -1;
  layOut();
  reveal();
  draw();
  if (name === "grid" && listed.length) { focusCurrent(); }
  try { window.localStorage.setItem("labelaudit:mode", name); } catch (error) { /* the view is not remembered */ }
}

function focusCurrent() {
  const card = cards.get(listed[current]);
  if (card) { card.focus({ preventScroll: true }); }
}
