// Event listeners, and the start of the page.

function wire() {
  document.addEventListener("keydown", onKey);
  for (const id of ["pair", "state", "sort"]) { byId(id).addEventListener("change", filter); }
  for (const id of ["search", "least"]) { byId(id).addEventListener("input", filter); }
  byId("reset").addEventListener("click", () => {
    for (const id of ["pair", "state", "search", "least"]) { byId(id).value = ""; }
    byId("sort").value = "rank";
    filter();
  });
  for (const button of document.querySelectorAll("[data-mode]")) { button.addEventListener("click", () => setMode(button.dataset.mode)); }
  for (const button of document.querySelectorAll("#acts [data-decision], #selection [data-decision]")) {
    button.addEventListener("click", () => (button.dataset.decision === "relabel" ? pickClass() : decide(button.dataset.decision)));
  }
  byId("undo").addEventListener("click", undo);
  byId("undo-several").addEventListener("click", undo);
  byId("previous").addEventListener("click", () => { step(-1); render(); });
  byId("next").addEventListener("click", () => { step(1); render(); });
  byId("download").addEventListener("click", download);
  byId("show-help").addEventListener("click", help);
  byId("select-all").addEventListener("click", () => {
    listed.filter((at) => !decisionOf(at)).forEach((at) => selection.add(at));
    render();
  });
  byId("select-none").addEventListener("click", () => { selection.clear(); render(); });
  byId("note").addEventListener("change", () => {
    const at = noteOf;
    if (at < 0) { return; }
    const note = byId("note").value.trim();
    change([at], (_, before) => ({ decision: "", label: "", reviewer, at: now(), ...before, note }), () => "The note is kept.");
    render();
  });
  byId("reviewer").addEventListener("change", () => { reviewer = byId("reviewer").value.trim(); saveHere(); });
  byId("one-picture").addEventListener("click", () => {
    const shown = byId("one-picture").querySelector("img");
    if (!shown) { return; }
    const large = byId("large").querySelector("img");
    large.src = shown.src;
    large.alt = shown.alt;
    large.className = shown.className;
    byId("large").showModal();
  });
  byId("large").addEventListener("click", () => byId("large").close());
  typed.addEventListener("input", offer);
  typed.addEventListener("keydown", (event) => {
    if (event.key === "ArrowDown") { mark(marked + 1); event.preventDefault(); }
    if (event.key === "ArrowUp") { mark(marked - 1); event.preventDefault(); }
    if (event.key === "Enter" && !event.isComposing) { pick(marked); event.preventDefault(); }
  });
  grid.addEventListener("scroll", schedule, { passive: true });
  grid.addEventListener("click", onGridClick);
  new ResizeObserver(() => { layOut(); schedule(); }).observe(grid);
  window.addEventListener("pagehide", () => { if (saving) { saveHere(); } });
  window.addEventListener("storage", (event) => { // another tab of the same page
    if (!live && event.key === storageKey() && event.newValue) { takeStored(JSON.parse(event.newValue).held); drawn = -1; render(); }
  });
  window.addEventListener("beforeunload", (event) => { if (sending || unsaved.size) { event.preventDefault(); } });
  window.addEventListener("hashchange", route);
  window.addEventListener("beforeprint", () => { if (mode === "grid") { drawGrid(true); } });
  window.addEventListener("afterprint", draw);
  for (const link of document.querySelectorAll("a[data-pair]")) {
    link.addEventListener("click", () => {
      byId("pair").value = link.dataset.pair;
      byId("search").value = "";
      byId("state").value = "";
      byId("least").value = "";
      filter();
      setMode("grid");
    });
  }
}

function pairs() {
  const counts = new Map();
  for (let at = 0; at < suspects.id.length; at += 1) {
    const key = `${suspects.given[at]},${suspects.suggested[at]}`;
    counts.set(key, (counts.get(key) || 0) + 1);
  }
  for (const [key, times] of [...counts].sort((a, b) => b[1] - a[1])) {
    const [given, suggested] = key.split(",").map(Number);
    const option = element("option", "", `${className(given)} → ${className(suggested)} (${count(times)})`);
    option.value = key;
    byId("pair").append(option);
  }
}

function start(value) {
  index = value;
  suspects = value.suspects;
  pairs();
  wire();
  byId("filters").open = window.innerWidth > 600;
  byId("reviewer-box").hidden = live;
  byId("saved-where").textContent = live ? "Every decision is saved to corrections.csv in the run folder immediately." : "Decisions are stored in this browser until you download them.";
  return restore().then(() => {
    let wanted = "one";
    try { wanted = window.localStorage.getItem("labelaudit:mode") || "one"; } catch (error) { /* the default */ }
    filter();
    const open = listed.findIndex((at) => !decisionOf(at));
    current = Math.max(0, open);
    views.review.classList.add("ready");
    setMode(wanted === "grid" ? "grid" : "one");
    progress();
  });
}

route();
if (byId("grid")) {
  load("index").then(start).catch(() => {
    complain(`The suspects are in the folder ${dataFolder}. Keep it beside this page.`);
  });
}
