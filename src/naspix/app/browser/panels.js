// How the photo is cut; methods and segmenters side by side; contrast; files to keep.
function showCut(regions) {
  if (!wish) {
    for (const radio of nx.querySelectorAll('[name="nx-algorithm"]')) radio.checked = radio.value === regions.algorithm;
    part("k").value = regions.n_asked;
    for (const box of part("levels").querySelectorAll("input")) box.checked = regions.levels.includes(Number(box.value));
  }
  part("k-shown").textContent = part("k").value;
  part("method").value = regions.method;
  const clusters = `${regions.n_clusters} cluster${regions.n_clusters === 1 ? "" : "s"}`;
  part("cut-note").textContent = `${clusters} in ${regions.n} superpixels, in ${duration(regions.seconds)}; `
    + `ranked by ${regions.method_title} for ${regions.target.name}.`;
  nx.dataset.superpixels = regions.n;
}

let wish = null; // what the controls say, until it is answered: an answer to an earlier wish does not move them

const sendWish = latest(async (wanted) => {
  const answer = await ask("segment", wanted);
  if (wish === wanted) wish = null;
  if (answer) take(answer); else if (!wish) { showCut(state.regions); await recover(); } // what still holds
});

function cutAgain() {
  const levels = [...part("levels").querySelectorAll("input:checked")].map((box) => Number(box.value));
  if (!levels.length) {
    showCut(state.regions); // what still holds
    say("At least one level is needed, so the last one stays.");
    return;
  }
  setPlaying(false);
  const algorithm = nx.querySelector('[name="nx-algorithm"]:checked').value;
  wish = { algorithm, n_clusters: Number(part("k").value), levels };
  sendWish(wish);
}

const pictureOf = (source, words) => made("img", { src: source, alt: words });

function scaleOf(scale) {
  return made("span", { class: "nx-scale" }, made("span", {}, tidy(scale.low)),
    made("i", { style: `background:linear-gradient(90deg,${scale.colours.join(",")})` }), made("span", {}, tidy(scale.high)));
}

const chosen = (name) => [...part(name).querySelectorAll("input:checked")].map((box) => box.value);

async function compare() {
  const answer = await ask("compare", { methods: chosen("methods"), segmenters: chosen("segmenters") });
  if (!answer || !isCurrent(answer)) return;
  const found = answer.comparison, parts = [];
  const maps = { class: "nx-maps nx-side-by-side", style: `--nx-columns:${found.segmenters.length + 1}` };
  parts.push(made("div", maps,
    made("figure", {}, made("div", { class: "nx-stack" }, pictureOf(found.photo, "The photo")), made("figcaption", {}, "the photo")),
    ...found.segmenters.map((one) => made("figure", {},
      made("div", { class: "nx-stack" }, pictureOf(one.picture, `Superpixels of ${one.title}`)),
      made("figcaption", {}, `${one.title}: ${one.n} superpixels`)))));
  for (const row of found.rows) {
    parts.push(made("h3", {}, `${row.title} for ${found.target}`));
    parts.push(made("div", maps, ...row.maps.map((map) => made("figure", {},
      made("div", { class: "nx-stack" }, pictureOf(found.photo, ""), pictureOf(map.picture, `${row.title}, ${map.title}`)),
      made("figcaption", {}, map.title, scaleOf(map))))));
  }
  part("comparison").replaceChildren(...parts);
}

// Class names are looked up while they are typed; the number is found by the name.
const classes = new Map();
const findClasses = latest(async (text) => {
  const answer = await ask("find_class", { text });
  if (!answer) return;
  for (const one of answer.classes) classes.set(one.name, one.index);
  nx.querySelector("#nx-classes").replaceChildren(...answer.classes.map((one) => made("option", { value: one.name })));
});

async function classOf(field) {
  const text = part(field).value.trim();
  if (!classes.has(text)) {
    const answer = await ask("find_class", { text });
    if (answer?.classes.length) {
      const [first] = answer.classes;
      classes.set(first.name, first.index);
      part(field).value = first.name;
      return first.index;
    }
    say(`there is no class called ${text || "nothing"}; type a part of its name`);
    return null;
  }
  return classes.get(text);
}

// The two likeliest of a new photo, to begin with.
function suggestClasses() {
  const two = state.scores.bars.slice(0, 2);
  for (const one of two) classes.set(one.name, one.index);
  ["positive", "negative"].forEach((field, i) => { part(field).value = two[i]?.name || ""; });
}

async function contrast() {
  const positive = await classOf("positive"), negative = positive === null ? null : await classOf("negative");
  if (negative === null) return;
  const answer = await ask("contrast", { positive, negative, method: part("contrast-method").value });
  if (!answer || !isCurrent(answer)) return;
  const found = answer.contrast;
  const order = listed(found.fall.map((fall, number) => [fall, number])).sort((a, b) => b[0] - a[0]);
  const rounded = (value) => (Math.abs(value) < 0.005 ? 0 : value).toFixed(2);
  const row = ([fall, number]) => made("tr", { "data-number": number, onmouseenter: () => point(number), onmouseleave: () => point(null) },
    made("td", {}, `${number}`), made("td", {}, tidy(found.saliency[number])), made("td", {}, rounded(fall)),
    made("td", {}, made("button", { type: "button", class: "nx-button", onclick: () => toggle(number), onfocus: () => point(number) })));
  const table = made("div", { class: "nx-scroll", tabindex: 0, role: "region", "aria-label": "Superpixels by contrast" },
    made("table", {}, made("thead", {}, made("tr", {}, ...["super\u00adpixel", "mean contrast", "score lost if hidden", "shown?"]
      .map((name) => made("th", { scope: "col" }, name)))), made("tbody", {}, ...order.map(row), theRest(4))));
  const [first, second] = [found.positive.name, found.negative.name];
  const glass = () => made("svg", { viewBox: `0 0 ${state.photo.width} ${state.photo.height}`, "aria-hidden": "true" }, ...mark());
  part("contrast").replaceChildren(
    made("p", {}, `${first} leads ${second} by ${found.difference.toFixed(2)} (scores before the softmax). `
      + `Red speaks for ${first}, blue for ${second}.`),
    found.says_against ? null : made("p", { class: "nx-soft" }, `${found.method_title} keeps only what is above zero: its map cannot `
      + `show what speaks for ${second}. What was measured, on the left and in the table, can.`),
    made("div", { class: "nx-two" },
      made("div", { class: "nx-maps" }, ...found.maps.map((map) => made("figure", {},
        made("div", { class: "nx-stack" }, pictureOf(found.photo, ""), pictureOf(map.picture, `${map.title}: red for ${first}, blue for ${second}`), glass()),
        made("figcaption", {}, map.title, scaleOf(map))))),
      table));
  showSwitches();
}

// The lines of what is shown now.
const showCode = latest(async () => {
  const answer = await ask("python");
  if (!answer || !isCurrent(answer)) return;
  part("code").textContent = answer.code;
  part("code").hidden = false;
});

async function save(what) {
  const answer = await ask("save", { what });
  if (!answer) return;
  const { name, kind, data } = answer.file;
  const bytes = Uint8Array.from(atob(data), (letter) => letter.charCodeAt(0));
  if (what === "python") await showCode();
  const link = made("a", { href: URL.createObjectURL(new Blob([bytes], { type: kind })), download: name });
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}
