"""The report: one HTML page that opens from disk, with its pictures and style inside it.

``page`` is the whole page; ``head``, ``section`` and ``tail`` are its pieces, so that a page of
thousands of photos can be written without holding them. No script, nothing from elsewhere, light
and dark as the reader's system is, readable on a phone. The HTML is in ``templates/``; here is what
it shows, as plain values.
"""

from collections.abc import Iterable, Sequence
from functools import cache
from itertools import groupby
from typing import Any

import numpy as np
from markupsafe import Markup

from naspix.plots import Scale, cluster_colours
from naspix.report.agreement import Agreement
from naspix.report.gallery import cards, gallery
from naspix.report.pages import render
from naspix.report.record import PhotoExplanation, RunRecord, made_by
from naspix.report.regions import (
    Half,
    half_of_photo,
    in_a_sentence,
    outlines,
    sets_in_words,
    without_fragments,
)

_ROWS_SHOWN = 12  # superpixels in a table; all of them are in results.json
_SECTIONS = "<!-- sections -->"


def page(photos: Iterable[PhotoExplanation], run: RunRecord) -> str:
    """Return the whole page.

    Args:
        photos: Each gets a section.
        run: What made them, told at the end.
    """
    shown = list(photos)
    links = [(f"#{anchor(name)}", name, words) for name, words in map(link_of, shown)]
    tables, halves = [one.agreement for one in shown], [half_of_photo(one) for one in shown]
    ending = tail(links, run, agreements=tables, halves=halves)
    return head() + "".join(map(section, shown)) + ending


def head() -> str:
    """Everything before the first photo."""
    return _page().partition(_SECTIONS)[0]


def section(photo: PhotoExplanation) -> str:
    """One photo: its predictions, pictures and superpixels."""
    several = len(photo.raw) > 1
    groups = groupby(gallery(photo), key=lambda picture: picture.group)
    shown = {
        "name": photo.name,
        "anchor": anchor(photo.name),
        "sentence": in_a_sentence(photo),
        "sets": sets_in_words(photo),
        "fitting": photo.fitting,
        "regions": _regions(photo),
        "height": photo.image.shape[0],
        "width": photo.image.shape[1],
        "predicted": photo.predictions[0],
        "target": photo.target,
        "predictions": photo.predictions,
        "most": max(1e-12, *(abs(one.probability) for one in photo.predictions)),
        # of several methods, small pictures instead
        "groups": [list(members) for group, members in groups if not (several and group)],
        "cards": list(cards(photo)) if several else [],
        "unit_scale": Scale(0.0, 1.0, signed=False),
        "n_pictures": 1 + len(photo.segmentations),
        "agreement": photo.agreement.to_plain() if several else None,
        "rankings": [_ranking(photo, *pair) for pair in photo.ranking],
    }
    return render("photo.html.j2", photo=shown)


def link_of(photo: PhotoExplanation) -> tuple[str, str]:
    """The photo's name and words in the list of photos."""
    first = photo.predictions[0]
    return photo.name, f"{first.name} {first.shown(0)}"


def anchor(name: str) -> str:
    """What a photo's section is called on its page."""
    return f"photo-{_plain(name)}"


def _plain(name: str) -> str:
    """A name as a part of an address."""
    return "".join(c if c.isalnum() else "-" for c in name)


def _regions(photo: PhotoExplanation) -> dict[str, dict[str, Any]]:
    """Kind of picture -> the regions that are drawn over it, with the rows that they lead to."""
    regions = {}
    method = next(iter(photo.raw))
    for segmenter, (_, superpixels) in photo.segmentations.items():
        regions[f"boundaries-{segmenter}"] = {
            "segmenter": _plain(segmenter),
            "rows": _plain(f"{method}-{segmenter}"),
            "outlines": outlines(superpixels, photo.ranking[method, segmenter], _ROWS_SHOWN),
        }
    return regions


