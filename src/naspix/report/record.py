"""One photo's explanation as plain values, and the same as JSON (``results.json``, schema 1).

    {"schema": 1, "naspix": "0.1.0", "created": "2025-01-31T12:00:00+00:00", "seed": 0,
     "settings": {"model": ..., "segmenters": {name: repr}, "methods": {name: repr}, ...},
     "versions": {"python": ..., "torch": ..., ...},
     "photos": [{"name", "source", "size": [height, width],
                 "predictions": [{"index", "name", "probability"}, ...],
                 "target": {"index", "name", "probability"},
                 "segmentations": {segmenter: {"n_clusters", "n_superpixels"}},
                 "explanations": [{"method", "segmenter", "superpixels": [
                     {"rank", "label", "cluster", "area", "box", "saliency"}, ...],
                     "sufficient": ..., "necessary": ..., "n_forwards"}, ...],
                 "agreement": {segmenter: {"methods", "rank_correlation", "variance_kept"}},
                 "hidden_first": {segmenter: [label, ...]},
                 "files": {kind: path below the folder}}, ...],
     "failed": [{"source", "error"}, ...], "finished": true}

``docs/results-schema.md`` says what each entry means.
"""

import datetime
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Float, Int

from naspix.machine import versions
from naspix.metrics import DecidingSets
from naspix.report.agreement import Agreement, agreement
from naspix.report.pages import flattened
from naspix.superpixelify import RankedSuperpixel

SCHEMA = 1


@dataclass(frozen=True)
class Prediction:
    """A class and how likely the network finds it.

    Attributes:
        index: The class's number.
        name: Its name.
        probability: 0 to 1; the score itself where it is no class's.
        is_probability: Whether it is a probability.
    """

    index: int
    name: str
    probability: float
    is_probability: bool = True

    def shown(self, digits: int = 1) -> str:
        """The probability in percent; a number that is none as it is."""
        if not self.is_probability:
            return f"{self.probability:.4g}"
        return f"{self.probability:.{digits}%}"


@dataclass(frozen=True)
class RunRecord:
    """What made the results: enough to make them again.

    Attributes:
        settings: Setting -> value, plain values only.
        seed: The seed of everything random.
        versions: Library -> version, found out by itself.
        created: When, in UTC.
    """

    settings: Mapping[str, object]
    seed: int = 0
    versions: Mapping[str, str] = field(default_factory=versions)
    created: str = field(default_factory=lambda: _now())


def made_by(run: RunRecord) -> list[tuple[str, str]]:
    """What a page says at its end: settings, seed, versions and date, by name."""
    versions = ", ".join(f"{name} {version}" for name, version in run.versions.items())
    return [
        *flattened(run.settings),
        ("seed", str(run.seed)),
        ("versions", versions),
        ("made", run.created),
    ]


