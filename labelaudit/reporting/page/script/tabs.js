// The review page. It shows suspects and saves decisions: in the browser's storage if the page was opened
// from disk, or by the server of `labelaudit review`.
// labelaudit/reporting/html.py joins the files of this folder to one script.
//
// Text from the data becomes textContent, an attribute or an option, but never markup.
//
// This file: the tabs for the overview and the review.

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
