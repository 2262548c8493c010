"""A data set of a few real photos with boxes, written by the test that wants it."""

from pathlib import Path

import numpy as np
import skimage.data
from PIL import Image

_XML = """<annotation><filename>{name}</filename>
<size><width>{width}</width><height>{height}</height></size>
<object><name>thing</name><bndbox><xmin>{0}</xmin><ymin>{1}</ymin><xmax>{2}</xmax><ymax>{3}</ymax>
</bndbox></object></annotation>"""


def photos(n: int) -> list[np.ndarray]:
    """Crops of scikit-image's photos, of several shapes."""
    whole = [skimage.data.chelsea(), skimage.data.coffee(), skimage.data.rocket()]
    return [
        np.ascontiguousarray(whole[i % 3][10 * i : 10 * i + 180 + 7 * i, 5 * i : 5 * i + 210])
        for i in range(n)
    ]


def voc(root: Path, n: int = 4) -> list[tuple[int, int, int, int]]:
    """Pascal VOC: n photos, each with a box of its own; gives the boxes as VOC counts."""
    boxes = []
    for i, photo in enumerate(photos(n)):
        height, width = photo.shape[:2]
        box = (20 + 3 * i, 31, width - 40 - 2 * i, height - 17)
        root.mkdir(exist_ok=True)
        Image.fromarray(photo).save(root / f"{i}.png")
        text = _XML.format(*box, name=f"{i}.png", width=width, height=height)
        (root / f"{i}.xml").write_text(text)
        boxes.append(box)
    return boxes
