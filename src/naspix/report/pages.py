"""Pages from templates: one engine, one way in which a picture gets into a page.

``templates/`` has the base of every page, pieces that they share, and the pages of this room; a
room above has its own beside it and extends the base. Autoescape is on.
"""

import base64
import io
import math
from collections.abc import Iterable, Mapping
from functools import cache

import numpy as np
from jaxtyping import UInt8
from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined


@cache
def _environment(package: str) -> Environment:
    loaders = [PackageLoader(name) for name in dict.fromkeys((package, "naspix.report"))]
    environment = Environment(
        loader=ChoiceLoader(loaders),
        autoescape=True,
        keep_trailing_newline=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    environment.filters["data_url"] = data_url
    environment.tests["finite"] = math.isfinite
    return environment


def render(template: str, package: str = "naspix.report", **values: object) -> str:
    """A page or a piece of one.

    Args:
        template: Its file's name.
        package: Whose ``templates/`` is looked into first.
        **values: What the template is given.
    """
    return _environment(package).get_template(template).render(**values)


def data_url(picture: UInt8[np.ndarray, "H W 3"] | bytes, lossless: bool = True) -> str:
    """The picture inside a URL: a PNG, or a JPEG; bytes are a PNG or an SVG already."""
    if isinstance(picture, bytes):
        kind, content = "png" if picture.startswith(b"\x89PNG") else "svg+xml", picture
    else:
        from PIL import Image

        buffer, image = io.BytesIO(), Image.fromarray(picture)
        if lossless:
            image.save(buffer, "png", optimize=True)
        else:
            image.save(buffer, "jpeg", quality=86)
        kind, content = "png" if lossless else "jpeg", buffer.getvalue()
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"


def flattened(settings: object, name: str = "") -> Iterable[tuple[str, str]]:
    """Settings inside settings in one row, their names put together.

    Example:
        >>> list(flattened({"nas": {"levels": [2, 3]}, "seed": 0}))
        [('nas levels', '[2, 3]'), ('seed', '0')]
    """
    if isinstance(settings, Mapping):
        for key, value in settings.items():
            yield from flattened(value, f"{name} {key}".strip())
    else:
        yield name, str(settings)