@dataclass(frozen=True)
class PhotoExplanation:
    """Everything that is shown of one photo.

    Attributes:
        name: Unique among the photos of a run, fit for a file name.
        source: Where the photo came from.
        image: Values in [0, 1], as the network saw it.
        predictions: The likeliest classes, likeliest first.
        target: The class that is explained.
        segmentations: Segmenter's name -> clusters and superpixels.
        raw: Method's name -> its saliency map.
        pooled: ``(method, segmenter)`` -> the map, constant on superpixels.
        ranking: ``(method, segmenter)`` -> superpixels, the most salient first.
        orders: Segmenter's name -> at each pixel the step, from 0, at which the greedy search hides
            its superpixel; only where it was asked for.
        deciding: ``(method, segmenter)`` -> the superpixels that suffice for the class and those
            that it needs; only where it was asked for.
        titles: Name of a method or segmenter -> how people write it.
        fitting: What of the photo the image shows, in words, if that is known.
        tiles: Where the photo was asked about by tiles, what was found of each.
    """

    name: str
    source: str
    image: Float[np.ndarray, "H W C"]
    predictions: tuple[Prediction, ...]
    target: Prediction
    segmentations: Mapping[str, tuple[Int[np.ndarray, "H W"], Int[np.ndarray, "H W"]]]
    raw: Mapping[str, Float[np.ndarray, "H W"]]
    pooled: Mapping[tuple[str, str], Float[np.ndarray, "H W"]]
    ranking: Mapping[tuple[str, str], list[RankedSuperpixel]]
    orders: Mapping[str, Int[np.ndarray, "H W"]] = field(default_factory=dict)
    deciding: Mapping[tuple[str, str], DecidingSets] = field(default_factory=dict)
    titles: Mapping[str, str] = field(default_factory=dict)
    fitting: str = ""
    tiles: Sequence[Mapping[str, object]] = ()

    def title(self, name: str) -> str:
        """How people write the name of a method or segmenter."""
        return self.titles.get(name, name)

    @cached_property
    def agreement(self) -> Agreement:
        """How far the methods agree, under the names that people write."""
        table = agreement(
            {method: torch.from_numpy(heat)[None] for method, heat in self.raw.items()},
            {
                segmenter: torch.from_numpy(superpixels)[None]
                for segmenter, (_, superpixels) in self.segmentations.items()
            },
        )
        return table.titled(self.titles)

    def hidden_first(self, segmenter: str) -> list[int]:
        """Superpixels in the order in which the greedy search hides them."""
        superpixels, order = self.segmentations[segmenter][1], self.orders[segmenter]
        labels, first = np.unique(superpixels, return_index=True)
        return [int(label) for label in labels[np.argsort(order.ravel()[first])]]

    def cluster_of(self, segmenter: str) -> dict[int, int]:
        """Superpixel -> the cluster it belongs to."""
        clusters, superpixels = self.segmentations[segmenter]
        labels, first = np.unique(superpixels, return_index=True)
        return dict(zip(labels.tolist(), clusters.ravel()[first].tolist(), strict=True))

    def to_json(self, files: Mapping[str, str] | None = None) -> dict[str, object]:
        """The photo's entry in ``results.json``.

        Args:
            files: Kind of picture -> where it was written.
        """
        height, width = self.image.shape[:2]
        return {
            "name": self.name,
            "source": self.source,
            "size": [height, width],
            "predictions": [_prediction_json(prediction) for prediction in self.predictions],
            "target": _prediction_json(self.target),
            "segmentations": {
                name: {
                    "n_clusters": len(np.unique(clusters)),
                    "n_superpixels": len(np.unique(superpixels)),
                }
                for name, (clusters, superpixels) in self.segmentations.items()
            },
            "explanations": [
                {
                    "method": method,
                    "segmenter": segmenter,
                    "superpixels": ranking_to_plain(ranking, self.cluster_of(segmenter)),
                    **(sets.to_plain() if (sets := self.deciding.get((method, segmenter))) else {}),
                }
                for (method, segmenter), ranking in self.ranking.items()
            ],
            "agreement": _agreement_json(self),
            "hidden_first": {segmenter: self.hidden_first(segmenter) for segmenter in self.orders},
            "files": dict(files or {}),
            **({"fitting": self.fitting} if self.fitting else {}),
            **({"tiles": [dict(tile) for tile in self.tiles]} if self.tiles else {}),
        }


def _prediction_json(prediction: Prediction) -> dict[str, object]:
    return {
        "index": prediction.index,
        "name": prediction.name,
        "probability" if prediction.is_probability else "score": round(prediction.probability, 6),
    }


def _agreement_json(photo: PhotoExplanation) -> dict[str, object]:
    """Segmenter -> rank correlations and variances kept, in the order of the methods."""
    table = photo.agreement
    return {
        segmenter: {
            "methods": list(photo.raw),
            "rank_correlation": _rounded(table.rank_correlation[0, place]),
            "variance_kept": _rounded(table.variance_kept[0, place]),
        }
        for place, segmenter in enumerate(photo.segmentations)
    }


def _rounded(values: np.ndarray) -> object:
    """Lists of numbers, and null for what is none."""
    if values.ndim > 1:
        return [_rounded(one) for one in values]
    return [None if np.isnan(one) else round(one, 6) for one in values.tolist()]


def ranking_to_plain(
    ranking: list[RankedSuperpixel], cluster_of: Mapping[int, int]
) -> list[dict[str, object]]:
    """Ranked superpixels as ``results.json`` has them."""
    return [
        {
            "rank": one.rank,
            "label": one.label,
            "cluster": cluster_of[one.label],
            "area": one.area,
            "box": list(one.box),
            "saliency": one.saliency,
        }
        for one in ranking
    ]


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
