"""Example files of one's own to try things on: photos, boxes, folders of classes.

The photos are scikit-image's, which come with its installation; where the objects lie was marked by
hand.
"""

import os
from collections.abc import Mapping
from pathlib import Path

from naspix.errors import OutputError
from naspix.files import write_whole, written

# name in skimage.data -> what is seen, and its left, top, right and bottom in pixels
_PHOTOS: Mapping[str, tuple[str, tuple[int, int, int, int]]] = {
    "chelsea": ("cat", (30, 1, 366, 299)),
    "coffee": ("cup", (172, 14, 408, 302)),
    "rocket": ("rocket", (306, 122, 342, 408)),
}
_CLASSES = ("cat", "cup")


def write_example(folder: str | os.PathLike[str]) -> list[Path]:
    """Write a few photos, as the pages of the documentation use them.

    ``cat.jpg``, ``cup.jpg`` and ``rocket.jpg``; ``boxes`` with the same and Pascal VOC's XML; and
    ``classes`` with folders ``cat`` and ``cup`` of three pictures each.

    Args:
        folder: Made if it is not there.

    Returns:
        The files, in the order in which they were written.

    Raises:
        OutputError: A file of such a name is there already, or cannot be written.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     [file.name for file in write_example(folder)][:3]
        ['cat.jpg', 'cup.jpg', 'rocket.jpg']
    """
    from PIL import Image, ImageOps
    from skimage import data

    pictures: dict[str, Image.Image] = {}
    texts: dict[str, str] = {}
    for source, (name, box) in _PHOTOS.items():
        photo = pictures[f"{name}.jpg"] = Image.fromarray(getattr(data, source)())
        pictures[f"boxes/{name}.jpg"] = photo
        texts[f"boxes/{name}.xml"] = _annotation(name, photo.size, box)
        if name in _CLASSES:
            width, height = photo.size
            pictures[f"classes/{name}/0.jpg"] = photo
            pictures[f"classes/{name}/1.jpg"] = ImageOps.mirror(photo)
            middle = (width // 8, height // 8, width - width // 8, height - height // 8)
            pictures[f"classes/{name}/2.jpg"] = photo.crop(middle)
    root = Path(folder)
    files = [
        root / name for name in sorted({**pictures, **texts}, key=lambda name: ("/" in name, name))
    ]
    there = [file for file in files if file.exists()]
    if there:
        raise OutputError(f"there is a file {os.fspath(there[0])!r} already; choose another folder")
    for file in files:
        name = file.relative_to(root).as_posix()
        with written(file, "choose another folder"):
            file.parent.mkdir(parents=True, exist_ok=True)
            with write_whole(file) as stream:
                if name in texts:
                    stream.write(texts[name].encode())
                else:
                    pictures[name].save(stream, format="JPEG", quality=92)
    return files


def _annotation(name: str, size: tuple[int, int], box: tuple[int, int, int, int]) -> str:
    """Pascal VOC's XML of one object."""
    sides = "".join(
        f"<{side}>{value}</{side}>"
        for side, value in zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True)
    )
    return (
        f"<annotation><filename>{name}.jpg</filename>\n"
        f"<size><width>{size[0]}</width><height>{size[1]}</height><depth>3</depth></size>\n"
        f"<object><name>{name}</name><bndbox>{sides}</bndbox></object></annotation>\n"
    )
