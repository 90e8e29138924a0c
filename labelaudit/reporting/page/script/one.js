// The view of one suspect, with all evidence.

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
  // The true label, if it is known, is shown only after the decision.
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
  offerWholeText(seen);
  drawBars(at);
  drawNear(at, seen, "given", given);
  drawNear(at, seen, "suggested", suggested);
  drawTraining(at, seen);
  const ahead = listed[Math.min(current + 3, listed.length - 1)];
  evidence(ahead); // the next suspects are read ahead
}

// Of a long text the list holds the start, and the evidence the whole.
function offerWholeText(seen) {
  const start = byId("one-details").querySelector("dd.sample-text");
  if (!seen || !seen.text || !start) { return; }
  const more = element("button", "more", `Show the whole text (${count(seen.text.length)} characters)`);
  more.type = "button";
  more.addEventListener("click", () => {
    start.replaceChildren(element("bdi", "", seen.text));
    start.title = "";
    more.remove();
    start.focus();
  });
  start.tabIndex = -1;
  start.after(more);
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
    // The original may have been moved, or browsers may not show its format.
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
