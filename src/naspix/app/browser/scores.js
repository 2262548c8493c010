// What the network says: bars before and after, the LeRF curve, and the tools that change both.
function showScores(scores) {
  state.scores = scores;
  const now = scores.predicted, was = state.photo.predicted;
  part("verdict").replaceChildren(...(now.index === was.index
    ? ["It sees: ", made("b", {}, now.name), "."]
    : ["It sees: ", made("b", {}, now.name), ", and no longer ", made("b", {}, was.name), "."]));
  part("hidden-share").textContent = scores.hidden.length ? percent(scores.share, 0) : "nothing";
  const target = scores.bars.find((bar) => bar.index === scores.target);
  part("target").textContent = target.name;
  const likely = state.photo.are_probabilities;
  const amount = (value) => likely ? percent(value) : tidy(value);
  const rows = scores.bars.map((bar) => made("tr", {
    class: bar.index === scores.target ? "nx-target" : null, "data-index": bar.index,
    "data-before": bar.before, "data-after": bar.after, "data-logit-after": bar.logit_after,
  },
  made("th", { scope: "row" }, made("button", {
    type: "button", "aria-pressed": `${bar.index === scores.target}`, title: "explain this class",
    onclick: () => explain(bar.index),
  }, bar.name)),
  made("td", {}, made("i", { class: "nx-bar nx-before", style: `width:${likely ? 100 * bar.before : 0}%` }),
    made("i", { class: "nx-bar nx-after", style: `width:${likely ? 100 * bar.after : 0}%` })),
  made("td", { title: `score ${bar.logit_before.toFixed(2)} → ${bar.logit_after.toFixed(2)}` },
    scores.hidden.length ? `${amount(bar.before)} → ${amount(bar.after)}` : amount(bar.before))));
  part("bars").replaceChildren(...rows);
  nx.querySelector('[data-do="undo"]').disabled = !scores.can_undo;
  nx.dataset.hidden = scores.hidden.join(" ");
  showCurve(scores.curve);
  showList();
  draw();
}

function showCurve(curve) {
  const [left, top, wide, high] = [38, 10, 330, 160];
  const x = (fraction) => left + fraction * wide;
  const scores = curve?.score || [];
  const most = Math.max(1, ...scores), least = Math.min(0, ...scores);
  const y = (score) => top + (most - score) / (most - least) * high;
  const drawing = made("svg", { viewBox: `0 0 ${left + wide + 24} ${top + high + 36}`, role: "img" });
  const put = (tag, attributes, ...children) => drawing.append(made(tag, { svg: true, ...attributes }, ...children));
  for (const score of [0, 0.5, 1]) {
    put("line", { class: "nx-grid", x1: x(0), x2: x(1), y1: y(score), y2: y(score) });
    put("text", { x: left - 6, y: y(score) + 4, "text-anchor": "end" }, `${score}`);
  }
  for (const fraction of [0, 0.5, 1]) {
    put("text", { x: x(fraction), y: top + high + 16, "text-anchor": "middle" }, `${100 * fraction} %`);
  }
  put("text", { x: x(0.5), y: top + high + 32, "text-anchor": "middle" }, "of the photo hidden");
  put("path", { class: "nx-axis", d: `M${x(0)} ${top}V${top + high}H${x(1)}` });
  let words = "Play hides one superpixel after the other; the curve shows how much of the class's score is left.";
  if (curve) {
    const points = curve.fraction.map((fraction, i) => `${x(fraction).toFixed(1)} ${y(scores[i]).toFixed(1)}`);
    put("path", { class: "nx-area", d: `M${x(0)} ${y(0)}L${points.join("L")}L${x(curve.fraction.at(-1))} ${y(0)}Z` });
    put("path", { class: "nx-line", d: `M${points.join("L")}` });
    put("circle", { cx: points.at(-1).split(" ")[0], cy: points.at(-1).split(" ")[1], r: 4.5, fill: "var(--nx-fill)" });
    words = curve.done
      ? `Area under the curve: ${curve.area.toFixed(3)}`
      : `${curve.fraction.length - 1} of ${curve.n} superpixels hidden, area so far ${curve.area.toFixed(3)}`;
  }
  drawing.setAttribute("aria-label", `Score left against the share hidden. ${words}`);
  const place = part("curve");
  place.dataset.area = curve ? curve.area : "";
  place.dataset.done = curve ? curve.done : "";
  place.replaceChildren(drawing, made("p", { class: "nx-soft", "aria-live": "polite" }, words));
}

async function change(action, more) { take(await ask(action, more)); }

const explain = (index) => change("target", { index });

function setPlaying(playing) {
  state.playing = playing;
  nx.querySelector('[data-do="play"]').textContent = playing ? "Pause" : "Play";
}

async function begunCurve() {
  const curve = state.scores.curve;
  if (curve && !curve.done && curve.kind === part("order").value) return true;
  const answer = await ask("start_curve", { order: part("order").value });
  take(answer);
  return answer !== null;
}

async function play() {
  if (state.playing) { setPlaying(false); return; }
  setPlaying(true);
  const token = state.photo.token, n_steps = Math.ceil(state.regions.n / 60);
  if (await begunCurve()) {
    while (state.playing && state.photo.token === token && state.scores.curve && !state.scores.curve.done) {
      const began = performance.now(), answer = await ask("step", { n_steps });
      if (!answer) break;
      if (!state.playing) { take(answer); break; }
      take(answer);
      await pause(Math.max(0, 180 - (performance.now() - began)));
    }
  }
  setPlaying(false);
}

async function stepOnce(n_steps) {
  state.playing = false;
  if (await begunCurve()) await change("step", { n_steps });
}
