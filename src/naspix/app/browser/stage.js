// The photo as it came, and over the part that the network gets its superpixels: drawing, pointer, keyboard, list.
const frame = part("frame"), sheet = part("sheet"), picture = part("picture"), tip = part("tip");
let labels = null; // of each pixel that the network gets
let paths = []; // of each superpixel, as SVG has them

function showPhoto(photo) {
  state.photo = photo;
  nx.dataset.state = "ready";
  part("name").textContent = photo.name;
  part("network").value = photo.network;
  part("fitting").value = photo.fitting;
  part("told").textContent = photo.told.startsWith("the middle") ? `The network gets ${photo.told.split(" pixels")[0]}.` : "";
  // the whole that is drawn holds the photo and what the network gets of it, in the photo's own units
  const [left, top, width, height] = photo.frame, [x, y] = [Math.min(0, left), Math.min(0, top)];
  const whole = [Math.max(1, left + width) - x, Math.max(1, top + height) - y];
  picture.style.setProperty("--nx-shape", (whole[0] * photo.size[0]) / (whole[1] * photo.size[1]));
  const lay = (node, box) => ["left", "top", "width", "height"].forEach((side, i) => { node.style[side] = `${100 * box[i] / whole[i % 2]}%`; });
  lay(part("photo"), [-x, -y, 1, 1]);
  lay(frame, [left - x, top - y, width, height]);
  part("photo").src = photo.source;
  sheet.setAttribute("viewBox", `0 0 ${photo.width} ${photo.height}`);
  const boxes = photo.levels.map((name, level) => made("label", { title: name },
    made("input", { type: "checkbox", value: level, onchange: () => cutAgain() }), `${level}`));
  part("levels").replaceChildren(...boxes);
}

function showRegions(regions) {
  state.regions = regions;
  state.here = state.alone = null;
  part("invitation").textContent = "";
  const { width, height } = state.photo;
  labels = new Uint16Array(width * height);
  for (let i = 0, at = 0; i < regions.runs.length; i += 2) {
    labels.fill(regions.runs[i], at, at + regions.runs[i + 1]);
    at += regions.runs[i + 1];
  }
  paths = outlines(width, height, regions.n);
  part("regions").replaceChildren(...paths.map((d, number) => made("path", { svg: true, d, "data-number": number })));
  for (const line of sheet.querySelectorAll(".nx-edges")) line.setAttribute("d", paths.join(""));
  picture.setAttribute("aria-label", `Photo ${state.photo.name}, cut into ${regions.n} superpixels`);
  part("list-title").textContent = `All ${regions.n} superpixels`;
  showCut(regions);
}

// The outline of each superpixel as an SVG path. Corners between pixels are moved until lines are smooth (Taubin's
// smoothing, which does not shrink), except where three superpixels or the border meet; neighbours share their line.
function outlines(width, height, n) {
  const across = width + 1, corners = across * (height + 1);
  const x = Float32Array.from({ length: corners }, (_, i) => i % across);
  const y = Float32Array.from({ length: corners }, (_, i) => Math.floor(i / across));
  const lines = new Uint8Array(corners), beside = new Int32Array(2 * corners);
  const onward = Array.from({ length: n }, () => new Map()); // a superpixel's corners, clockwise
  const follow = (number, from, to) => {
    const map = onward[number], known = map.get(from);
    if (known) known.push(to); else map.set(from, [to]);
  };
  const join = (a, b) => { for (const [p, q] of [[a, b], [b, a]]) { if (lines[p] < 2) beside[2 * p + lines[p]] = q; lines[p]++; } };
  const at = (column, row) => column < 0 || row < 0 || column >= width || row >= height ? -1 : labels[row * width + column];
  for (let row = 0; row <= height; row++) {
    for (let column = 0; column <= width; column++) {
      const here = at(column, row), above = at(column, row - 1), before = at(column - 1, row), corner = row * across + column;
      if (here !== above) {
        if (here >= 0) follow(here, corner, corner + 1);
        if (above >= 0) follow(above, corner + 1, corner);
        if (here >= 0 && above >= 0) join(corner, corner + 1);
      }
      if (here !== before) {
        if (here >= 0) follow(here, corner + across, corner);
        if (before >= 0) follow(before, corner, corner + across);
        if (here >= 0 && before >= 0) join(corner, corner + across);
      }
    }
  }
  const movable = [];
  for (let i = 0; i < corners; i++) if (lines[i] === 2) movable.push(i);
  for (let step = 0; step < 40; step++) {
    const share = step % 2 ? -0.52 : 0.5;
    for (const axis of [x, y]) {
      const moved = movable.map((i) => axis[i] + share * ((axis[beside[2 * i]] + axis[beside[2 * i + 1]]) / 2 - axis[i]));
      movable.forEach((i, k) => { axis[i] = moved[k]; });
    }
  }
  const point = (i) => `${Math.round(100 * x[i]) / 100} ${Math.round(100 * y[i]) / 100}`;
  return onward.map((map) => {
    let path = "";
    for (const [start, ways] of map) {
      while (ways.length) {
        path += `M${point(start)}`;
        for (let i = ways.pop(); i !== start; i = map.get(i).pop()) path += `L${point(i)}`;
        path += "Z";
      }
    }
    return path;
  });
}

