// Photos come in here: chosen, dropped, pasted, or a sample. Then everything is wired up.
let sent = null; // what was chosen last, to be asked about with another network

async function send(photo) {
  setPlaying(false);
  const choice = { network: part("network").value, fitting: part("fitting").value };
  const answer = photo.sample ? await ask("sample", { name: photo.sample, ...choice })
    : await ask("photo", { name: photo.file.name || "pasted", ...choice }, photo.file);
  if (answer) { sent = photo; take(answer); }
  else if (state.photo) for (const name of ["network", "fitting"]) part(name).value = state.photo[name]; // what still holds
  return answer;
}

function sendFirst(files) {
  const list = [...(files || [])];
  if (list.length) send({ file: list[0] });
}

async function pasteByButton() {
  try {
    for (const item of await navigator.clipboard.read()) {
      const kind = item.types.find((type) => type.startsWith("image/"));
      if (kind) { send({ file: new File([await item.getType(kind)], "pasted", { type: kind }) }); return; }
    }
    say("there is no picture on the clipboard");
  } catch { say("the browser does not let the page read the clipboard; press Ctrl+V instead"); }
}

document.addEventListener("paste", (event) => sendFirst(event.clipboardData?.files));
part("file").addEventListener("change", (event) => { sendFirst(event.target.files); event.target.value = ""; });
for (const kind of ["dragover", "dragleave", "drop"]) {
  document.addEventListener(kind, (event) => {
    event.preventDefault();
    part("drop").classList.toggle("nx-over", kind === "dragover");
    if (kind === "drop") sendFirst(event.dataTransfer?.files);
  });
}
for (const name of ["network", "fitting"]) {
  part(name).addEventListener("change", () => {
    if (sent) { send(sent); return; }
    part(name).value = state.photo[name]; // it came with an earlier page, and is not at hand here
    say("Choose the photo again first: this page was loaded anew, and has no copy of it.");
  });
}

const tools = {
  undo: () => change("undo"), show_all: () => change("show_all"), hide_all: () => change("hide_all"),
  invert: () => change("invert"), play, step: () => stepOnce(1), finish: () => stepOnce(100000),
  cancel: () => post("cancel", {}), close: () => say(""), compare, contrast, paste: pasteByButton,
  group_clear: clearGroup, group_study: studyGroup,
};
for (const button of nx.querySelectorAll("[data-do]")) button.addEventListener("click", () => tools[button.dataset.do]());
for (const button of nx.querySelectorAll("[data-save]")) button.addEventListener("click", () => save(button.dataset.save));
for (const radio of nx.querySelectorAll('[name="nx-view"]')) {
  radio.addEventListener("change", () => { state.view = radio.value; draw(); });
}
for (const radio of nx.querySelectorAll('[name="nx-algorithm"]')) radio.addEventListener("change", () => cutAgain());
part("k").addEventListener("input", () => { part("k-shown").textContent = part("k").value; cutAgain(); });
part("method").addEventListener("change", async () => {
  setPlaying(false);
  const answer = await ask("rank", { method: part("method").value });
  if (answer) take(answer); else part("method").value = state.regions.method; // what still holds
});
part("opacity").addEventListener("input", () => {
  part("opacity-shown").textContent = `${part("opacity").value} %`;
  nx.style.setProperty("--nx-opacity", part("opacity").value / 100);
});
part("group-files").addEventListener("change", async (event) => {
  const files = [...event.target.files];
  event.target.value = "";
  await addPhotos(files);
});
part("group-k").addEventListener("input", () => { part("group-k-shown").textContent = part("group-k").value; });
for (const field of ["positive", "negative"]) part(field).addEventListener("input", () => findClasses(part(field).value));

const tabs = [...nx.querySelectorAll('[role="tab"]')];
function open(tab) {
  for (const one of tabs) {
    const here = one === tab;
    one.setAttribute("aria-selected", `${here}`);
    one.tabIndex = here ? 0 : -1;
    nx.querySelector(`#${one.getAttribute("aria-controls")}`).hidden = !here;
  }
}
tabs.forEach((tab, at) => {
  tab.addEventListener("click", () => open(tab));
  tab.addEventListener("keydown", (event) => {
    const next = { ArrowRight: at + 1, ArrowLeft: at - 1, Home: 0, End: tabs.length - 1 }[event.key];
    if (next === undefined) return;
    event.preventDefault();
    const other = tabs[(next + tabs.length) % tabs.length];
    open(other);
    other.focus();
  });
});

window.addEventListener("resize", () => { if (state.scores) showCurve(state.scores.curve); });

// Work of a page that is closed is not wanted any more.
window.addEventListener("pagehide", () => { post("cancel", {}, { keepalive: true }).catch(() => {}); });

(async () => {
  const answer = await ask("hello");
  if (!answer) return;
  state.limits = answer.limits;
  part("k").max = answer.most_clusters;
  part("network").replaceChildren(...answer.networks.map((name) => made("option", { value: name }, name)));
  part("samples").replaceChildren(...answer.samples.map((one) => made("button", {
    type: "button", "aria-label": `Sample: ${one.what}`, title: one.what, onclick: () => send({ sample: one.name }),
  }, made("img", { src: one.picture, alt: "" }))));
  const options = () => answer.methods.map((one) => made("option", { value: one.name }, one.title));
  part("method").replaceChildren(...options());
  part("contrast-method").replaceChildren(...options());
  part("contrast-method").value = answer.default_method;
  part("group-method").replaceChildren(...options());
  part("group-method").value = answer.default_method;
  const box = (checked) => (one) => made("label", {},
    made("input", { type: "checkbox", value: one.name, checked: checked.includes(one.name) }), one.title);
  part("methods").replaceChildren(...answer.methods.map(box([answer.default_method, "vanilla_gradient"])));
  part("segmenters").replaceChildren(...answer.segmenters.map(box(["slic", "felzenszwalb"])));
  nx.dataset.state = "open";
  if (answer.photo) take(answer); else if (await send({ sample: answer.samples[0].name })) invite();
})();

// A first click is asked for, where it does most as far as is known.
function invite() {
  const { regions, scores, alone } = state, bar = scores.bars[0];
  const [number] = alone ? Object.entries(alone.of).sort(([, a], [, b]) => a.after - b.after)[0] : [regions.rank.indexOf(1)];
  const [x, y] = regions.middle[number];
  sheet.querySelector(".nx-pulse")?.classList.remove("nx-pulse");
  part("regions").children[number].classList.add("nx-pulse");
  const words = part("invitation"), shares = [x / state.photo.width, y / state.photo.height];
  words.textContent = `Click here: ${bar.name} ${percent(bar.before, 0)} → ?`;
  const [box, inner, half] = [picture.getBoundingClientRect(), frame.getBoundingClientRect(), words.offsetWidth / 2 + 4];
  const [least, most] = [box.left - inner.left + half, box.right - inner.left - half]; // all of it in sight
  words.style.left = `${Math.max(least, Math.min(most, shares[0] * inner.width))}px`;
  words.style.top = `${100 * shares[1]}%`;
}
