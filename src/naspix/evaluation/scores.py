"""Records into scores: each setting's mean with its interval, and the difference by pooling.

Pure functions of a run's records. Intervals say what a mean would be for other pictures:
percentiles over pictures drawn anew (Poisson bootstrap: each picture counts a random number of
times, 1 on average). A picture counts the same number of times in all settings, so that differences
are paired.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Float64, UInt8

from naspix.errors import InputError
from naspix.evaluation.measures import GREEDY
from naspix.metrics import (
    ClusterSaliency,
    Overlaps,
    SaliencyRow,
    compare,
    saliency_by_cluster,
)
from naspix.metrics.overlaps import THRESHOLDS
from naspix.pipeline import RAW
from naspix.runs import Run, read_run

if TYPE_CHECKING:
    from pandas import DataFrame

IOUS = (0.3, 0.5, 0.7)
N_RESAMPLES = 500
_CONFIDENCE = 0.95
_SEED = 0

Setting = tuple[str, str]


@dataclass(frozen=True, eq=False)
class Sample:
    """A figure of one setting: over all pictures, and over each resample.

    Attributes:
        value: Over all pictures.
        draws: Over each resample.
        of_pictures: Of each picture, NaN where it has none; None where there is no such thing.
        n_left_out: Pictures without a value.
    """

    value: float
    draws: Float64[np.ndarray, " R"]
    of_pictures: Float64[np.ndarray, " n"] | None = None
    n_left_out: int = 0


@dataclass(frozen=True)
class Score:
    """One figure of one method and segmenter.

    Attributes:
        method: Whose maps.
        segmenter: Pooled over whose superpixels; ``"none"`` for the map as it is.
        figure: What was measured, such as ``"iou_70"``.
        value: Over all pictures; higher is better.
        low: Lower end of its 95 % interval; None for a single picture.
        high: Upper end.
        difference: The value less that of the raw map; None for raw maps, and where there is none.
        difference_low: Lower end of its interval; None for a single picture.
        difference_high: Upper end.
        as_good_as_best: Whether it cannot be told from the best of all settings (Wilcoxon, Holm);
            None where that was not tested.
        n_pictures: How many it stands on.
        n_left_out: Pictures without a value, such as those whose curve's ends agree.
        n_superpixels: Mean number of superpixels; None for raw maps.
    """

    method: str
    segmenter: str
    figure: str
    value: float
    low: float | None
    high: float | None
    difference: float | None
    difference_low: float | None
    difference_high: float | None
    as_good_as_best: bool | None
    n_pictures: int
    n_left_out: int
    n_superpixels: float | None


def joined(
    runs: Mapping[str, Run], rows_of: Callable[[Run], Sequence[Mapping[str, object]]]
) -> list[dict[str, object]]:
    """Rows of each network below each other; those of several begin with the network's name.

    Args:
        runs: Network's name -> its run.
        rows_of: A run's rows.
    """
    return [
        {"model": network, **row} if len(runs) > 1 else {**row}
        for network, run in runs.items()
        for row in rows_of(run)
    ]


def score_rows(run: Run) -> list[dict[str, object]]:
    """All scores of an evaluation as plain values."""
    return [asdict(score) for score in scores_of(run)]


def scores_of(run: Run) -> list[Score]:
    """All scores of an evaluation, figure by figure.

    Raises:
        InputError: The run is no evaluation, or has no records.
    """
    if run.kind not in _SCORERS:
        raise InputError(f"{run.folder} holds a run of {run.kind}, which is no evaluation")
    return list(_scores_at(*run.state))


@lru_cache(maxsize=8)
def _scores_at(folder: Path, modified: int, size: int) -> tuple[Score, ...]:
    """Once for each state of a run: tables, notes, page and command all show them."""
    run = read_run(folder)
    return tuple(_SCORERS[run.kind](run))


def _lerf_scores(run: Run) -> list[Score]:
    columns = ["index", "method", "segmenter", "n_superpixels", "auc", "auc_morf"]
    frame = run.records(columns)
    frame["srg"] = frame["auc"] - frame["auc_morf"]
    # of the orders that a run has, those that were asked for last
    both = run.settings.get("parameters", {}).get("lerf", {}).get("both")
    figures = ["auc"] + (["srg"] if both and frame["srg"].notna().any() else [])
    scores = []
    for figure in figures:
        samples = {
            setting: mean_over_pictures(group, figure)
            for setting, group in by_setting(frame)
            if figure == "auc" or setting[0] != GREEDY  # which has no other order
        }
        scores += _compared(figure, samples, frame)
    return scores


def _wsol_scores(run: Run) -> list[Score]:
    frame = run.records(
        ["index", "method", "segmenter", "n_superpixels", "top", "cut", "iou", "pointing", "energy"]
    )
    figures: dict[str, dict[Setting, Sample]] = {}
    for setting, group in by_setting(frame):
        for figure, sample in _localized(group).items():
            figures.setdefault(figure, {})[setting] = sample
        for figure in ("pointing", "energy"):
            sample = mean_over_pictures(group, figure)
            figures.setdefault(figure, {})[setting] = sample
    return [
        score for figure, samples in figures.items() for score in _compared(figure, samples, frame)
    ]


def picture_scores(run: Run) -> "DataFrame":
    """Each picture's own score in each setting: columns index, id, method, segmenter and score.

    LeRF's area, without the greedy maximum's; for localisation the IoU at the threshold that is
    best, for all pictures, at IoU 50; for saliency by meaning that of the most salient cluster.
    """
    import pandas as pd

    if run.kind == "lerf":
        frame = run.records(["index", "id", "method", "segmenter", "auc"])
        return frame[frame["method"] != GREEDY].rename(columns={"auc": "score"})
    if run.kind == "semantics":
        frame = run.records(["index", "id", "method", "segmenter", "sums", "weights"])
        frame["score"] = [
            float((sums[weights > 0] / weights[weights > 0]).max())
            for sums, weights in zip(frame.pop("sums"), frame.pop("weights"), strict=True)
        ]
        return frame
    frame = run.records(["index", "id", "method", "segmenter", "top", "cut", "iou"])
    parts = []
    for _, group in by_setting(frame):
        overlaps = overlaps_in(group)
        best = _best(overlaps)
        part = group[["index", "id", "method", "segmenter"]]
        parts.append(part.assign(score=overlaps[:, best]))
    return pd.concat(parts)


def best_thresholds(run: Run) -> dict[Setting, float]:
    """The threshold of each setting that is best, for all pictures of localisation, at IoU 50."""
    frame = run.records(["method", "segmenter", "top", "cut", "iou"])
    return {
        setting: float(THRESHOLDS[_best(overlaps_in(group))])
        for setting, group in by_setting(frame)
    }


def blank_maps(run: Run) -> dict[Setting, int]:
    """How many maps of each setting are constant or not finite, where localisation counted any."""
    if run.kind != "wsol":
        return {}
    frame = run.records(["method", "segmenter", "top"])
    counts = {setting: int((group["top"] == 0).sum()) for setting, group in by_setting(frame)}
    return {setting: count for setting, count in counts.items() if count}


def _best(overlaps: Float64[np.ndarray, "n thresholds"]) -> int:
    return int((overlaps >= 0.5).mean(0).argmax())


def _semantics_scores(run: Run) -> list[Score]:
    """Mean saliency of each class's most salient cluster and of the others, right and wrong."""
    scores = []
    for row in meaning_of(run):
        found = row.row
        for part, value, (low, high) in (
            ("chosen", found.chosen, found.chosen_interval),
            ("others", found.others, found.others_interval),
        ):
            scores.append(
                Score(
                    method=row.method,
                    segmenter=row.segmenter,
                    figure=f"class {row.label} {part} ({found.split})",
                    value=value,
                    low=low if found.n_images > 1 else None,
                    high=high if found.n_images > 1 else None,
                    difference=None,
                    difference_low=None,
                    difference_high=None,
                    as_good_as_best=None,
                    n_pictures=found.n_images,
                    n_left_out=0,
                    n_superpixels=None,
                )
            )
    return scores