def tail(
    links: Sequence[tuple[str, str, str]],
    run: RunRecord,
    failed: Sequence[tuple[str, str]] = (),
    finished: bool = True,
    agreements: Sequence[Agreement] = (),
    halves: Sequence[Half] = (),
) -> str:
    """Everything after the last photo.

    Args:
        links: Address, name and words of each photo; shown above the photos.
        run: What made them.
        failed: Source and reason of each photo that could not be explained.
        finished: Whether all photos asked for had their turn.
        agreements: One table a photo; their means are shown where there are several methods.
        halves: Of each photo, the regions that hold half of what speaks for the class.
    """
    several = len(agreements) > 1 and len(agreements[0].methods) > 1
    whole = _page(
        links=links,
        failed=failed,
        finished=finished,
        agreement=Agreement.joined(agreements).to_plain() if several else None,
        sentence=_of_all(halves),
        settings=made_by(run),
    )
    return whole.partition(_SECTIONS)[2]


def _of_all(halves: Sequence[Half]) -> str:
    """In how little of the photos half of what speaks for the class lies, in the mean."""
    known = [half.share for half in halves if half.labels]
    if len(halves) < 2 or not known:
        return ""
    where = (
        f"In {len(halves)} photos"
        if len(known) == len(halves)
        else (f"In {len(known)} of {len(halves)} photos")
    )
    return (
        f"{where}, half of what speaks for the class lies on average in {np.mean(known):.0%} of "
        f"the picture (from {min(known):.0%} to {max(known):.0%})."
    )


def end_of_part(index: str) -> str:
    """What follows the last photo of a page that is one of several.

    Args:
        index: The page that lists all photos.
    """
    return _page(index=index).partition(_SECTIONS)[2]


def _page(**values: object) -> str:
    nothing: dict[str, Any] = {
        "title": "naspix report",
        "bars": _bars(),
        "sections": Markup(_SECTIONS),
        "links": (),
        "failed": (),
        "finished": True,
        "agreement": None,
        "sentence": "",
        "settings": (),
        "index": "",
    }
    nothing.update(values)
    return render("report.html.j2", **nothing)


@cache
def _bars() -> dict[str, list[str]]:
    """The colours of each kind of scale, from low to high."""
    from matplotlib import colormaps

    found = {}
    for name, signed in (("positive", False), ("signed", True)):
        colours = colormaps[Scale(0.0, 1.0, signed).colormap](np.linspace(0, 1, 11), bytes=True)
        found[name] = [f"#{r:02x}{g:02x}{b:02x}" for r, g, b, _ in colours.tolist()]
    return found


def _ranking(photo: PhotoExplanation, method: str, segmenter: str) -> dict[str, Any]:
    """The table of superpixels for one method and segmenter."""
    n_pixels = photo.image.shape[0] * photo.image.shape[1]
    ranking = without_fragments(photo.ranking[method, segmenter], n_pixels)
    cluster_of = photo.cluster_of(segmenter)
    colours = cluster_colours(max(cluster_of.values()) + 1)
    largest = max((abs(one.saliency) for one in ranking), default=0.0) or 1.0

    def share(part: float) -> str:
        return f"{part:.1%}" if part >= 0.001 else "<0.1%"

    return {
        "method": photo.title(method),
        "segmenter": photo.title(segmenter),
        "anchor": _plain(f"{method}-{segmenter}"),
        "regions": _plain(segmenter),
        "n_fragments": len(photo.ranking[method, segmenter]) - len(ranking),
        "n_more": len(ranking) - _ROWS_SHOWN,
        "rows": [
            {
                "rank": place + 1,
                "label": one.label,
                "cluster": cluster_of[one.label],
                "colour": colours[cluster_of[one.label]].tolist(),
                "area": f"{one.area:,} ({share(one.area / n_pixels)})",
                "box": one.box,
                "saliency": f"{one.saliency:z#.3g}",
                "against": one.saliency < 0,
                "width": f"{100 * abs(one.saliency) / largest:.0f}",
            }
            for place, one in enumerate(ranking[:_ROWS_SHOWN])
        ],
    }
