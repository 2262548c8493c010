"""Pictures with classes where none were given: views of three of scikit-image's photos.

Each photo is one of ImageNet's classes; eight overlapping squares of it stand in for the pictures
of that class. They share one object: what is found on them shows how a figure reads, no more.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from naspix.files import write_whole, written
from naspix.paper.at_hand import AtHand, Source

# photo of skimage.data -> its class in ImageNet, and the middle of its object: x, y
PHOTOS: Mapping[str, tuple[str, tuple[int, int]]] = {
    "chelsea": ("tiger cat", (200, 150)),
    "coffee": ("espresso", (290, 180)),
    "rocket": ("missile", (320, 260)),
}
_VIEWS = 8
_SENTENCE = (
    "{} squares each of scikit-image's photos of a cat, a cup and a rocket, since no pictures with "
    "classes were given by --images (a folder a class) or --data (STL-10)"
)


def labelled_pictures(at_hand: AtHand, spare: Path) -> Source:
    """Pictures with classes that were given, or the views.

    Args:
        at_hand: What was given.
        spare: A folder for the views, if they are needed.

    Raises:
        DatasetError: A folder that was given holds none.
    """
    return at_hand.labelled() or views(spare)


def views(folder: Path) -> Source:
    """The views as files, a folder a class.

    Raises:
        OutputError: They cannot be written.
    """
    import skimage.data
    from PIL import Image

    for name, (category, middle) in PHOTOS.items():
        below = folder / category
        with written(folder):
            below.mkdir(parents=True, exist_ok=True)
            for place, view in enumerate(_squares(getattr(skimage.data, name)(), middle)):
                with write_whole(below / f"{name}-{place}.png") as file:
                    Image.fromarray(view).save(file, "png")
    return Source("folder", str(folder.absolute()), _SENTENCE.format("eight"))


def _squares(
    photo: UInt8[np.ndarray, "H W 3"], middle: tuple[int, int]
) -> list[UInt8[np.ndarray, "s s 3"]]:
    """Squares of eight sizes around the object, shifted to all sides."""
    height, width = photo.shape[:2]
    found = []
    for place in range(_VIEWS):
        side = min(height, width) * (0.68 + 0.035 * place)
        turn = 2 * np.pi * place / _VIEWS
        x = middle[0] + 0.12 * side * np.cos(turn) - side / 2
        y = middle[1] + 0.12 * side * np.sin(turn) - side / 2
        left = round(min(max(x, 0), width - side))
        top = round(min(max(y, 0), height - side))
        found.append(photo[top : top + round(side), left : left + round(side)])
    return found
