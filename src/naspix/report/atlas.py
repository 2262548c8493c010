"""The atlas of a class as one HTML page: what each cluster looks like, and what falls on it.

A person looks at the patches, says what a cluster is, and writes it into ``names.json``. In: an
``Atlas``, and where saliency was measured the table and the audit. Out: a page that opens from
disk, with its pictures and style inside it, no script; and the same as plain values for machines.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from math import isfinite

import numpy as np
from jaxtyping import UInt8

from naspix.metrics import SaliencyByCluster, Suspect
from naspix.plots import boundary_picture, cluster_colours, highlight_picture
from naspix.report.document import CLOSING, data_url, left_out, opening, settings_list
from naspix.report.record import RunRecord
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
    colours = cluster_colours(len(entries))
    named = sum(bool(entry.name) for entry in entries)
    rest = len(entries) - named
    asked = (
        f"{rest} of them {'have' if rest > 1 else 'has'} no name yet: look at the patches, write "
        "what you see into <code>names.json</code> beside this page, and run the same command "
        "again."
        if rest
        else "All of them have been named by a person."
    )
    title = escape(report.title)
    return (
        f"{opening(f'{report.title}: an atlas', _STYLE)}"
        f"<header><h1>What the network sees in {title}</h1>\n"
        f"<p>{len(entries)} clusters of what the network tells apart, shared by "
        f"{report.atlas.n_images} photos: a cluster is the same thing in all of them. {asked}</p>"
        f"</header>\n<main>\n{_notes(report)}{_overview(report, colours)}{_table(report)}"
        f"{_audit(report)}"
        + "".join(_entry(entry, colours[entry.cluster], report) for entry in entries)
        + f"</main>\n<footer>\n<h2>How this was made</h2>\n{settings_list(report.run)}</footer>\n"
        + CLOSING
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


def _notes(report: AtlasReport) -> str:
    return left_out("Left out:", report.failed) if report.failed else ""


def _chip(colour: UInt8[np.ndarray, " 3"]) -> str:
    return f'<i class="chip" style="background:rgb{tuple(colour.tolist())}"></i>'


def _overview(report: AtlasReport, colours: UInt8[np.ndarray, "K 3"]) -> str:
    """All clusters in one table, with a link to each."""
    heads = "".join(
        f"<th>{escape(report.method_title(method))}</th><th></th>" for method in report.methods
    )
    rows = "\n".join(
        f'<tr><td class="name">{_chip(colours[entry.cluster])}'
        f'<a href="#cluster-{entry.cluster}">{escape(entry.title)}</a></td>'
        f"<td>{entry.area:.1%}</td><td>{entry.frequency:.0%}</td>"
        + "".join(map(_meter, _means(report, entry.cluster).values()))
        + "</tr>"
        for entry in report.atlas.entries
    )
    saliency = (
        "<p>Saliency: the mean over the cluster's superpixels, of maps scaled to 0 to 1.</p>"
        if report.methods
        else ""
    )
    return (
        f'<section>\n<h2>All clusters</h2>\n{saliency}<div class="wide"><table class="ranking">'
        "<thead><tr><th class=name>cluster</th><th>of all pixels</th><th>of the photos have it"
        f"</th>{heads}</tr></thead>\n<tbody>\n{rows}\n</tbody></table></div>\n</section>\n"
    )


def _meter(mean: float) -> str:
    if not isfinite(mean):
        return "<td></td><td></td>"
    return f'<td>{mean:z.2f}</td><td class="meter"><i style="width:{100 * mean:.0f}%"></i></td>'


def _table(report: AtlasReport) -> str:
    """Table 1: the most salient cluster against the others."""
    if report.saliency is None:
        return ""
    rows = "\n".join(
        f'<tr><td class="name">{escape(report.method_title(row.method))}</td><td>{row.split}</td>'
        f"<td>{row.n_images}</td><td>{escape(report.cluster_title(row.cluster))}</td>"
        f"<td>{_value(row.chosen, row.chosen_interval)}</td>"
        f"<td>{_value(row.others, row.others_interval)}</td><td>{row.stability:.0%}</td></tr>"
        for row in report.saliency.rows
        if row.cluster >= 0 and (report.judged or row.split == "all")
    )
    return (
        "<section>\n<h2>The most salient cluster</h2>\n"
        f"<p>With intervals of {report.saliency.confidence:.0%} over photos drawn anew; "
        "<i>stable</i> says how often it stays the most salient.</p>\n"
        '<div class="wide"><table class="ranking"><thead><tr><th class=name>method</th>'
        "<th>predictions</th><th>photos</th><th>most salient</th><th>its saliency</th>"
        "<th>the others'</th><th>stable</th></tr></thead>\n"
        f"<tbody>\n{rows}\n</tbody></table></div>\n</section>\n"
    )


def _value(mean: float, interval: tuple[float, float]) -> str:
    low, high = interval
    return f"{mean:z.2f} <small>({low:z.2f} to {high:z.2f})</small>" if isfinite(mean) else ""


def _audit(report: AtlasReport) -> str:
    """The suspects with a score worth a look, and the first one's photos."""
    if not report.suspects:
        return ""
    suspects = [one for one in report.suspects if one.score >= NOTABLE]
    with_boxes = any(isfinite(one.outside) for one in report.suspects)
    where = "or lies outside the boxes" if with_boxes else "(no boxes were given)"
    told = (
        "<p>Clusters more salient than the rest of the photos that have them, although a part of "
        f"the photos lacks them {where}: a watermark would look like this. Harmless parts may, "
        "too: look at the photos.</p>"
    )
    if not suspects:
        told += "<p>No cluster stands out.</p>"
        return f"<section>\n<h2>Anything suspicious?</h2>\n{told}</section>\n"
    rows = "\n".join(
        f'<tr><td class="name"><a href="#cluster-{one.cluster}">'
        f"{escape(report.cluster_title(one.cluster))}</a></td><td>{one.score:.2f}</td>"
        f"<td>{one.contrast:+z.2f}</td><td>{1 - one.rarity:.0%}</td>"
        + (f"<td>{one.outside:.0%}</td>" if isfinite(one.outside) else "<td></td>" * with_boxes)
        + "</tr>"
        for one in suspects
    )
    outside = "<th>outside the boxes</th>" if with_boxes else ""
    first = report.atlas.entries[suspects[0].cluster]
    shown = "\n".join(_photo(example, report) for example in first.examples[:4])
    return (
        f"<section>\n<h2>Anything suspicious?</h2>\n{told}"
        '<div class="wide"><table class="ranking"><thead><tr><th class=name>cluster</th>'
        "<th>score</th><th>more salient than the rest by</th><th>of the photos have it</th>"
        f"{outside}</tr></thead>\n<tbody>\n{rows}\n</tbody></table></div>\n"
        f"<h3>{escape(first.title)}</h3>\n"
        f'<div class="examples large">\n{shown}\n</div>\n</section>\n'
    )


