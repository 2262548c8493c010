"""What every page has: its opening, pictures, what was left out, and how it was made.

Pieces of HTML out; what is told comes escaped.
"""

import base64
import io
from collections.abc import Iterable
from html import escape
from importlib.resources import files

import numpy as np
from jaxtyping import UInt8

from naspix.report.record import RunRecord

CLOSING = "</body>\n</html>\n"


def opening(title: str, style: str = "") -> str:
    """Everything before the page's header: self-contained, in the style of all of naspix's pages.

    Args:
        title: Of the window.
        style: What goes beyond the common style.
    """
    common = files("naspix.report").joinpath("page.css").read_text("utf-8")
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>\n{common}{style}</style>\n</head>\n<body>\n"
    )


def left_out(words: str, failures: Iterable[tuple[str, str]]) -> str:
    """Which pictures were left out, and why.

    Args:
        words: Said above the list.
        failures: Source and reason of each.
    """
    items = "".join(
        f"<li><b>{escape(source)}</b>: {escape(reason)}</li>" for source, reason in failures
    )
    return f'<div class="note"><p>{escape(words)}</p><ul>{items}</ul></div>\n'


def settings_list(run: RunRecord) -> str:
    """What made the results, as a list of definitions."""
    versions = ", ".join(f"{name} {version}" for name, version in run.versions.items())
    more = [("seed", str(run.seed)), ("versions", versions), ("made", run.created)]
    return definitions([*flattened(run.settings), *more])


def definitions(entries: Iterable[tuple[str, str]]) -> str:
    r"""Names and values as a list.

    Example:
        >>> definitions([("seed", "0")])
        '<dl>\n<dt>seed</dt><dd>0</dd>\n</dl>\n'
    """
    rows = "\n".join(f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in entries)
    return f"<dl>\n{rows}\n</dl>\n"


def flattened(settings: object, name: str = "") -> Iterable[tuple[str, str]]:
    """Settings inside settings in one row, their names put together.

    Example:
        >>> list(flattened({"nas": {"levels": [2, 3]}, "seed": 0}))
        [('nas levels', '[2, 3]'), ('seed', '0')]
    """
    if isinstance(settings, dict):
        for key, value in settings.items():
            yield from flattened(value, f"{name} {key}".strip())
    else:
        yield name, str(settings)


def data_url(picture: UInt8[np.ndarray, "H W 3"], lossless: bool) -> str:
    """The picture inside a URL: a PNG, or a JPEG."""
    from PIL import Image

    buffer = io.BytesIO()
    image = Image.fromarray(picture)
    if lossless:
        image.save(buffer, "png", optimize=True)
    else:
        image.save(buffer, "jpeg", quality=86)
    kind = "png" if lossless else "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode()}"
