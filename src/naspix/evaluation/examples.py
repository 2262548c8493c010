"""Pictures to look at: where pooling helped most, where it harmed most, and the usual case.

Which they are, the records say. Their maps are made anew, since no run keeps maps, and lie in the
run's folder as PNG files, so that a page can be drawn again without a network.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8
from torch import Tensor

from naspix import plots
from naspix.evaluation.evaluator import Evaluator
from naspix.evaluation.measures import Semantics
from naspix.evaluation.pictures import Picture
from naspix.evaluation.scores import best_thresholds, picture_scores
from naspix.evaluation.tables import setting_title, title_of
from naspix.files import write_png, write_whole, written
from naspix.metrics.boxes import box_ious, contour_boxes, eight_bit
from naspix.pipeline import RAW, Answers
from naspix.runs import Run

FOLDER, LIST = "pictures", "pictures.json"
_EACH = 2  # best, worst, usual
_METHODS = 3  # shown, the quickest
_TRUE_COLOUR, _FOUND_COLOUR = (255, 255, 255), (0, 170, 255)


@dataclass(frozen=True)
class Chosen:
    """A picture to be shown.

    Attributes:
        index: Its place in the run.
        id: Its name.
        why: ``"best"``, ``"worst"`` or ``"usual"``.
        gain: What pooling added to its scores, the mean over the methods; the score itself where
            there is no pooling.
    """

    index: int
    id: str
    why: str
    gain: float


@dataclass(frozen=True)
class ShownMap:
    """A picture's map on disk.

    Attributes:
        file: Below the run's folder.
        title: Below the picture.
        score: Of the map; None for the picture itself, and where there is none.
    """

    file: str
    title: str
    score: float | None


@dataclass(frozen=True)
class Example:
    """A picture with its maps.

    Attributes:
        chosen: Which, and why.
        target: The class that is explained.
        maps: The picture first.
    """

    chosen: Chosen
    target: str
    maps: tuple[ShownMap, ...]


def choose(run: Run) -> list[Chosen]:
    """The pictures to be shown, those with the largest gain first."""
    scores = picture_scores(run)
    pooled = main_segmenter(scores["segmenter"].unique().tolist())
    wide = scores.pivot_table(
        index=["index", "id"], columns=["method", "segmenter"], values="score"
    )
    methods = [method for method in scores["method"].unique() if (method, pooled) in wide]
    if pooled == RAW:
        gains = wide[[(method, RAW) for method in methods]].mean(axis=1)
    else:
        each = [
            wide[method, pooled] - wide[method, RAW] for method in methods if (method, RAW) in wide
        ]
        gains = sum(each[1:], each[0]) / len(each)
    gains = gains.dropna().sort_values(ascending=False, kind="stable")
    n = min(_EACH, len(gains) // 3) or 1
    middle = len(gains) // 2 - n // 2
    parts = {
        "best": gains[:n],
        "usual": gains[middle : middle + n],
        "worst": gains[len(gains) - n :],
    }
    found: dict[int, Chosen] = {}
    for why, part in parts.items():
        for (index, name), gain in part.items():
            found.setdefault(int(index), Chosen(int(index), str(name), why, float(gain)))
    return list(found.values())


def main_segmenter(segmenters: Sequence[str]) -> str:
    """The segmenter that a run is about: the first NAS, else the first of all."""
    pooled = [name for name in segmenters if name not in (RAW, "random")]
    nas = [name for name in pooled if name.partition("@")[0] == "nas"]
    return (nas or pooled or [RAW])[0]


def draw_examples(run: Run, evaluator: Evaluator) -> None:
    """Make the maps of the chosen pictures and write them into the run's folder.

    Args:
        run: A finished run.
        evaluator: Its worker.
    """
    folder = run.folder / FOLDER
    with written(run.folder):
        folder.mkdir(exist_ok=True)
    scores = picture_scores(run).set_index(["index", "method", "segmenter"])["score"].to_dict()
    quick = _quickest(run, list(evaluator.pipeline.methods))
    thresholds = best_thresholds(run) if run.kind == "wsol" else {}
    pipeline = evaluator.pipeline
    quick_methods = {name: pipeline.methods[name] for name in quick}
    evaluator.pipeline = replace(pipeline, methods=quick_methods)
    entries: list[dict[str, Any]] = []
    for chosen in choose(run):
        picture = evaluator.read_one(chosen.index)
        if not isinstance(picture, Picture):  # it could be read before
            continue
        batch = evaluator.ask([picture])
        if isinstance(evaluator.measure, Semantics):
            regions = evaluator.measure.regions(evaluator.framing.model, [picture], batch)
            shown = [_draw_clusters(folder, picture, *regions)]
        else:
            shown = [_draw_picture(folder, picture, batch)]
        for method, segmenter, heat, _ in batch.maps(blank=run.kind == "wsol"):
            score = scores.get((chosen.index, method, segmenter))
            values = heat[0].float().cpu().numpy()
            found = _found(values, picture, thresholds.get((method, segmenter)))
            shown.append(_draw_map(folder, picture, (method, segmenter), values, found, score))
        classes = [evaluator.framing.model.category(int(one)) for one in batch.target[0].view(-1)]
        target = " rather than ".join(classes)
        entries.append(
            {"chosen": vars(chosen), "target": target, "maps": [vars(each) for each in shown]}
        )
    text = json.dumps(entries, indent=1, ensure_ascii=False)
    with written(run.folder), write_whole(run.folder / LIST) as file:
        file.write(text.encode())
    listed = {run.folder / shown["file"] for entry in entries for shown in entry["maps"]}
    for old in set(folder.glob("*.png")) - listed:
        old.unlink()


def read_examples(run: Run) -> list[Example]:
    """What was drawn; nothing where nothing was."""
    try:
        entries = json.loads((run.folder / LIST).read_text(encoding="utf-8"))
        return [
            Example(
                Chosen(**entry["chosen"]),
                entry["target"],
                tuple(ShownMap(**each) for each in entry["maps"]),
            )
            for entry in entries
        ]
    except (OSError, ValueError, KeyError, TypeError):
        return []


def up_to_date(run: Run) -> bool:
    """Whether what was drawn is what the records choose."""
    return [example.chosen for example in read_examples(run)] == choose(run)


def _quickest(run: Run, methods: Sequence[str]) -> list[str]:
    """The methods that took the least time, in their own order."""
    seconds: Mapping[str, float] = run.seconds
    quick = sorted(methods, key=lambda name: seconds.get(f"method {name}", 0.0))[:_METHODS]
    return [name for name in methods if name in quick]


def _draw_picture(folder: Path, picture: Picture, batch: Answers) -> ShownMap:
    image = _channels_last(picture.image)
    segmenter = main_segmenter(list(batch.segmentations))
    drawn = (
        plots.photo_picture(image)
        if segmenter == RAW
        else plots.boundary_picture(
            image, batch.segmentations[segmenter].superpixels[0].cpu().numpy()
        )
    )
    title = "photo" if segmenter == RAW else title_of(segmenter)
    title += " and true box" if len(picture.boxes) else ""
    return _write(folder, picture, "photo", drawn, title, None)


def _draw_clusters(
    folder: Path, picture: Picture, clusters: Tensor, superpixels: Tensor
) -> ShownMap:
    """The clusters that the pictures of a class share, in the colours of their numbers."""
    image = _channels_last(picture.image)
    drawn = plots.cluster_picture(
        image, clusters[0].cpu().numpy(), superpixels[0].cpu().numpy(), zoom=2
    )
    return _write(folder, picture, "photo", drawn, "clusters of its class", None)


def _found(
    values: Float[np.ndarray, "H W"], picture: Picture, threshold: float | None
) -> list[list[int]]:
    """Of the boxes of what lies above a threshold, the one that overlaps a true one best."""
    if threshold is None or not len(picture.boxes):
        return []
    image = eight_bit(values)
    boxes = contour_boxes(image, int(threshold * int(image.max())))
    overlaps = box_ious(boxes, picture.boxes.cpu().numpy()).max(1)
    return [boxes[overlaps.argmax()].tolist()]


def _draw_map(
    folder: Path,
    picture: Picture,
    setting: tuple[str, str],
    values: Float[np.ndarray, "H W"],
    found: list[list[int]],
    score: float | None,
) -> ShownMap:
    method, segmenter = setting
    scale = plots.saliency_scale(values, outliers=0.005)
    drawn = plots.overlay_picture(_channels_last(picture.image), values, scale)
    title = setting_title(method, segmenter)
    return _write(folder, picture, f"{method}-{segmenter}", drawn, title, score, found)


def _write(
    folder: Path,
    picture: Picture,
    name: str,
    drawn: UInt8[np.ndarray, "H W 3"],
    title: str,
    score: float | None,
    found: Sequence[Sequence[int]] = (),
) -> ShownMap:
    drawn = drawn.copy()
    for boxes, colour in ((picture.boxes.tolist(), _TRUE_COLOUR), (found, _FOUND_COLOUR)):
        for box in boxes:
            _draw_box(drawn, box, colour)
    file = f"{picture.index:06d}-{name}.png"
    with written(folder):
        write_png(folder / file, drawn)
    shown = None if score is None or np.isnan(score) else float(score)
    return ShownMap(f"{FOLDER}/{file}", title, shown)


def _draw_box(
    drawn: UInt8[np.ndarray, "H W 3"], box: Sequence[int], colour: tuple[int, int, int]
) -> None:
    left, top, right, bottom = box
    height, width = drawn.shape[:2]
    right, bottom = min(right, width - 1), min(bottom, height - 1)
    for inset, line in ((0, (0, 0, 0)), (1, colour), (2, colour), (3, (0, 0, 0))):
        x0, y0, x1, y1 = left + inset, top + inset, right - inset, bottom - inset
        if x1 > x0 and y1 > y0:
            drawn[y0, x0 : x1 + 1] = drawn[y1, x0 : x1 + 1] = line
            drawn[y0 : y1 + 1, x0] = drawn[y0 : y1 + 1, x1] = line


def _channels_last(image: Tensor) -> Float[np.ndarray, "H W C"]:
    values: np.ndarray = image.permute(1, 2, 0).cpu().numpy()
    return values
