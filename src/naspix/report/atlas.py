"""The atlas of a class as one HTML page: what each cluster looks like, and what falls on it.

A person looks at the patches, says what a cluster is, and writes it into ``names.json``. In: an
``Atlas``, and where saliency was measured the table and the audit. Out: a page that opens from
disk, with its pictures and style inside it, no script; and the same as plain values for machines.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Any

import numpy as np
from jaxtyping import UInt8

from naspix.metrics import SaliencyByCluster, Suspect
from naspix.plots import boundary_picture, cluster_colours, highlight_picture
from naspix.report.pages import render
from naspix.report.record import RunRecord, made_by
from naspix.segmentation import Atlas, AtlasEntry, Example

ATLAS_SCHEMA = 1
NOTABLE = 0.05  # from here on a suspect's score is worth a look
_PATCH_SIDE = 112  # pixels, about as shown: a page that shrinks it would lose parts of the lines


@dataclass(frozen=True, eq=False)
class AtlasReport:
    """All that the page shows.

    Attributes:
        title: Of the class, or of the folder.
        atlas: The clusters and their examples.
        sources: Where each image is from, by its place.
        run: What made it.
        saliency: Table 1, where saliency was measured.
        suspects: The audit, where saliency was measured.
        judged: Whether right and wrong predictions are told apart: the class is known.
        titles: Method -> how people write it.
        failed: Source and reason of each photo that was left out.
    """

    title: str
    atlas: Atlas
    sources: Sequence[str]
    run: RunRecord
    saliency: SaliencyByCluster | None = None
    suspects: Sequence[Suspect] = ()
    judged: bool = True
    titles: Mapping[str, str] | None = None
    failed: Sequence[tuple[str, str]] = ()

    @property
    def methods(self) -> tuple[str, ...]:
        """Whose saliency was measured."""
        rows = () if self.saliency is None else self.saliency.rows
        return tuple(dict.fromkeys(row.method for row in rows))

    def method_title(self, method: str) -> str:
        """How people write the method's name."""
        return (self.titles or {}).get(method, method)

    def cluster_title(self, cluster: int) -> str:
        """The cluster's name, or its number."""
        return self.atlas.entries[cluster].title


def atlas_page(report: AtlasReport) -> str:
    """Return the whole page."""
    entries = report.atlas.entries
    colours = cluster_colours(len(entries)).tolist()
    return render(
        "atlas.html.j2",
        title=f"{report.title}: an atlas",
        report=report,
        methods=[report.method_title(method) for method in report.methods],
        n_unnamed=sum(not entry.name for entry in entries),
        clusters=[_cluster(entry, colours[entry.cluster], report) for entry in entries],
        suspects=[one for one in report.suspects if one.score >= NOTABLE],
        with_boxes=any(isfinite(one.outside) for one in report.suspects),
        settings=made_by(report.run),
    )


def atlas_record(report: AtlasReport) -> dict[str, object]:
    """Return the same as plain values; numbers that are not known are None."""
    return {
        "schema": ATLAS_SCHEMA,
        "title": report.title,
        "n_images": report.atlas.n_images,
        "clusters": [
            {
                "cluster": entry.cluster,
                "name": entry.name,
                "area": entry.area,
                "frequency": entry.frequency,
                "saliency": {
                    method: _known(mean) for method, mean in _means(report, entry.cluster).items()
                },
                "examples": [
                    {
                        "source": report.sources[example.image],
                        "box": list(example.box),
                        "strength": example.strength,
                    }
                    for example in entry.examples
                ],
            }
            for entry in report.atlas.entries
        ],
        "table": [
            {key: _plain(value) for key, value in vars(row).items()}
            for row in (() if report.saliency is None else report.saliency.rows)
            if report.judged or row.split == "all"
        ],
        "audit": [
            {key: _plain(value) for key, value in vars(one).items()} for one in report.suspects
        ],
        "failed": [{"source": source, "error": reason} for source, reason in report.failed],
        "settings": dict(report.run.settings),
        "seed": report.run.seed,
        "versions": dict(report.run.versions),
        "created": report.run.created,
    }


def _means(report: AtlasReport, cluster: int) -> dict[str, float]:
    """Each method's mean saliency of a cluster."""
    if report.saliency is None:
        return {}
    return {
        method: float(report.saliency.means[method, "all"][cluster]) for method in report.methods
    }


def _plain(value: object) -> object:
    if isinstance(value, tuple):
        return [_plain(one) for one in value]
    return _known(value) if isinstance(value, float) else value


def _known(value: float) -> float | None:
    return value if isfinite(value) else None


def _cluster(entry: AtlasEntry, colour: list[int], report: AtlasReport) -> dict[str, Any]:
    """One cluster: patches large, and below each the photo it is from."""
    means = _means(report, entry.cluster)
    listed = ", ".join(
        f"{report.method_title(method)} {mean:z.2f}"
        for method, mean in means.items()
        if isfinite(mean)
    )
    return {
        "entry": entry,
        "colour": colour,
        "means": list(means.values()),
        "saliency": f" Mean saliency: {listed}." if listed else "",
        "examples": [
            {
                "source": report.sources[example.image].replace("\\", "/").rsplit("/", 1)[-1],
                "patch": _outlined(example),
                "whole": highlight_picture(example.photo / 255, example.mask),
            }
            for example in entry.examples
        ],
    }


def _outlined(example: Example) -> UInt8[np.ndarray, "H W 3"]:
    """The patch, larger, with the cluster's boundary."""
    left, top, right, bottom = example.box
    mask = example.mask[top:bottom, left:right].astype(np.int64)
    zoom = max(1, round(_PATCH_SIDE / max(mask.shape)))
    return boundary_picture(example.patch / 255, mask, zoom=zoom)
