// Asking the server: one request, one JSON answer; longer work is followed until it is done.
const nx = document.querySelector(".nx");
const part = (name) => nx.querySelector(`[data-part="${name}"]`);
const state = {
  photo: null, regions: null, scores: null, view: "edges", here: null, playing: false,
  belongs: {}, // session, photo, cut and place of what is shown: what does not fit is not shown
};

// A cookie tells the server who visits; in a notebook's frame, where there is none, the address does.
// Each page has a name of its own besides. It is put away only while the page is loaded again, so that a tab that
// was duplicated, storage and all, is a page of its own.
const visitor = new URLSearchParams(location.search).get("visitor");
const keep = (change) => { try { return change(sessionStorage); } catch { return null; } }; // it may be forbidden
const page = keep((kept) => kept.getItem("naspix-page"))
  || Array.from(crypto.getRandomValues(new Uint8Array(16)), (b) => b.toString(16).padStart(2, "0")).join("");
for (const event of ["pageshow", "pagehide"]) {
  window.addEventListener(event, () => keep((kept) => (event === "pagehide" ? kept.setItem("naspix-page", page) : kept.removeItem("naspix-page"))));
}

async function post(path, body, more = {}) {
  const headers = { "X-Naspix-Page": page, "Content-Type": body instanceof Blob ? "application/octet-stream" : "application/json" };
  if (visitor) headers["X-Naspix-Visitor"] = visitor;
  const response = await fetch(`api/${path}`, {
    method: "POST", headers, body: body instanceof Blob ? body : JSON.stringify(body), ...more,
  });
  if (response.headers.get("Content-Type") === "application/json") {
    const answer = await response.json();
    return "ok" in answer ? answer : { ok: false, sentence: answer.detail };
  }
  return { ok: false, sentence: (await response.text()).trim() };
}

const pause = (milliseconds) => new Promise((done) => setTimeout(done, milliseconds));

function say(sentence) {
  const place = part("sentence");
  place.hidden = !sentence;
  part("sentence-words").textContent = sentence || "";
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

// Actions that are about no photo in particular; the others name the one that is shown, and its cut.
const QUIET = new Set(["hello", "python", "find_class", "step", "alone"]); // asked by the page itself
const FREE = new Set(["hello", "sample", "group_clear", "group_study"]);

// Resolves to the answer, or to null where it was refused (and the page has said why) or cancelled.
async function ask(action, more = {}, file = null) {
  if (file && file.size > state.limits.bytes) {
    say(`${file.name || "the photo"} has ${(file.size / 1e6).toFixed(1)} MB, more than this explorer takes (${state.limits.bytes / 1e6} MB); send a smaller one`);
    return null;
  }
  if (!QUIET.has(action)) say(""); // what was said before is answered by now
  const own = Symbol(action);
  let answer;
  try {
    if (file) answer = await post(`${action}?${new URLSearchParams(more)}`, new Blob([file]));
    else {
      const { photo, cut } = state.belongs;
      answer = await post(action, FREE.has(action) || !photo ? more : { photo, cut, ...more });
    }
    while (answer.ok && answer.job) {
      if (action !== "alone") { working.set(own, answer); showWork(); }
      await pause(action === "alone" ? 400 : 120);
      answer = await post(`follow?job=${answer.job}`, {});
    }
  } catch (error) {
    answer = { ok: false, sentence: "the server does not answer; it may have been stopped" };
  }
  working.delete(own);
  showWork();
  if (answer.ok) return answer;
  if (!answer.cancelled && action !== "alone") say(answer.sentence);
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

// Whether an answer is about what is shown, and newer; or brings the photo or the cut that it is about.
function fits(answer) {
  const shown = state.belongs, { session, place, photo, cut } = answer.belongs;
  if (session !== shown.session) return Boolean(answer.photo) || !shown.photo;
  if (place < shown.place) return false;
  return Boolean(answer.photo) || (photo === shown.photo && (Boolean(answer.regions) || cut === shown.cut));
}

const isCurrent = ({ belongs: { session, photo, cut } }) =>
  session === state.belongs.session && photo === state.belongs.photo && cut === state.belongs.cut;

function take(answer) {
  if (!answer || !fits(answer)) return;
  if (!isCurrent(answer)) for (const name of ["comparison", "contrast"]) part(name).replaceChildren(); // of another cut
  state.belongs = answer.belongs;
  if (answer.photo) showPhoto(answer.photo);
  if (answer.regions) showRegions(answer.regions);
  if (answer.scores) { state.told = answer.scores; showScores(answer.scores); }
  if (answer.photo) suggestClasses();
  if (answer.regions) lookAhead();
  if (!part("code").hidden) showCode();
}

// After a refusal: what the server knows, or else what it last told. A photo that it has forgotten is sent again.
async function recover() {
  const answer = await ask("hello");
  if (answer?.photo) { take(answer); return; }
  state.scores = state.told;
  draw();
  if (answer && sent && await send(sent)) say("The server had forgotten this photo, so it was sent again; nothing is hidden now.");
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
