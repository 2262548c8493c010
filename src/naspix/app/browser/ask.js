// Asking the server: one JSON request, one JSON answer; longer work is followed until it is done.
const nx = element.querySelector(".nx");
const part = (name) => nx.querySelector(`[data-part="${name}"]`);
const state = {
  photo: null, regions: null, scores: null, view: "edges", here: null, playing: false,
  told: 0, // when the server said what is shown here: what it said before that comes too late
};

const key = (() => {
  try {
    const kept = sessionStorage.getItem("naspix-key");
    if (kept) return kept;
  } catch { /* storage may be forbidden */ }
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  const made = Array.from(bytes, (b) => b.toString(16).padStart(2, "0")).join("");
  try { sessionStorage.setItem("naspix-key", made); } catch { /* then a reload begins anew */ }
  return made;
})();

const pause = (milliseconds) => new Promise((done) => setTimeout(done, milliseconds));

function say(sentence) {
  const place = part("sentence");
  place.hidden = !sentence;
  place.textContent = sentence || "";
}

const working = new Map(); // requests that take longer -> where they stand; the last one is shown

function showWork() {
  const answer = [...working.values()].at(-1), place = part("work");
  place.hidden = !answer;
  if (!answer) return;
  const known = answer.share !== null && answer.share !== undefined;
  // told to listeners once, not with every second
  if (part("work-note").textContent !== answer.note) part("work-note").textContent = answer.note;
  part("work-time").textContent = (known ? `, ${Math.floor(100 * answer.share)} %` : "")
    + (answer.seconds >= 2 ? ` (${Math.round(answer.seconds)} s)` : "");
  const bar = part("work-bar");
  if (known) bar.value = answer.share; else bar.removeAttribute("value");
}

// Resolves to the answer, or to null where it was refused (and the page has said why) or cancelled.
async function ask(action, more = {}) {
  const own = Symbol(action);
  let answer;
  try {
    answer = await server.ask({ key, action, token: state.photo?.token, ...more });
    while (answer.ok && answer.job) {
      working.set(own, answer);
      showWork();
      await pause(120);
      answer = await server.ask({ key, action: "follow", job: answer.job });
    }
  } catch (error) {
    answer = { ok: false, sentence: "the server does not answer; it may have been stopped" };
  }
  working.delete(own);
  showWork();
  if (answer.ok) return answer;
  if (!answer.cancelled) say(answer.sentence);
  return null;
}

// At most one request of a kind is under way; of those asked meanwhile the last one follows.
function latest(run) {
  let busy = false, next = null;
  return async function again(...given) {
    if (busy) { next = given; return; }
    busy = true;
    await run(...given);
    busy = false;
    if (next) { const then = next; next = null; again(...then); }
  };
}

function take(answer) {
  if (!answer) return;
  say("");
  if (answer.told < state.told) return;
  state.told = answer.told;
  if (answer.photo) showPhoto(answer.photo);
  if (answer.regions) showRegions(answer.regions);
  if (answer.scores) showScores(answer.scores);
  if (answer.photo) suggestClasses();
}

const percent = (share, digits = 1) => share > 0 && share < 0.001 ? "< 0.1 %" : `${(100 * share).toFixed(digits)} %`;
const duration = (seconds) => seconds < 1 ? `${Math.max(1, Math.round(1000 * seconds))} ms` : `${seconds.toFixed(1)} s`;
const tidy = (value) => Math.abs(value) >= 0.001 || value === 0 ? value.toFixed(3) : value.toExponential(1);

function made(tag, attributes = {}, ...children) {
  const node = tag === "svg" || attributes.svg
    ? document.createElementNS("http://www.w3.org/2000/svg", tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "svg") continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (value !== false && value !== null && value !== undefined) node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.filter((child) => child !== null));
  return node;
}
