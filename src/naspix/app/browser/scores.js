// What the network says: bars before and after, the LeRF curve, and the tools that change both.
function showScores(scores) {
  state.scores = scores;
  const now = scores.predicted, was = state.photo.predicted, some = scores.hidden.length > 0;
  const likely = state.photo.are_probabilities, amount = (value) => likely ? percent(value) : tidy(value);
  const after = amount(scores.bars.find((bar) => bar.index === now.index).after);
  part("verdict").replaceChildren("It sees: ", made("b", {}, now.name), `, ${after}`,
    ...(now.index === was.index ? [] : [", and no longer ", made("b", {}, was.name)]), ".");
  part("bars-key").replaceChildren(...(some
    ? [made("i", { class: "nx-key nx-before" }), "nothing hidden ", made("i", { class: "nx-key nx-after" }), `${percent(scores.share, 0)} hidden`]
    : [likely ? "Probability of each class" : "Score of each class"]));
  const target = scores.bars.find((bar) => bar.index === scores.target);
  part("target").textContent = target.name;
  const bar = (kind, value) => made("i", { class: `nx-bar nx-${kind}`, style: `width:${likely ? 100 * value : 0}%` });
  part("bars").replaceChildren(...scores.bars.map((one) => made("tr", {
    class: one.index === scores.target ? "nx-target" : null, "data-index": one.index,
    "data-before": one.before, "data-after": one.after, "data-logit-after": one.logit_after,
  },
  made("th", { scope: "row" }, made("button", {
    type: "button", "aria-pressed": `${one.index === scores.target}`, title: "explain this class",
    onclick: () => explain(one.index),
  }, one.name)),
  made("td", {}, some ? bar("before", one.before) : null, bar("after", one.after)),
  made("td", { title: `score ${one.logit_before.toFixed(2)} → ${one.logit_after.toFixed(2)}` },
    some ? `${amount(one.before)} → ${amount(one.after)}` : amount(one.before)))));
  nx.querySelector('[data-do="undo"]').disabled = !scores.can_undo;
  nx.dataset.hidden = scores.hidden.join(" ");
  showCurve(scores.curve);
  showList();
  draw();
}

function showCurve(curve) {
  const place = part("curve"), [left, top, high] = [44, 8, innerWidth < 544 ? 72 : 104], wide = Math.max(200, place.clientWidth - left - 16);
  const x = (fraction) => left + fraction * wide;
  const scores = curve?.score || [];
  const most = Math.max(1, ...scores), least = Math.min(0, ...scores);
  const y = (score) => top + (most - score) / (most - least) * high;
  const drawing = made("svg", { viewBox: `0 0 ${left + wide + 16} ${top + high + 34}`, role: "img" });
  const put = (tag, attributes, ...children) => drawing.append(made(tag, { svg: true, ...attributes }, ...children));
  for (const score of [0, 0.5, 1]) {
    put("line", { class: "nx-grid", x1: x(0), x2: x(1), y1: y(score), y2: y(score) });
    put("text", { x: left - 6, y: y(score) + 4, "text-anchor": "end" }, `${score}`);
  }
  for (const fraction of [0, 0.25, 0.5, 0.75, 1]) {
    put("text", { x: x(fraction), y: top + high + 15, "text-anchor": fraction === 1 ? "end" : "middle" }, `${100 * fraction} %`);
  }
  put("text", { x: x(0.5), y: top + high + 30, "text-anchor": "middle" }, "of the image hidden");
  put("text", { x: 0, y: 0, "text-anchor": "middle", transform: `translate(11 ${top + high / 2}) rotate(-90)` }, "score left");
  put("path", { class: "nx-axis", d: `M${x(0)} ${top}V${top + high}H${x(1)}` });
  let words = "Play hides one superpixel after the other; the curve shows how much of the class's score is left.";
  if (curve) {
    const points = curve.fraction.map((fraction, i) => `${x(fraction).toFixed(1)} ${y(scores[i]).toFixed(1)}`);
    const [lastX, lastY] = points.at(-1).split(" ").map(Number), ahead = lastX < left + wide / 2;
    put("path", { class: "nx-area", d: `M${x(0)} ${y(0)}L${points.join("L")}L${x(curve.fraction.at(-1))} ${y(0)}Z` });
    put("path", { class: "nx-line", d: `M${points.join("L")}` });
    put("circle", { cx: lastX, cy: lastY, r: 4.5, fill: "var(--nx-fill)" });
    put("text", { class: "nx-name", x: lastX + (ahead ? 10 : -8), y: lastY < top + 24 ? lastY + 20 : lastY - 8, "text-anchor": ahead ? "start" : "end" },
      `${curve.kind === "lerf" ? "LeRF" : "MoRF"} of ${part("target").textContent}`);
    words = curve.done
      ? `Area under the curve: ${curve.area.toFixed(3)}`
      : `${curve.fraction.length - 1} of ${curve.n} superpixels hidden, area so far ${curve.area.toFixed(3)}`;
  }
  drawing.setAttribute("aria-label", `Score left against the share hidden. ${words}`);
  place.dataset.area = curve ? curve.area : "";
  place.dataset.done = curve ? curve.done : "";
  place.replaceChildren(drawing, made("p", { class: "nx-soft", "aria-live": "polite" }, words));
}

// Whatever else changes ends a film that plays.
async function change(action, more) {
  if (action !== "step") setPlaying(false);
  const answer = await ask(action, more);
  if (answer) take(answer); else await recover();
}

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
      take(answer);
      if (!answer) break;
      await pause(Math.max(0, 180 - (performance.now() - began)));
    }
  }
  setPlaying(false);
}

async function stepOnce(n_steps) {
  setPlaying(false);
  if (await begunCurve()) await change("step", { n_steps });
}
