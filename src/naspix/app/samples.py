"""Photos to begin with: scikit-image's, which come in its wheel."""

import base64
import io
from collections.abc import Mapping
from functools import cache

import numpy as np
from jaxtyping import UInt8

# name in skimage.data -> what is seen
SAMPLES: Mapping[str, str] = {
    "chelsea": "a tabby cat",
    "coffee": "a cup of espresso",
    "rocket": "a rocket at its launch",
    "astronaut": "an astronaut in her suit",
}
_SIDE = 160  # pixels of a thumbnail


def sample_image(name: str) -> UInt8[np.ndarray, "H W 3"]:
    """A photo by its name.

    Example:
        >>> sample_image("chelsea").shape
        (300, 451, 3)
    """
    import skimage.data

    image: UInt8[np.ndarray, "H W 3"] = getattr(skimage.data, name)()
    return image


@cache
def thumbnails() -> list[dict[str, str]]:
    """Name, description and a small square picture as a data URL, for each."""
    from PIL import Image, ImageOps

    found = []
    for name, what in SAMPLES.items():
        buffer = io.BytesIO()
        picture = ImageOps.fit(Image.fromarray(sample_image(name)), (_SIDE, _SIDE))
        picture.save(buffer, "jpeg", quality=85)
        data = base64.b64encode(buffer.getvalue()).decode()
        found.append({"name": name, "what": what, "picture": f"data:image/jpeg;base64,{data}"})
    return found