@dataclass(frozen=True)
class MeaningRow:
    """A line of table 1.

    Attributes:
        label: The class.
        method: Whose maps.
        segmenter: Pooled over whose superpixels.
        row: The most salient cluster, and the others, of all, right or wrong predictions.
    """

    label: int
    method: str
    segmenter: str
    row: SaliencyRow


def meaning_of(run: Run) -> list[MeaningRow]:
    """Table 1 for each class, method and segmenter, from records."""
    return list(_meaning_at(*run.state))


@lru_cache(maxsize=8)
def _meaning_at(folder: Path, modified: int, size: int) -> tuple[MeaningRow, ...]:
    run = read_run(folder)
    columns = ["method", "segmenter", "label", "predicted", "sums", "weights", "area", "blank"]
    frame = run.records(columns)
    found = []
    for label, of_class in frame.groupby("label"):
        for (method, segmenter), group in by_setting(of_class):
            measured = measured_in(group, method)
            right = torch.tensor((group["predicted"] == group["label"]).to_numpy())
            table = saliency_by_cluster(measured, right, n_resamples=N_RESAMPLES)
            found += [MeaningRow(int(label), method, segmenter, row) for row in table.rows]
    return tuple(found)


def measured_in(group: "DataFrame", method: str) -> ClusterSaliency:
    """What was measured of the clusters, from records of one setting."""
    return ClusterSaliency(
        (method,),
        torch.from_numpy(np.stack(list(group["sums"]))[:, None]),
        torch.from_numpy(np.stack(list(group["weights"]))),
        torch.from_numpy(np.stack(list(group["area"]))),
        torch.tensor(list(group["blank"]))[:, None],
    )


_SCORERS: Mapping[str, Callable[[Run], list[Score]]] = {
    "lerf": _lerf_scores,
    "wsol": _wsol_scores,
    "semantics": _semantics_scores,
}


