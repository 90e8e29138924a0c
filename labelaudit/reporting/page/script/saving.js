// Saving decisions: in the browser's storage, or by the server.

let saving = 0;
let unsaved = new Map(); // place -> true; not yet at the server
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
    complain("This browser cannot store the decisions. Download corrections.csv before you close the page.");
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
  // A request that outlives the page (keepalive) may have at most 64 KiB.
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
      complain(`Not saved: ${error.message}. Is “labelaudit review” still running? The next decision is saved together with this one.`);
    });
}

let unlisted = []; // rows of corrections.csv about samples that are no suspects of this page

function take(rows) {
  const place = new Map(suspects.id.map((id, at) => [id, at]));
  for (const row of rows) {
    const at = place.get(row.sample_id);
    if (at === undefined) {
      unlisted.push(row);
    } else if (!decisions.has(at) || row.reviewed_at >= decisions.get(at).at) {
      decisions.set(at, { decision: row.decision, label: row.corrected_label, note: row.note, reviewer: row.reviewer, at: row.reviewed_at, given: row.given_label });
    }
  }
}

// Decisions in this browser. A later one in the run folder holds.
function takeStored(held) {
  const before = unlisted;
  take(Object.entries(held).map(([id, [decision, label, note, by, when]]) => (
    { sample_id: id, decision, corrected_label: label, note, reviewer: by, reviewed_at: when })));
  unlisted = before;
}

function restore() {
  if (live) {
    return fetch("decisions").then((answer) => {
      if (!answer.ok) { return answer.text().then((words) => { throw new Error(words); }); }
      return answer.json();
    }).then((told) => { reviewer = told.reviewer; take(told.rows); },
      (error) => complain(`Earlier decisions cannot be read: ${error.message}`));
  }
  const written = byId("data-decisions"); // decisions in the run folder when the page was written
  if (written) { take(JSON.parse(written.textContent)); }
  try {
    const kept = JSON.parse(window.localStorage.getItem(storageKey()) || "null");
    if (kept) {
      reviewer = kept.reviewer || "";
      byId("reviewer").value = reviewer;
      takeStored(kept.held);
    }
  } catch (error) {
    complain("This browser cannot store the decisions. Download corrections.csv before you close the page.");
  }
  return Promise.resolve();
}
