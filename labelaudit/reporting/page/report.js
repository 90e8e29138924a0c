// The review page. It shows suspects, takes decisions, and keeps them: in the browser's storage where
// the page was opened from disk, at the server of `labelaudit review` where that serves it.
//
// Text from the data only ever becomes textContent, an attribute or an option: never markup.
(() => {
  "use strict";

  const byId = (id) => document.getElementById(id);
  const views = { overview: byId("overview"), review: byId("review") };
  const live = document.documentElement.dataset.review === "live";
  document.documentElement.classList.add("scripted");

  // --- tabs: the overview, and the review -------------------------------------------------------

  const tabs = [...document.querySelectorAll("[data-view]")];

  function show(name) {
    for (const [key, view] of Object.entries(views)) { view.hidden = key !== name; }
    document.body.classList.toggle("reviewing", name === "review");
    for (const tab of tabs) {
      if (tab.dataset.view === name) { tab.setAttribute("aria-current", "page"); } else { tab.removeAttribute("aria-current"); }
    }
    if (name === "review" && index) { layOut(); render(); }
  }

  function route() {
    const hash = location.hash.slice(1);
    show(hash === "review" ? "review" : "overview");
    if (hash && hash !== "review" && hash !== "overview") {
      const target = byId(hash);
      if (target) { target.scrollIntoView(); }
    }
  }

  // --- data: blocks in the page, files beside it, or the server's -------------------------------

  const blocks = new Map(); // name -> promise of what the block holds
  const arrived = new Map(); // name -> what is done when a file beside the page was read
  const MOST_CHUNKS = 40; // kept in memory

  window.labelauditData = (name, value) => { const done = arrived.get(name); if (done) { done(value); } };

  function load(name) {
    if (!blocks.has(name)) {
      blocks.set(name, read(name));
      blocks.get(name).catch(() => blocks.delete(name));
    }
    const found = blocks.get(name);
    if (name !== "index") { // the longest unused go first
      blocks.delete(name);
      blocks.set(name, found);
      for (const old of blocks.keys()) {
        if (blocks.size <= MOST_CHUNKS + 1) { break; }
        if (old !== "index") { blocks.delete(old); chunks.delete(old); }
      }
    }
    return found;
  }

  function read(name) {
    const inline = byId(`data-${name}`);
    if (inline) { return Promise.resolve(JSON.parse(inline.textContent)); }
    if (live) {
      return fetch(`report-data/${name}.json`).then((answer) => {
        if (!answer.ok) { throw new Error(`${name}: ${answer.status}`); }
        return answer.json();
      });
    }
    return new Promise((resolve, reject) => {
      const script = document.createElement("script");
      script.src = `report-data/${name}.js`;
      arrived.set(name, (value) => { arrived.delete(name); script.remove(); resolve(value); });
      script.addEventListener("error", () => { arrived.delete(name); script.remove(); reject(new Error(name)); });
      document.head.append(script);
    });
  }

  let index = null; // what all suspects have in common, and a column for each of their properties
  let suspects = null; // index.suspects
  const chunks = new Map(); // name -> what was read of it

  const chunkName = (at) => `chunk-${String(Math.floor(at / index.chunk) + 1).padStart(5, "0")}`;

  // What a suspect shows besides its row of the index; null until its chunk is there.
  function evidence(at, then) {
    const name = chunkName(at);
    const chunk = chunks.get(name);
    if (chunk) { load(name); return chunk.suspects[at % index.chunk]; }
    load(name).then((value) => { chunks.set(name, value); if (then) { then(); } }, () => {
      complain("The pictures of some suspects could not be read. Keep the folder report-data beside this page.");
    });
    return null;
  }

  function picture(at, key) { return chunks.get(chunkName(at)).pictures[key] || ""; }

  // --- decisions ---------------------------------------------------------------------------------

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

  const touched = new Set(); // changed on this page: another tab may have changed others

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
      const words = again ? ` ${count(again)} of them ${again === 1 ? "is" : "are"} decided already and would change.` : "";
      if (!window.confirm(`Decide about ${count(places.length)} suspects at once?${words}`)) { return; }
    }
    const done = change(places, (at, before) => {
      const given = suspects.given[at], suggested = suspects.suggested[at];
      let what = decision, name = "";
      if (what === "accept" && !index.classes[suggested]) { return undefined; } // none, or one without a name
      if (what === "accept") { name = index.classes[suggested]; }
      if (what === "relabel") {
        name = label;
        if (suggested >= 0 && label === index.classes[suggested]) { what = "accept"; }
        if (given >= 0 && label === index.classes[given]) { what = "keep"; name = ""; }
      }
      return { decision: what, label: name, note: before ? before.note : "", reviewer, at: now() };
    }, (at) => sayDecision(at));
    if (!done) { tell("There is no suggestion to accept."); return; }
    // On to the next one. With several chosen the choice is over.
    const several = places.length > 1;
    selection.clear();
    if (!several) { step(1, true); }
    render();
  }

  function clear() {
    change(chosen(), (at, before) => (before && before.decision
      ? { ...before, decision: "", label: "", at: now() } : undefined), () => "The decision is taken back.");
    render();
  }

  function undo() {
    const group = undone.pop();
    if (!group) { tell("There is nothing to undo."); return; }
    for (const [at, before] of group) { remember(at, before); }
    keep(group.map(([at]) => at));
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

  // --- keeping them ------------------------------------------------------------------------------

  let saving = 0;
  let unsaved = new Map(); // place -> true, not yet at the server
  let sending = false;

  function keep(places) {
    if (live) {
      for (const at of places) { unsaved.set(at, true); }
      send();
      return;
    }
    window.clearTimeout(saving);
    saving = window.setTimeout(saveHere, 60);
  }

  function saveHere() {
    window.clearTimeout(saving);
    saving = 0;
    try {
      const held = (JSON.parse(window.localStorage.getItem(storageKey()) || "null") || { held: {} }).held;
      for (const at of touched) {
        const s = decisions.get(at) || { decision: "", label: "", note: "", reviewer, at: now() };
        held[suspects.id[at]] = [s.decision, s.label, s.note, s.reviewer, s.at];
      }
      window.localStorage.setItem(storageKey(), JSON.stringify({ reviewer, held }));
    } catch (error) {
      complain("This browser does not keep the decisions. Download corrections.csv before you close the page.");
    }
  }

  function send() {
    document.documentElement.dataset.unsaved = String(unsaved.size + (sending ? 1 : 0));
    if (sending || !unsaved.size) { return; }
    sending = true;
    const batch = [...unsaved.keys()];
    unsaved = new Map();
    const changes = batch.map((at) => {
      const s = decisions.get(at) || { decision: "", label: "", note: "" };
      return { sample_id: suspects.id[at], decision: s.decision, corrected_label: s.label, note: s.note };
    });
    const body = JSON.stringify(changes);
    // What is sent while the page closes may be no larger than 64 KiB, in bytes.
    const options = { method: "POST", headers: { "Content-Type": "application/json" }, body, keepalive: body.length < 20000 };
    fetch("decisions", options)
      .then((answer) => {
        if (!answer.ok) { return answer.text().then((words) => { throw new Error(words); }); }
        return answer.json();
      })
      .then((told) => {
        sending = false;
        byId("trouble").hidden = told.refused.length === 0;
        for (const [id, why] of told.refused) { complain(`The decision about ${id} is not saved: ${why}.`); }
        send();
      })
      .catch((error) => {
        sending = false;
        for (const at of batch) { unsaved.set(at, true); }
        complain(`Not saved: ${error.message}. Is “labelaudit review” still running? The next decision tries again.`);
      });
  }

  function take(rows) {
    const place = new Map(suspects.id.map((id, at) => [id, at]));
    for (const row of rows) {
      const at = place.get(row.sample_id);
      if (at !== undefined) {
        decisions.set(at, { decision: row.decision, label: row.corrected_label, note: row.note, reviewer: row.reviewer, at: row.reviewed_at });
      }
    }
  }

  function takeStored(held) {
    take(Object.entries(held).map(([id, [decision, label, note, by, when]]) => (
      { sample_id: id, decision, corrected_label: label, note, reviewer: by, reviewed_at: when })));
  }

  function restore() {
    if (live) {
      return fetch("decisions").then((answer) => {
        if (!answer.ok) { return answer.text().then((words) => { throw new Error(words); }); }
        return answer.json();
      }).then((told) => { reviewer = told.reviewer; take(told.rows); },
        (error) => complain(`What was decided before cannot be read: ${error.message}`));
    }
    const written = byId("data-decisions"); // those that the run folder held when the page was written
    if (written) { take(JSON.parse(written.textContent)); }
    try {
      const kept = JSON.parse(window.localStorage.getItem(storageKey()) || "null");
      if (kept) {
        reviewer = kept.reviewer || "";
        byId("reviewer").value = reviewer;
        takeStored(kept.held);
      }
    } catch (error) {
      complain("This browser does not keep the decisions. Download corrections.csv before you close the page.");
    }
    return Promise.resolve();
  }

  // --- corrections.csv, written as labelaudit itself writes it ------------------------------------

  const FORMULA = /^[=+\-@\t\r\n＝＋－＠]/;
  const NUMBER = /^[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?$/;

  function cell(text) {
    const guarded = (FORMULA.test(text) && !NUMBER.test(text)) || text.startsWith("'");
    return `"${(guarded ? "'" : "") + text.replace(/"/g, '""')}"`;
  }

  function correctionsCsv() {
    const lines = ['"sample_id","decision","corrected_label","note","reviewer","reviewed_at","given_label"'];
    for (const at of [...decisions.keys()].sort((a, b) => a - b)) {
      const s = decisions.get(at);
      if (s.decision || s.note) {
        const given = suspects.given[at] < 0 ? "" : index.classes[suspects.given[at]];
        lines.push([suspects.id[at], s.decision, s.label, s.note, s.reviewer, s.at, given].map(cell).join(","));
      }
    }
    return `${lines.join("\n")}\n`;
  }

  function download() {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([correctionsCsv()], { type: "text/csv" }));
    link.download = "corrections.csv";
    document.body.append(link);
    link.click();
    link.remove();
    window.setTimeout(() => URL.revokeObjectURL(link.href), 10000);
    tell("corrections.csv was downloaded. Next: labelaudit apply LABELS corrections.csv");
  }

  // --- which suspects are listed ------------------------------------------------------------------

  let listed = []; // places of the suspects that match, in the order shown
  let placeOf = null; // where each suspect is in `listed`, -1 where it is not
  let current = 0; // place in `listed`
  let anchor = 0; // where a range of the selection began
  const selection = new Set(); // places of suspects, several at once
  let texts = null; // what is searched

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

  // --- numbers and words --------------------------------------------------------------------------

  const count = (value) => Math.round(value).toLocaleString("en-US");
  const percent = (share) => (share > 0 && share < 0.001 ? "<0.1%" : share < 1 && share > 0.999 ? ">99.9%" : `${(100 * share).toFixed(1)}%`);

  const BRIEFLY = ["clear", "unsure", "disputed"];
  const AT_LENGTH = ["people would hardly disagree", "some people would disagree", "many people would disagree"];

  function ambiguityWords(share, words) {
    if (share === null) { return "–"; }
    return `${words[share < index.clear ? 0 : share < index.disputed ? 1 : 2]} (${percent(share)})`;
  }

  function scoreWords(score) {
    if (!index.probability) { return `score ${score.toFixed(3)}`; }
    const words = score >= 0.95 ? "almost surely wrong" : score >= 0.8 ? "very likely wrong"
      : score > 0.5 ? "more likely wrong than right" : "more likely right than wrong";
    return `${percent(score)}: ${words}`;
  }

  let telling = 0;

  function tell(words) {
    byId("said").textContent = words;
    byId("said").classList.add("shown");
    window.clearTimeout(telling);
    telling = window.setTimeout(() => byId("said").classList.remove("shown"), 3500);
  }

  function complain(words) {
    byId("trouble").textContent = words;
    byId("trouble").hidden = false;
  }

  function progress() {
    let looked = 0, wrong = 0, right = 0, expected = 0;
    for (const [at, s] of decisions) {
      if (!s.decision) { continue; }
      looked += 1;
      if (s.decision === "accept" || s.decision === "relabel") { wrong += 1; } else if (s.decision === "keep") { right += 1; }
      if (s.decision !== "exclude" && s.decision !== "unsure") { expected += suspects.score[at]; }
    }
    const total = suspects.id.length;
    const parts = [];
    if (index.probability && index.expected_wrong !== null) {
      const whole = Math.max(index.expected_wrong, wrong);
      parts.push(`${count(wrong)} of about ${count(whole)} wrong labels found`);
      const ahead = [];
      for (let i = 0; i < listed.length && ahead.length < 50; i += 1) { if (!decisionOf(listed[i])) { ahead.push(suspects.score[listed[i]]); } }
      if (ahead.length) { parts.push(`the next ${ahead.length} should hold ${count(ahead.reduce((a, b) => a + b, 0))}`); }
    } else {
      parts.push(`${count(wrong)} wrong labels found`);
    }
    let words = `${parts.join("; ")}.`;
    if (index.probability && wrong + right >= 20) {
      words += ` Of ${count(wrong + right)} judged, ${count(wrong)} were wrong; ${count(expected)} were expected.`;
    }
    if (total && looked === total) {
      words += live ? " That was all: end the review with Ctrl-C in the terminal, which names the next step."
        : " That was all: download corrections.csv, and give it to labelaudit apply.";
    }
    byId("progress-words").textContent = `· ${words}`;
    byId("download").classList.toggle("strong", !live);
    byId("progress-bar").max = Math.max(total, 1);
    byId("progress-bar").value = looked;
    byId("looked").textContent = `${count(looked)} of ${count(total)} decided`;
    byId("open-count").textContent = total - looked ? ` (${count(total - looked)} left)` : "";
    byId("download").disabled = looked === 0;
    const open = listed.filter((at) => !decisionOf(at)).length;
    byId("select-all").textContent = open === listed.length ? `Select all ${count(open)}` : `Select the ${count(open)} that are not decided`;
    byId("select-all").disabled = !open;
  }

  // --- the grid: only cards near the window exist --------------------------------------------------

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
        // In the order of the list, so that a screen reader and the tabulator go along it.
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

  function named(tag, name, text) { // a name from the data, whose direction must not turn the rest
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
      card.append(detailsList(at, 4));
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
      list.append(named("dt", "", index.details[column]), named("dd", "", value));
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

  // --- one suspect ---------------------------------------------------------------------------------

  let drawn = -1; // the suspect that the view shows in full
  let noteOf = -1; // the suspect that the note is about

  function drawOne() {
    const at = listed[current];
    if (at === undefined) { byId("one").hidden = true; drawn = -1; return; }
    byId("one").hidden = false;
    byId("place").textContent = `${count(current + 1)} of ${count(listed.length)}`;
    byId("previous").disabled = current === 0;
    byId("next").disabled = current >= listed.length - 1;
    const state = decisions.get(at);
    const decision = state ? state.decision : "";
    byId("one-state").textContent = decision ? sayDecision(at) : "";
    byId("one-state").dataset.decision = decision;
    for (const button of document.querySelectorAll("#acts [data-decision]")) {
      button.setAttribute("aria-pressed", String(button.dataset.decision === decision));
    }
    // The truth, where it is known, is shown to who has decided.
    const truth = suspects.truth ? suspects.truth[at] : -1;
    byId("one-truth").hidden = truth < 0 || !decision;
    if (truth >= 0) { byId("one-truth-name").textContent = className(truth); }
    const seen = evidence(at, () => { drawn = -1; schedule(); });
    if (drawn === at) { return; }
    drawn = seen ? at : -1;
    if (document.activeElement !== byId("note") || noteOf !== at) { byId("note").value = state ? state.note : ""; }
    noteOf = at;
    const given = className(suspects.given[at]), suggested = className(suspects.suggested[at]);
    byId("one-rank").textContent = `#${count(suspects.rank[at])}`;
    for (const [id, words] of [["one-given", given], ["one-suggested", suggested], ["one-id", suspects.id[at]],
      ["brief-given", given], ["brief-suggested", suggested]]) {
      byId(id).replaceChildren(element("bdi", "", words));
      byId(id).title = words;
    }
    byId("accept-name").textContent = suggested;
    byId("keep-name").textContent = given;
    byId("one-score").textContent = scoreWords(suspects.score[at]);
    byId("one-ambiguity").textContent = ambiguityWords(suspects.ambiguity[at], AT_LENGTH);
    drawPicture(at, seen);
    byId("one-details").replaceChildren(...(index.noun === "images" && !(suspects.details && suspects.details[at].some(Boolean)) ? [] : [detailsList(at, 99)]));
    drawBars(at);
    drawNear(at, seen, "given", given);
    drawNear(at, seen, "suggested", suggested);
    drawTraining(at, seen);
    const ahead = listed[Math.min(current + 3, listed.length - 1)];
    evidence(ahead); // the next ones are read before they are asked for
  }

  function drawPicture(at, seen) {
    const frame = byId("one-picture");
    frame.hidden = index.noun !== "images";
    if (frame.hidden) { return; }
    const link = suspects.link ? suspects.link[at] : "";
    const original = link ? (live ? `image/${suspects.rank[at]}` : link) : "";
    byId("original").hidden = !original;
    if (original) { byId("original").href = original; } else { byId("original").removeAttribute("href"); }
    const small = seen ? seen.picture : "";
    if (!original && !small) { frame.replaceChildren(element("span", "missing", seen ? "cannot be read" : "…")); return; }
    const shown = image(original || small, Boolean(seen && seen.tiny), `Image ${suspects.id[at]}`);
    if (original && small) {
      // The original may have been moved, or be in a format that browsers do not show.
      shown.addEventListener("error", () => { shown.src = small; byId("original").hidden = true; }, { once: true });
    }
    frame.replaceChildren(shown);
  }

  function bar(list, name, share, kind) {
    const row = element("div", `bar-row ${kind}`);
    const track = element("span", "track");
    const fill = element("span", "fill");
    fill.style.width = `${(100 * Math.max(0, Math.min(1, share))).toFixed(1)}%`;
    track.append(fill);
    row.append(named("span", "bar-name", name), track, element("span", "bar-share", percent(share)));
    list.append(row);
  }

  function drawBars(at) {
    const list = byId("bars");
    list.replaceChildren();
    byId("bars-box").hidden = !index.probability;
    if (!index.probability) { return; }
    const wrong = suspects.score[at], other = suspects.suggested_prob[at];
    bar(list, className(suspects.suggested[at]), other, "suggested");
    bar(list, className(suspects.given[at]), 1 - wrong, "given");
    if (index.classes.length > 2) { bar(list, "all other classes", Math.max(0, wrong - other), "other"); }
  }

  function drawNear(at, seen, kind, name) {
    const box = byId(`near-${kind}`);
    const found = (seen && seen.near[kind]) || [];
    box.hidden = found.length === 0;
    if (box.hidden) { return; }
    box.querySelector(".near-name").textContent = name;
    const row = box.querySelector(".row");
    row.replaceChildren(...found.map((one) => {
      const uri = one.picture === undefined ? "" : picture(at, one.picture);
      if (uri) {
        const made = image(uri, one.tiny, one.id);
        made.title = one.id;
        return made;
      }
      const words = element("p", "words");
      words.title = one.id;
      words.append(element("bdi", "", one.words ? `${one.id}: ${one.words}` : one.id));
      return words;
    }));
    row.classList.toggle("texts", found.every((one) => one.picture === undefined));
  }

  function drawTraining(at, seen) {
    const box = byId("training");
    const probs = seen && seen.probs ? seen.probs : [];
    box.hidden = !(seen && (seen.epsilon !== null || probs.length));
    if (box.hidden) { return; }
    byId("predictions").textContent = probs.length
      ? `The ${index.trained ? "network" : "prediction"} alone: ${probs.map(([code, share]) => `${className(code)} ${percent(share)}`).join(", ")}.` : "";
    byId("epsilon").textContent = seen.epsilon === null ? "" : `ε in the last epoch: ${seen.epsilon.toFixed(3)}`;
    const curve = byId("curve"), epochs = index.epochs;
    // SVG elements have no property "hidden".
    curve.classList.toggle("gone", !(seen.curve && epochs.length > 1));
    if (seen.curve && epochs.length > 1) {
      const first = epochs[0], last = epochs[epochs.length - 1];
      curve.querySelector("polyline").setAttribute("points", seen.curve.map((value, i) =>
        `${(100 * (epochs[i] - first) / (last - first)).toFixed(1)},${(23 - 22 * Math.sqrt(Math.max(0, Math.min(1, value)))).toFixed(1)}`).join(" "));
      curve.querySelector("title").textContent = `ε from ${seen.curve[0].toFixed(3)} at epoch ${first} to ${seen.curve[seen.curve.length - 1].toFixed(3)} at epoch ${last}`;
    }
  }

  // --- drawing, once a frame -------------------------------------------------------------------------

  let scheduled = 0;

  function schedule() { if (!scheduled) { scheduled = requestAnimationFrame(() => { scheduled = 0; draw(); }); } }

  function render() { progress(); draw(); }

  function draw() {
    if (views.review.hidden) { return; }
    byId("selection").hidden = mode !== "grid";
    byId("selected-count").textContent = selection.size ? `${count(selection.size)} selected: a decision is about all of them` : "";
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
    try { window.localStorage.setItem("labelaudit:mode", name); } catch (error) { /* it is asked for again */ }
  }

  function focusCurrent() {
    const card = cards.get(listed[current]);
    if (card) { card.focus({ preventScroll: true }); }
  }

  // --- another class, by typing ----------------------------------------------------------------------

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
      .sort((a, b) => (b.toLowerCase() === query) - (a.toLowerCase() === query)); // an exact one first
    const holds = query ? names.filter((name) => !name.toLowerCase().startsWith(query) && name.toLowerCase().includes(query)) : [];
    const found = [...starts, ...holds].filter(Boolean); // a class without a name cannot be set
    byId("picker-more").textContent = found.length > MOST_OPTIONS ? `${count(found.length - MOST_OPTIONS)} more: type on` : "";
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
    typed.blur(); // or the next key, pressed at once, would still go to the field
    picker.close();
    decide("relabel", offered[i].name);
  }

  // --- hands -----------------------------------------------------------------------------------------

  function help() {
    byId("help").showModal();
    byId("help-title").focus(); // the button at the end would scroll there
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
        // Browsers empty a search field by themselves, and say so to nobody.
        event.preventDefault();
        if (field.id === "search" && field.value) { field.value = ""; filter(); } else { field.blur(); }
      }
      return;
    }
    let key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
    // On a keyboard of another script the place of the key counts.
    if (key.length === 1 && key > "~" && /^Key[A-Z]$/.test(event.code)) { key = event.code[3].toLowerCase(); }
    if (event.repeat && (KEYS[key] || key === "Enter")) { event.preventDefault(); return; } // held, and not meant
    const onButton = event.target.closest("button, a, summary");
    let done = true;
    if (KEYS[key]) { KEYS[key](); } else if (mode === "grid" && ["ArrowRight", "ArrowLeft", "ArrowDown", "ArrowUp", "PageDown", "PageUp", "Home", "End"].includes(key)) {
      const rows = Math.max(1, Math.floor(grid.clientHeight / (shape.height + shape.gap)));
      const by = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: shape.columns, ArrowUp: -shape.columns, PageDown: rows * shape.columns, PageUp: -rows * shape.columns, Home: -listed.length, End: listed.length }[key];
      go(current + by, event.shiftKey);
    } else if (key === "ArrowRight" || key === "j" || (key === "Enter" && mode === "one" && !onButton)) { step(1); render(); } else if (key === "ArrowLeft" || key === "p") { step(-1); render(); } else if (key === "Enter" && mode === "grid" && !onButton) { setMode("one"); } else if (key === "Escape" && selection.size) { selection.clear(); render(); } else { done = false; }
    if (done) { event.preventDefault(); if (mode === "grid" && !document.querySelector("dialog[open]") && !event.target.closest("#filters")) { focusCurrent(); } }
  }

  function go(place, extend) {
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
    byId("saved-where").textContent = live ? "Every decision is saved to corrections.csv in the run folder at once." : "Decisions are kept in this browser until you download them.";
    return restore().then(() => {
      let wanted = "one";
      try { wanted = window.localStorage.getItem("labelaudit:mode") || "one"; } catch (error) { /* the usual one */ }
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
      complain("The suspects lie in the folder report-data, which belongs beside this page. Keep the two together.");
    });
  }
})();
