"""The report: one HTML page that opens from disk, with its pictures and style inside it.

``page`` is the whole page; ``head``, ``section`` and ``tail`` are its pieces, so that a page of
thousands of photos can be written without holding them. No script, nothing from elsewhere, light
and dark as the reader's system is, readable on a phone.
"""

from collections.abc import Iterable, Sequence
from html import escape
from itertools import groupby

import numpy as np

from naspix.plots import Scale, cluster_colours
from naspix.report.agreement import Agreement
from naspix.report.comparison import Card, comparison
from naspix.report.document import CLOSING, data_url, left_out, opening, settings_list
from naspix.report.gallery import CaptionedPicture, gallery
from naspix.report.record import PhotoExplanation, RunRecord

_ROWS_SHOWN = 12  # superpixels in a table; all of them are in results.json


def page(photos: Iterable[PhotoExplanation], run: RunRecord) -> str:
    """Return the whole page.

    Args:
        photos: Each gets a section.
        run: What made them, told at the end.
    """
    shown = list(photos)
    tables = [one.agreement for one in shown]
    return (
        head()
        + "".join(map(section, shown))
        + tail(
            [(f"#{anchor(name)}", name, words) for name, words in map(link_of, shown)],
            run,
            agreements=tables,
        )
    )


def head() -> str:
    """Everything before the first photo."""
    return (
        f"{opening('naspix report', _bar_styles())}"
        "<header><h1>What the network looked at</h1>\n"
        "<p>Each photo is cut into the regions that the classifier itself sees, "
        "and each region is coloured by how much it matters for the class that is explained.</p>"
        "</header>\n<main>\n"
    )


def section(photo: PhotoExplanation) -> str:
    """One photo: its predictions, pictures and superpixels."""
    target = photo.target
    predicted = photo.predictions[0]
    verdict = f"Predicted <b>{escape(predicted.name)}</b> ({predicted.probability:.1%})"
    if target.index != predicted.index:
        verdict += f", explained for <b>{escape(target.name)}</b> ({target.probability:.1%})"
    several = len(photo.raw) > 1
    pictures = "\n".join(
        _pictures(members)
        for group, members in groupby(gallery(photo), key=lambda picture: picture.group)
        if not (several and group)  # small pictures instead
    )
    tables = "\n".join(_ranking(photo, *pair) for pair in photo.ranking)
    if several:
        pictures += f"\n{_comparison(photo)}"
        tables = f"<details><summary>Superpixels, ranked</summary>\n{tables}</details>"
    return (
        f'<section id="{escape(anchor(photo.name), quote=True)}">\n<h2>{escape(photo.name)}</h2>\n'
        f"<p>{verdict}</p>\n"
        f"{_predictions(photo)}\n{pictures}\n{tables}\n</section>\n"
    )


def link_of(photo: PhotoExplanation) -> tuple[str, str]:
    """The photo's name and words in the list of photos."""
    first = photo.predictions[0]
    return photo.name, f"{first.name} {first.probability:.0%}"


def anchor(name: str) -> str:
    """What a photo's section is called on its page."""
    return "photo-" + "".join(c if c.isalnum() else "-" for c in name)


def end_of_part(index: str) -> str:
    """What follows the last photo of a page that is one of several.

    Args:
        index: The page that lists all photos.
    """
    return f'</main>\n<footer><p><a href="{index}">All photos</a></p></footer>\n{CLOSING}'


def tail(
    links: Sequence[tuple[str, str, str]],
    run: RunRecord,
    failed: Sequence[tuple[str, str]] = (),
    finished: bool = True,
    agreements: Sequence[Agreement] = (),
) -> str:
    """Everything after the last photo.

    Args:
        links: Address, name and words of each photo; shown above the photos.
        run: What made them.
        failed: Source and reason of each photo that could not be explained.
        finished: Whether all photos asked for had their turn.
        agreements: One table a photo; their means are shown where there are several methods.
    """
    notes = "" if finished else '<p class="note">The run was stopped before the end.</p>\n'
    if failed:
        notes += left_out("Left out:", failed)
    if len(links) > 1:
        opened = " open" if len(links) <= 30 else ""
        notes += (
            f"<nav><details{opened}><summary>{len(links)} photos</summary>"
            f"<ol>{''.join(map(_link, links))}</ol></details></nav>\n"
        )
    if len(agreements) > 1 and len(agreements[0].methods) > 1:
        notes += (
            "<section><h2>Do the methods agree?</h2>\n"
            f"{_agreement(Agreement.joined(agreements))}</section>\n"
        )
    return (
        f'</main>\n<div class="above">\n{notes}</div>\n'
        f"<footer>\n<h2>How this was made</h2>\n{settings_list(run)}</footer>\n{CLOSING}"
    )


def _link(link: tuple[str, str, str]) -> str:
    address, name, words = link
    return (
        f'<li><a href="{escape(address, quote=True)}">{escape(name)}</a> '
        f"<span>{escape(words)}</span></li>"
    )