def _entry(entry: AtlasEntry, colour: UInt8[np.ndarray, " 3"], report: AtlasReport) -> str:
    """One cluster: patches large, and below each the photo it is from."""
    number = f" <small>cluster {entry.cluster}</small>" if entry.name else ""
    means = ", ".join(
        f"{escape(report.method_title(method))} {mean:z.2f}"
        for method, mean in _means(report, entry.cluster).items()
        if isfinite(mean)
    )
    saliency = f" Mean saliency: {means}." if means else ""
    shown = "\n".join(_example(example, report) for example in entry.examples)
    pictures = f'<div class="examples">\n{shown}\n</div>' if shown else "<p>No photo has it.</p>"
    return (
        f'<section id="cluster-{entry.cluster}">\n<h2>{_chip(colour)}{escape(entry.title)}{number}'
        f"</h2>\n<p>{entry.area:.1%} of all pixels, in {entry.frequency:.0%} of the photos."
        f"{saliency}</p>\n{pictures}\n</section>\n"
    )


def _example(example: Example, report: AtlasReport) -> str:
    source = escape(_file_name(report.sources[example.image]), quote=True)
    patch = _img(_outlined(example), f"Patch of {source}", "patch")
    return f"<figure>{patch}{_image(example, source)}<figcaption>{source}</figcaption></figure>"


def _photo(example: Example, report: AtlasReport) -> str:
    source = escape(_file_name(report.sources[example.image]), quote=True)
    return f"<figure>{_image(example, source)}<figcaption>{source}</figcaption></figure>"


def _image(example: Example, source: str) -> str:
    return _img(highlight_picture(example.photo / 255, example.mask), f"The cluster in {source}")


def _img(picture: UInt8[np.ndarray, "H W 3"], words: str, kind: str = "") -> str:
    """A picture that keeps its place on the page before it is decoded."""
    height, width = picture.shape[:2]
    return (
        f'<img class="{kind}" width="{width}" height="{height}" alt="{words}" '
        f'src="{data_url(picture, lossless=False)}">'
    )


def _file_name(source: str) -> str:
    return source.replace("\\", "/").rsplit("/", 1)[-1]


def _outlined(example: Example) -> UInt8[np.ndarray, "H W 3"]:
    """The patch, larger, with the cluster's boundary."""
    left, top, right, bottom = example.box
    mask = example.mask[top:bottom, left:right].astype(np.int64)
    zoom = max(1, round(_PATCH_SIDE / max(mask.shape)))
    return boundary_picture(example.patch / 255, mask, zoom=zoom)


_STYLE = """
.examples {
  display: grid; gap: 0.9rem; margin-top: 0.8rem;
  grid-template-columns: repeat(auto-fill, minmax(min(45%, 7.5rem), 1fr));
}
.examples.large { grid-template-columns: repeat(auto-fill, minmax(min(100%, 13rem), 1fr)); }
.examples .patch { margin-bottom: 0.3rem; }
.examples figcaption { font-size: 0.75rem; overflow-wrap: anywhere; }
.ranking .name { text-align: left; } small { color: var(--soft); font-weight: 400; }
.ranking .meter { width: auto; min-width: 5rem; }
"""