function draw() {
  const { photo, regions, scores, view } = state;
  if (!photo || !regions || !scores) return;
  const hidden = new Set(scores.hidden);
  for (const path of part("regions").children) {
    const number = Number(path.dataset.number);
    const [fill, opacity] = hidden.has(number) ? [`rgb(${photo.mean})`, 1]
      : view === "clusters" ? [regions.colours[regions.cluster[number]], 0.55]
      : view === "saliency" ? [regions.heat[number], 0.75]
      : view === "alone" && state.alone?.of[number] ? [state.alone.of[number].colour, 0.75] : ["none", 1];
    path.style.fill = fill;
    path.style.fillOpacity = opacity;
  }
  for (const line of sheet.querySelectorAll(".nx-edges")) line.style.display = view === "photo" ? "none" : "";
  showLegend();
  point(state.here);
  if (!tip.hidden && state.here !== null) tip.replaceChildren(...lines(state.here));
}

function showLegend() {
  const { regions, view } = state, chip = (colour) => made("i", { class: "nx-chip", style: `background:${colour}` });
  const legends = {
    saliency: () => [made("span", {}, `mean saliency by ${regions.method_title} for ${regions.target.name}`), scaleOf(regions.scale)],
    clusters: () => [...new Set(regions.cluster)].sort((a, b) => a - b).map((cluster) => made("span", {}, chip(regions.colours[cluster]), `cluster ${cluster}`)),
    edges: () => [made("span", {}, `${regions.n} superpixels`, made("span", { class: "nx-with-mouse" }, ": click one to hide it, again to show it"))],
    alone: () => (state.alone
      ? [made("span", {}, `what hiding each alone takes from ${regions.target.name}`), scaleOf(state.alone.scale)]
      : [made("span", {}, "hiding each alone, one after the other …")]),
    photo: () => [],
  };
  part("legend").replaceChildren(...legends[view]());
}

// Marks a superpixel on the photo, on the contrast's pictures, and in the tables.
function point(number) {
  state.here = number;
  const none = number === null || number === undefined;
  for (const line of nx.querySelectorAll(".nx-marked")) line.setAttribute("d", none ? "" : paths[number]);
  for (const row of nx.querySelectorAll("tr.nx-here")) row.classList.remove("nx-here");
  if (none) tip.hidden = true;
  else for (const row of nx.querySelectorAll(`tr[data-number="${number}"]`)) row.classList.add("nx-here");
}

const mark = () => ["nx-marked nx-dark", "nx-marked"].map((kind) => made("path", { svg: true, class: kind }));

function about(number) {
  const { regions, scores } = state;
  return [
    `superpixel ${number}${scores.hidden.includes(number) ? " (hidden)" : ""}`,
    `${percent(regions.area[number])} of the photo, cluster ${regions.cluster[number]}`,
    `mean saliency ${tidy(regions.saliency[number])}, rank ${regions.rank[number]} of ${regions.n}`,
    ...(state.alone?.of[number] ? [`hidden alone: ${effect(state.alone.before, state.alone.of[number].after)}`] : []),
  ];
}

const effect = (before, after) => (state.photo.are_probabilities
  ? `${state.regions.target.name} ${percent(before)} → ${percent(after)} (${after < before ? "−" : "+"}${Math.abs(100 * (after - before)).toFixed(0)} points)`
  : `${state.regions.target.name} ${tidy(before)} → ${tidy(after)}`);

// What hiding each superpixel alone does, asked before anybody does; the server answers when it has nothing else to do.
let ahead = null;
function lookAhead() {
  clearTimeout(ahead);
  ahead = setTimeout(async () => {
    const answer = await ask("alone");
    if (!answer || !isCurrent(answer) || answer.alone.target !== state.scores.target) return;
    state.alone = answer.alone;
    draw();
    if (part("invitation").textContent) invite();
  }, 300);
}

