// The photo with its superpixels: drawing, pointer, keyboard, and the list of all superpixels.
const canvas = part("canvas"), glass = part("glass"), picture = part("picture"), tip = part("tip");
const photoImage = new Image();
let labels = null, edges = null, zoom = 1;

function showPhoto(photo) {
  state.photo = photo;
  nx.dataset.state = "ready";
  part("main").hidden = false;
  part("name").textContent = photo.name;
  part("network").value = photo.network;
  zoom = Math.max(1, Math.round(672 / photo.width));
  for (const one of [canvas, glass]) { one.width = photo.width * zoom; one.height = photo.height * zoom; }
  photoImage.onload = draw;
  photoImage.src = photo.source;
  const boxes = photo.levels.map((name, level) => made("label", { title: name },
    made("input", { type: "checkbox", value: level, onchange: () => cutAgain() }), `${level}`));
  part("levels").replaceChildren(...boxes);
  part("comparison").replaceChildren();
  part("code").hidden = true;
}

function showRegions(regions) {
  if (`${regions.runs}` !== `${state.regions?.runs}`) { // what was found out about others
    part("contrast").replaceChildren();
    part("comparison").replaceChildren();
  }
  state.regions = regions;
  state.here = null;
  const { width, height } = state.photo;
  labels = new Uint16Array(width * height);
  for (let i = 0, at = 0; i < regions.runs.length; i += 2) {
    labels.fill(regions.runs[i], at, at + regions.runs[i + 1]);
    at += regions.runs[i + 1];
  }
  edges = outline((a, b) => a !== b);
  picture.setAttribute("aria-label", `Photo ${state.photo.name}, cut into ${regions.n} superpixels`);
  part("list-title").textContent = `All ${regions.n} superpixels`;
  showCut(regions);
}

// The lines between pixels whose labels differ in the given sense.
function outline(differ) {
  const { width, height } = state.photo, path = new Path2D();
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      const at = y * width + x;
      if (x + 1 < width && differ(labels[at], labels[at + 1])) {
        path.moveTo((x + 1) * zoom, y * zoom); path.lineTo((x + 1) * zoom, (y + 1) * zoom);
      }
      if (y + 1 < height && differ(labels[at], labels[at + width])) {
        path.moveTo(x * zoom, (y + 1) * zoom); path.lineTo((x + 1) * zoom, (y + 1) * zoom);
      }
    }
  }
  return path;
}

const channels = (hex) => [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16));

function draw() {
  const { photo, regions, scores } = state;
  if (!photo || !regions || !scores || !photoImage.complete) return;
  const pen = canvas.getContext("2d"), { width, height } = photo;
  pen.imageSmoothingEnabled = true;
  pen.imageSmoothingQuality = "high";
  pen.drawImage(photoImage, 0, 0, canvas.width, canvas.height);
  const hidden = new Set(scores.hidden);
  const colours = regions.area.map((_, n) => {
    if (hidden.has(n)) return [...photo.mean, 255];
    if (state.view === "clusters") return [...channels(regions.colours[regions.cluster[n]]), 150];
    if (state.view === "saliency") return [...channels(regions.heat[n]), 190];
    return [0, 0, 0, 0];
  });
  const tint = new ImageData(width, height);
  for (let at = 0; at < labels.length; at++) tint.data.set(colours[labels[at]], 4 * at);
  const sheet = new OffscreenCanvas(width, height);
  sheet.getContext("2d").putImageData(tint, 0, 0);
  pen.imageSmoothingEnabled = false;
  pen.drawImage(sheet, 0, 0, canvas.width, canvas.height);
  if (state.view !== "photo") stroke(pen, edges, [["rgb(0 0 0 / 0.7)", 3.6], ["rgb(255 255 255 / 0.95)", 1.5]]);
  point(state.here);
  if (!tip.hidden && state.here !== null) tip.replaceChildren(...lines(state.here));
}

// Lines as thick as asked on the screen, however large the sheet is shown.
function stroke(pen, path, lines) {
  const scale = Math.max(1, pen.canvas.width / (pen.canvas.clientWidth || pen.canvas.width));
  for (const [colour, thickness] of lines) {
    pen.strokeStyle = colour; pen.lineWidth = thickness * scale; pen.stroke(path);
  }
}

// Marks a superpixel on the photo, on the contrast's picture, and in the tables.
function point(number) {
  state.here = number;
  const none = number === null || number === undefined;
  const path = none ? null : outline((a, b) => (a === number) !== (b === number));
  for (const sheet of [glass, ...nx.querySelectorAll("[data-glass]")]) {
    const pen = sheet.getContext("2d");
    pen.clearRect(0, 0, sheet.width, sheet.height);
    if (path) stroke(pen, path, [["#000", 6], ["#ffd21f", 3]]);
  }
  for (const row of nx.querySelectorAll("tr.nx-here")) row.classList.remove("nx-here");
  if (none) tip.hidden = true;
  else for (const row of nx.querySelectorAll(`tr[data-number="${number}"]`)) row.classList.add("nx-here");
}

function about(number) {
  const { regions, scores } = state;
  return [
    `superpixel ${number}${scores.hidden.includes(number) ? " (hidden)" : ""}`,
    `${percent(regions.area[number])} of the photo, cluster ${regions.cluster[number]}`,
    `mean saliency ${tidy(regions.saliency[number])}, rank ${regions.rank[number]} of ${regions.n}`,
  ];
}

