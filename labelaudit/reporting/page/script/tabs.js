// The review page. It shows suspects and takes decisions, and it keeps them: in the browser's storage
// where the page was opened from disk, at the server of `labelaudit review` where that serves it.
// labelaudit/reporting/html.py joins the files of this folder to one script.
//
// Text from the data only ever becomes textContent, an attribute or an option, and never markup.
//
// This part: the tabs, which are the overview and the review.

const byId = (id) => document.getElementById(id);
const views = { overview: byId("overview"), review: byId("review") };
const live = document.documentElement.dataset.review === "live";
document.documentElement.classList.add("scripted");

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
