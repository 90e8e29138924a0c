// The data: blocks in the page, in files beside it, or from the server.

const blocks = new Map(); // name -> promise of the block's content
const arrived = new Map(); // name -> what to do when that file beside the page has been read
const MOST_CHUNKS = 40; // kept in memory

window.labelauditData = (name, value) => { const done = arrived.get(name); if (done) { done(value); } };

function load(name) {
  if (!blocks.has(name)) {
    blocks.set(name, read(name));
    blocks.get(name).catch(() => blocks.delete(name));
  }
  const found = blocks.get(name);
  if (name !== "index") { // those unused for the longest time are dropped first
    blocks.delete(name);
    blocks.set(name, found);
    for (const old of blocks.keys()) {
      if (blocks.size <= MOST_CHUNKS + 1) { break; }
      if (old !== "index") { blocks.delete(old); chunks.delete(old); }
    }
  }
  return found;
}

const dataFolder = document.documentElement.dataset.folder; // beside the page

function read(name) {
  const inline = byId(`data-${name}`);
  if (inline) { return Promise.resolve(JSON.parse(inline.textContent)); }
  if (live) {
    return fetch(`${dataFolder}/${name}.json`).then((answer) => {
      if (!answer.ok) { throw new Error(`${name}: ${answer.status}`); }
      return answer.json();
    });
  }
  return new Promise((resolve, reject) => {
    const script = document.createElement("script");
    script.src = `${encodeURIComponent(dataFolder)}/${name}.js`;
    arrived.set(name, (value) => { arrived.delete(name); script.remove(); resolve(value); });
    script.addEventListener("error", () => { arrived.delete(name); script.remove(); reject(new Error(name)); });
    document.head.append(script);
  });
}

let index = null; // what all suspects have in common, and their properties as columns
let suspects = null; // index.suspects, one array per property
const chunks = new Map(); // name -> content of the chunks that have been read

const chunkName = (at) => `chunk-${String(Math.floor(at / index.chunk) + 1).padStart(5, "0")}`;

// The pictures and neighbors of a suspect; null until its chunk has been read.
function evidence(at, then) {
  const name = chunkName(at);
  const chunk = chunks.get(name);
  if (chunk) { load(name); return chunk.suspects[at % index.chunk]; }
  load(name).then((value) => { chunks.set(name, value); if (then) { then(); } }, () => {
    complain(`The pictures of some suspects could not be read. Keep the folder ${dataFolder} beside this page.`);
  });
  return null;
}

function picture(at, key) { return chunks.get(chunkName(at)).pictures[key] || ""; }
