// Several photos of one class: put together one by one, then asked about together.
async function addPhotos(files) {
  for (const file of files) {
    const answer = await ask("group_add", { name: file.name, network: part("network").value }, file);
    if (!answer) continue; // the page says why, and the others go on
    if (answer.n_photos === 1) part("group-photos").replaceChildren();
    part("group-photos").append(made("img", { src: answer.added.picture, alt: answer.added.name, title: answer.added.name }));
  }
}

async function clearGroup() {
  if (!await ask("group_clear")) return;
  part("group-photos").replaceChildren();
  part("group").replaceChildren();
}

async function studyGroup() {
  const answer = await ask("group_study", { n_clusters: Number(part("group-k").value), method: part("group-method").value });
  if (!answer) return;
  const found = answer.group, known = (value) => (value === null ? "not known" : tidy(value));
  const heads = ["cluster", "where it is strongest", "area", "in photos", "mean saliency", "more than the rest", "suspicion"];
  const rows = [...found.clusters].sort((a, b) => (b.suspicion ?? 0) - (a.suspicion ?? 0) || (b.saliency ?? 0) - (a.saliency ?? 0))
    .map((one) => made("tr", {},
      made("td", {}, made("i", { class: "nx-chip", style: `background:${one.colour}` }), `cluster ${one.cluster}`),
      made("td", {}, made("span", { class: "nx-patches" }, ...one.patches.map((patch, i) => pictureOf(patch, `cluster ${one.cluster}, example ${i + 1}`)))),
      ...[percent(one.area), percent(one.frequency, 0), known(one.saliency), known(one.contrast), known(one.suspicion)]
        .map((value, i) => made("td", { "data-name": heads[i + 2] }, value))));
  part("group").replaceChildren(
    made("p", {}, `${found.n_right} of ${found.photos.length} photos are predicted as `, made("b", {}, found.target.name),
      `; saliency by ${found.method_title}. A cluster is suspect if it is surely more salient than the rest although many photos lack it.`),
    made("div", { class: "nx-group-table", tabindex: 0, role: "region", "aria-label": "The clusters they share" },
      made("table", {}, made("thead", {}, made("tr", {}, ...heads.map((name) => made("th", { scope: "col" }, name)))), made("tbody", {}, ...rows))),
    made("div", { class: "nx-maps" }, ...found.photos.map((photo) => made("figure", {},
      made("div", { class: "nx-stack" }, pictureOf(photo.picture, `Shared clusters of ${photo.name}`)),
      made("figcaption", {}, `${photo.name}: ${photo.predicted}`)))));
}