const lines = (number) => about(number).flatMap((line) => [line, document.createElement("br")]).slice(0, -1);

// Beside a place in the image that the network gets.
function showTip(number, x, y) {
  if (number === null) { tip.hidden = true; return; }
  tip.replaceChildren(...lines(number));
  tip.hidden = false;
  const box = picture.getBoundingClientRect(), inner = frame.getBoundingClientRect();
  x += inner.left - box.left;
  y += inner.top - box.top;
  tip.style.left = `${Math.max(0, Math.min(x + 14, box.width - tip.offsetWidth - 4))}px`;
  tip.style.top = `${y + 18 + tip.offsetHeight > box.height ? y - tip.offsetHeight - 12 : y + 18}px`;
}

// The place of an event in the image that the network gets, and the superpixel there.
function placeOf(event) {
  const box = frame.getBoundingClientRect(), { width, height } = state.photo;
  const [x, y] = [event.clientX - box.left, event.clientY - box.top];
  const [column, row] = [Math.floor(x / box.width * width), Math.floor(y / box.height * height)];
  const inside = column >= 0 && row >= 0 && column < width && row < height;
  return { x, y, number: inside ? labels[row * width + column] : null };
}

frame.addEventListener("pointermove", (event) => {
  if (!state.regions || event.pointerType === "touch") return;
  const { x, y, number } = placeOf(event);
  if (number !== state.here) point(number);
  showTip(number, x, y);
});
frame.addEventListener("pointerleave", () => point(null));
frame.addEventListener("click", (event) => {
  if (!state.regions) return;
  const { number } = placeOf(event);
  if (number !== null) toggle(number);
});

// Drawn at once; the bars follow when the network has answered the last of several clicks.
let clicks = 0;
async function toggle(number) {
  const click = ++clicks;
  setPlaying(false);
  part("invitation").textContent = "";
  sheet.querySelector(".nx-pulse")?.classList.remove("nx-pulse");
  const hidden = new Set(state.scores.hidden);
  if (!hidden.delete(number)) hidden.add(number);
  state.scores = { ...state.scores, hidden: [...hidden].sort((a, b) => a - b) };
  draw();
  const answer = await ask("toggle", { number });
  if (!answer) await recover();
  else if (click === clicks) take(answer);
}

picture.addEventListener("keydown", (event) => {
  if (!state.regions) return;
  if ((event.ctrlKey || event.metaKey) && event.key.toLowerCase() === "z") {
    event.preventDefault();
    change("undo");
  } else if (event.key === "Enter" || event.key === " ") {
    event.preventDefault();
    if (state.here !== null) toggle(state.here);
  } else if (event.key === "Escape") point(null);
  else if (event.key.startsWith("Arrow")) {
    event.preventDefault();
    const number = next(event.key);
    point(number);
    const [x, y] = state.regions.middle[number], box = frame.getBoundingClientRect();
    showTip(number, x / state.photo.width * box.width, y / state.photo.height * box.height);
    part("said").textContent = about(number).join(", ");
  }
});
picture.addEventListener("blur", () => point(null));

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

// Fragments are counted, not listed one by one.
const SMALL = 0.001;
const listed = (pairs) => pairs.filter(([, number]) => state.regions.area[number] >= SMALL);
function theRest(columns) {
  const { length } = state.regions.area.filter((area) => area < SMALL);
  return length ? made("tr", {}, made("td", { colspan: columns }, `and ${length} smaller than 0.1 % each`)) : "";
}

function showList() {
  const { regions } = state;
  const order = listed(regions.rank.map((rank, number) => [rank, number])).sort((a, b) => a[0] - b[0]);
  const rows = order.map(([rank, number]) => made("tr", { "data-number": number, onmouseenter: () => point(number) },
    made("td", {}, `${rank}`), made("td", {}, `${number}`),
    made("td", {}, made("i", { class: "nx-chip", style: `background:${regions.colours[regions.cluster[number]]}` }), `${regions.cluster[number]}`),
    made("td", {}, percent(regions.area[number])), made("td", {}, tidy(regions.saliency[number])),
    made("td", {}, made("button", { type: "button", class: "nx-button", onclick: () => toggle(number), onfocus: () => point(number) }))));
  const focused = part("list").contains(document.activeElement) && document.activeElement.closest("tr")?.dataset.number;
  part("list").replaceChildren(...rows, theRest(6));
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