def overlaps_in(group: "DataFrame") -> Float64[np.ndarray, "n thresholds"]:
    """The best IoU of each picture at each threshold, from records."""
    rows = zip(group["top"], group["cut"], group["iou"], strict=True)
    return np.stack([Overlaps(int(top), cut, iou).at_thresholds() for top, cut, iou in rows])


def _localized(group: "DataFrame") -> dict[str, Sample]:
    """MaxBoxAccV2, and its parts: one best threshold for all pictures, found in each resample."""
    overlaps = overlaps_in(group)
    _, kept = np.unique(overlaps, axis=1, return_index=True)  # thresholds that differ
    overlaps = overlaps[:, kept]
    counts = resample_counts(group["index"].to_numpy())
    parts = {}
    for iou in IOUS:
        hits = (overlaps >= iou).astype(np.float64)
        with np.errstate(invalid="ignore"):  # resamples without any picture
            draws = (counts.T @ hits).max(1) / counts.sum(0)
        parts[f"iou_{100 * iou:g}"] = Sample(float(hits.mean(0).max()), draws)
    mean = Sample(
        float(np.mean([part.value for part in parts.values()])),
        np.mean([part.draws for part in parts.values()], axis=0),
    )
    return {"mean": mean, **parts}


def _compared(figure: str, samples: Mapping[Setting, Sample], frame: "DataFrame") -> list[Score]:
    best = _as_good_as_best(samples)
    scores = []
    for (method, segmenter), sample in samples.items():
        raw = samples.get((method, RAW)) if segmenter != RAW else None
        rows = frame[(frame["method"] == method) & (frame["segmenter"] == segmenter)]
        n_pictures = len(rows) - sample.n_left_out
        ends = interval(sample.draws) if n_pictures > 1 else (None, None)
        apart: tuple[float | None, float | None] = (None, None)
        if raw is not None and n_pictures > 1:
            apart = interval(sample.draws - raw.draws)
        scores.append(
            Score(
                method=method,
                segmenter=segmenter,
                figure=figure,
                value=sample.value,
                low=ends[0],
                high=ends[1],
                difference=None if raw is None else sample.value - raw.value,
                difference_low=apart[0],
                difference_high=apart[1],
                as_good_as_best=None if best is None else (method, segmenter) in best,
                n_pictures=n_pictures,
                n_left_out=sample.n_left_out,
                n_superpixels=None if segmenter == RAW else float(rows["n_superpixels"].mean()),
            )
        )
    return scores


def _as_good_as_best(samples: Mapping[Setting, Sample]) -> set[Setting] | None:
    """The settings that a test over pictures does not tell from the best."""
    values = {
        f"{method} {segmenter}": (setting, sample.of_pictures)
        for setting, sample in samples.items()
        for method, segmenter in [setting]
        if sample.of_pictures is not None and method != GREEDY
    }
    if len(values) < 2:
        return None
    table = np.stack([each for _, each in values.values() if each is not None])
    if not np.isfinite(table).all(0).any():
        return None
    found = compare({name: each for name, (_, each) in values.items() if each is not None})
    return {values[name][0] for name in found.as_good_as_best}


def by_setting(frame: "DataFrame") -> "Iterator[tuple[Setting, DataFrame]]":
    """Records of each method and segmenter, in the order in which they were asked for."""
    for (method, segmenter), group in frame.groupby(["method", "segmenter"], sort=False):
        yield (str(method), str(segmenter)), group


def mean_over_pictures(group: "DataFrame", figure: str) -> Sample:
    """A figure's mean over the pictures that have it.

    Args:
        group: Records of one setting, a row a picture.
        figure: Its column; NaN where a picture has none.
    """
    values = np.array(group[figure], np.float64)
    known = ~np.isnan(values)
    if not known.any():
        nothing = np.full(N_RESAMPLES, np.nan)
        return Sample(float("nan"), nothing, values, len(values))
    counts = resample_counts(group["index"].to_numpy()[known])
    with np.errstate(invalid="ignore"):
        draws = values[known] @ counts / counts.sum(0)
    return Sample(float(values[known].mean()), draws, values, int((~known).sum()))


def resample_counts(index: Any) -> Float64[np.ndarray, "n R"]:
    """How often each picture counts in each resample; the same for a picture in every setting."""
    return np.stack([_count(int(each)) for each in index]).astype(np.float64)


@lru_cache(maxsize=100_000)
def _count(index: int) -> UInt8[np.ndarray, " R"]:
    drawn = np.random.default_rng([_SEED, index]).poisson(1, N_RESAMPLES)
    return np.asarray(drawn, np.uint8)


def interval(draws: Float64[np.ndarray, " R"]) -> tuple[float, float]:
    """The 95 % interval: percentiles of what the resamples gave."""
    known = draws[np.isfinite(draws)]
    if not known.size:
        return float("nan"), float("nan")
    low, high = np.quantile(known, [(1 - _CONFIDENCE) / 2, (1 + _CONFIDENCE) / 2])
    return float(low), float(high)