const lines = (number) => about(number).flatMap((line) => [line, document.createElement("br")]).slice(0, -1);

function showTip(number, x, y) {
  if (number === null) { tip.hidden = true; return; }
  tip.replaceChildren(...lines(number));
  tip.hidden = false;
  const box = picture.getBoundingClientRect();
  tip.style.left = `${Math.max(0, Math.min(x + 14, box.width - tip.offsetWidth - 4))}px`;
  tip.style.top = `${y + 18 + tip.offsetHeight > box.height ? y - tip.offsetHeight - 12 : y + 18}px`;
}

function numberAt(event) {
  const box = canvas.getBoundingClientRect(), { width, height } = state.photo;
  const x = Math.floor((event.clientX - box.left) / box.width * width);
  const y = Math.floor((event.clientY - box.top) / box.height * height);
  return x < 0 || y < 0 || x >= width || y >= height ? null : labels[y * width + x];
}

canvas.addEventListener("pointermove", (event) => {
  if (!state.regions) return;
  const number = numberAt(event), box = picture.getBoundingClientRect();
  if (number !== state.here) point(number);
  showTip(number, event.clientX - box.left, event.clientY - box.top);
});
canvas.addEventListener("pointerleave", () => point(null));
canvas.addEventListener("click", (event) => {
  const number = numberAt(event);
  if (number !== null) toggle(number);
});

// Drawn at once; the bars follow when the network has answered the last of several clicks.
let clicks = 0;
async function toggle(number) {
  const click = ++clicks;
  state.playing = false;
  const hidden = new Set(state.scores.hidden);
  if (!hidden.delete(number)) hidden.add(number);
  state.scores = { ...state.scores, hidden: [...hidden].sort((a, b) => a - b) };
  draw();
  const answer = await ask("toggle", { number });
  if (click !== clicks) return;
  if (answer) take(answer); else take(await ask("hello"));
}

window.addEventListener("resize", draw);
// The photo stays in sight while the page is scrolled beside it; its lower end, if it is the higher one.
const keepInSight = () => nx.style.setProperty("--nx-stick", `${Math.min(16, innerHeight - nx.querySelector(".nx-stage").offsetHeight - 16)}px`);
new ResizeObserver(keepInSight).observe(nx.querySelector(".nx-stage"));
window.addEventListener("resize", keepInSight);

picture.addEventListener("keydown", (event) => {
  if (!state.regions) return;
  if ((event.ctrlKey || event.metaKey) && event.key.toLowerCase() === "z") {
    event.preventDefault();
    change("undo");
  } else if (event.key === "Enter" || event.key === " ") {
    event.preventDefault();
    if (state.here !== null) toggle(state.here).then(() => speak(state.here));
  } else if (event.key === "Escape") point(null);
  else if (event.key.startsWith("Arrow")) {
    event.preventDefault();
    const number = next(event.key);
    point(number);
    const [x, y] = state.regions.middle[number], box = picture.getBoundingClientRect();
    showTip(number, x / state.photo.width * box.width, y / state.photo.height * box.height);
    speak(number);
  }
});
picture.addEventListener("blur", () => point(null));

function speak(number) {
  if (number !== null) part("said").textContent = about(number).join(", ");
}

// The nearest superpixel in the arrow's direction; sideways distance counts double.
function next(arrow) {
  const { middle } = state.regions;
  if (state.here === null) return labels[(state.photo.height >> 1) * state.photo.width + (state.photo.width >> 1)];
  const [x, y] = middle[state.here];
  const [right, down] = { ArrowRight: [1, 0], ArrowLeft: [-1, 0], ArrowDown: [0, 1], ArrowUp: [0, -1] }[arrow];
  let best = state.here, least = Infinity;
  middle.forEach(([u, v], number) => {
    const ahead = (u - x) * right + (v - y) * down, aside = Math.abs((u - x) * down) + Math.abs((v - y) * right);
    const distance = ahead + 2 * aside;
    if (number !== state.here && ahead > 0 && distance < least) { least = distance; best = number; }
  });
  return best;
}

function showList() {
  const { regions } = state;
  const order = regions.rank.map((rank, number) => [rank, number]).sort((a, b) => a[0] - b[0]);
  const rows = order.map(([rank, number]) => made("tr", { "data-number": number, onmouseenter: () => point(number) },
    made("td", {}, `${rank}`), made("td", {}, `${number}`),
    made("td", {}, made("i", { class: "nx-chip", style: `background:${regions.colours[regions.cluster[number]]}` }), `${regions.cluster[number]}`),
    made("td", {}, percent(regions.area[number])), made("td", {}, tidy(regions.saliency[number])),
    made("td", {}, made("button", { type: "button", class: "nx-button", onclick: () => toggle(number), onfocus: () => point(number) }))));
  const focused = part("list").contains(document.activeElement) && document.activeElement.closest("tr")?.dataset.number;
  part("list").replaceChildren(...rows);
  if (focused) part("list").querySelector(`[data-number="${focused}"] button`)?.focus();
  showSwitches();
}

// Every table's button says what it would do.
function showSwitches() {
  const hidden = new Set(state.scores.hidden);
  for (const button of nx.querySelectorAll("tr[data-number] button")) {
    const { number } = button.closest("tr").dataset, words = hidden.has(Number(number)) ? "Show" : "Hide";
    button.textContent = words;
    button.setAttribute("aria-label", `${words} superpixel ${number}`);
  }
}