def _predictions(photo: PhotoExplanation) -> str:
    rows = "\n".join(
        f"<tr{' class=target' if one.index == photo.target.index else ''}>"
        f"<th>{escape(one.name)}</th>"
        f'<td class="meter"><i style="width:{100 * one.probability:.1f}%"></i></td>'
        f"<td>{one.probability:.1%}</td></tr>"
        for one in photo.predictions
    )
    return (
        '<table class="predictions"><caption>The likeliest classes</caption>\n'
        f"<tbody>\n{rows}\n</tbody></table>"
    )


def _pictures(pictures: Iterable[CaptionedPicture]) -> str:
    """One group side by side."""
    figures = "\n".join(map(_figure, pictures))
    return f'<div class="pictures">\n{figures}\n</div>'


def _comparison(photo: PhotoExplanation) -> str:
    """A card a method, what all share, and how far they agree."""
    n_pictures = 1 + len(photo.segmentations)
    cards = "\n".join(map(_card, comparison(photo)))
    return (
        '<div class="legend"><p>Every map on one scale, from 0, its least value, to 1, its '
        f"largest; its own values stand below it.</p>{_bar(Scale(0.0, 1.0, signed=False))}</div>\n"
        f'<div class="cards" style="--n:{n_pictures}">\n{cards}\n</div>\n'
        "<details open><summary>Do the methods agree on this photo?</summary>\n"
        f"{_agreement(photo.agreement)}</details>"
    )


def _card(card: Card) -> str:
    figures = "\n".join(map(_figure, card.pictures))
    return f'<div class="card"><h3>{escape(card.title)}</h3>\n<div>\n{figures}\n</div></div>'


def _agreement(table: Agreement) -> str:
    return (
        "<p>1 means that two methods rank the superpixels alike, 0 that their orders have nothing "
        "to do with each other. The variance kept says how much of a map is left once it is "
        "pooled: little, where a map varies inside the regions rather than between them.</p>\n"
        f'<div class="tables">{table.to_html()}</div>'
    )


def _figure(picture: CaptionedPicture) -> str:
    bar = "" if picture.scale is None else _bar(picture.scale)
    note = f" <small>{escape(picture.note)}</small>" if picture.note else ""
    source = data_url(picture.draw(), lossless=picture.flat)
    return (
        f'<figure><img loading="lazy" alt="{escape(picture.description, quote=True)}" '
        f'src="{source}">{bar}<figcaption>{escape(picture.caption)}{note}</figcaption></figure>'
    )


def _bar(scale: Scale) -> str:
    """The colours from low to high, with the values at both ends."""
    colours = "signed" if scale.signed else "positive"
    return (
        f'<div class="bar"><span>{scale.low:.2g}</span><i class="{colours}"></i>'
        f"<span>{scale.high:.2g}</span></div>"
    )


def _bar_styles() -> str:
    from matplotlib import colormaps

    rules = []
    for name, signed in (("positive", False), ("signed", True)):
        colours = colormaps[Scale(0.0, 1.0, signed).colormap](np.linspace(0, 1, 11), bytes=True)
        stops = ",".join(f"#{r:02x}{g:02x}{b:02x}" for r, g, b, _ in colours.tolist())
        rules.append(f".bar .{name} {{ background: linear-gradient(90deg, {stops}); }}\n")
    return "".join(rules)


def _ranking(photo: PhotoExplanation, method: str, segmenter: str) -> str:
    """The table of superpixels for one method and segmenter."""
    ranking = photo.ranking[method, segmenter]
    n_pixels = photo.image.shape[0] * photo.image.shape[1]
    cluster_of = photo.cluster_of(segmenter)
    colours = cluster_colours(max(cluster_of.values()) + 1)
    largest = max((abs(one.saliency) for one in ranking), default=0.0) or 1.0
    rows = "\n".join(
        f"<tr><td>{one.rank}</td><td>{one.label}</td>"
        f'<td><i class="chip" style="background:rgb{tuple(colours[cluster_of[one.label]].tolist())}'
        f'"></i>{cluster_of[one.label]}</td>'
        f"<td>{one.area:,} ({_share(one.area / n_pixels)})</td>"
        f"<td>{', '.join(map(str, one.box))}</td><td>{one.saliency:z#.3g}</td>"
        f'<td class="meter"><i{" class=against" if one.saliency < 0 else ""} '
        f'style="width:{100 * abs(one.saliency) / largest:.0f}%"></i></td></tr>'
        for one in ranking[:_ROWS_SHOWN]
    )
    more = len(ranking) - _ROWS_SHOWN
    rest = f"<p>and {more} more</p>" if more > 0 else ""
    opened = " open" if len(photo.ranking) == 1 else ""
    return (
        f"<details{opened}><summary>Superpixels by {escape(photo.title(method))} "
        f"over {escape(photo.title(segmenter))}</summary>\n"
        '<div class="wide"><table class="ranking"><thead><tr><th>rank</th><th>superpixel</th>'
        "<th>cluster</th><th>area (pixels)</th><th>box (left, top, right, bottom)</th>"
        "<th>mean saliency</th><th></th></tr></thead>\n"
        f"<tbody>\n{rows}\n</tbody></table></div>{rest}</details>"
    )


def _share(part: float) -> str:
    return f"{part:.1%}" if part >= 0.001 else "&lt;0.1%"
