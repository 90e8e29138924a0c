// Numbers as text, and messages for the reviewer.

const count = (value) => Math.round(value).toLocaleString("en-US");
const percent = (share) => (share > 0 && share < 0.001 ? "<0.1%" : share < 1 && share > 0.999 ? ">99.9%" : `${(100 * share).toFixed(1)}%`);

const BRIEFLY = ["clear", "unsure", "disputed"];
const AT_LENGTH = ["people would rarely disagree", "some people would disagree", "many people would disagree"];

function ambiguityWords(share, words) {
  if (share === null) { return "–"; }
  return `${words[share < index.clear ? 0 : share < index.disputed ? 1 : 2]} (${percent(share)})`;
}

function scoreWords(score) {
  if (!index.probability) { return `score ${score.toFixed(3)}`; }
  const words = score >= 0.95 ? "almost certainly wrong" : score >= 0.8 ? "very likely wrong"
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
    words += ` Of ${count(wrong + right)} reviewed labels, ${count(wrong)} were wrong; ${count(expected)} were expected.`;
  }
  if (total && looked === total) {
    words += live ? " Every suspect is decided. Press Ctrl-C in the terminal to end the review; the next step is named there."
      : " Every suspect is decided. Download corrections.csv and pass it to labelaudit apply.";
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
