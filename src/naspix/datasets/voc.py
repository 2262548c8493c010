"""Boxes in Pascal VOC's XML, wherever the files lie: VOC itself, or what labelling tools write.

Source: Everingham et al., "The Pascal Visual Object Classes (VOC) Challenge", IJCV 2010. VOC counts
pixels from 1 and includes the last: its box from 1 to 10 covers ten pixels, and is 0 to 10 here.
"""

import os
import re
from dataclasses import KW_ONLY, dataclass, field
from pathlib import Path
from xml.etree import ElementTree

from naspix.datasets.boxes import fitted_boxes
from naspix.datasets.files import Pictures, existing_folder, id_of
from naspix.datasets.frames import find_frame
from naspix.datasets.sample import Sample, only_one, position
from naspix.errors import DatasetError, ImageError
from naspix.images import read_image, visible_files

_MOST_BYTES = 10_000_000  # of an annotation file
_ENCODING = re.compile(rb"""\s*<\?xml[^>]*?encoding\s*=\s*(["'])([\w.:-]+)\1[^>]*\?>""", re.ASCII)
_SIDES = ("xmin", "ymin", "xmax", "ymax")


@dataclass(frozen=True)
class Annotation:
    """What one XML file says.

    Attributes:
        file_name: Of the picture.
        size: Height and width, if given.
        names: The class of each object.
        boxes: Edges of each, see `Sample`.
        problems: What was left out, and why.
    """

    file_name: str
    size: tuple[int, int] | None
    names: tuple[str, ...]
    boxes: tuple[tuple[float, float, float, float], ...]
    problems: tuple[str, ...] = ()


@dataclass(frozen=True)
class VOCBoxes:
    """Pictures with boxes in Pascal VOC XML, an XML file for each.

    XML files are looked for in the folder and below it, and so are the pictures, by the name in the
    XML file or else by that file's own. A damaged XML file keeps its place: asking for it raises.

    Args:
        root: The folder.
        first_pixel: What the files call the first pixel: 1 in VOC, whose boxes include their last
            pixel; 0 for tools whose numbers are edges already, which are then taken as they are.
        categories: Names of classes in their order; without them, all that occur, sorted.
        difficult: Whether objects marked as difficult count.
        exif: Whether pictures are turned upright as their EXIF says, unless boxes were drawn before
            that, which the size that annotations declare tells; else they stay as stored.

    Attributes:
        ids: The XML files' paths below their common folder, without their ending.

    Raises:
        DatasetError: If there is no XML file.
    """

    root: str | os.PathLike[str]
    _: KW_ONLY
    first_pixel: int = 1
    categories: tuple[str, ...] = ()
    difficult: bool = True
    exif: bool = True
    ids: tuple[str, ...] = field(init=False, repr=False, compare=False)
    _files: tuple[Path, ...] = field(init=False, repr=False, compare=False)
    _labels: tuple[int | None, ...] = field(init=False, repr=False, compare=False)
    _pictures: Pictures = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        root = existing_folder(self.root, "Pascal VOC annotations")
        files = tuple(f for f in visible_files(root) if f.suffix.lower() == ".xml")
        if not files:
            raise DatasetError(
                f"there is no XML file in {str(root)!r} or below it; Pascal VOC has one a picture, "
                "in a folder Annotations"
            )
        names = [self._names(file) for file in files]
        categories = tuple(self.categories or sorted({n for found in names for n in found}))
        index = {name: i for i, name in enumerate(categories)}
        labels = (only_one([index[n] for n in found if n in index]) for found in names)
        object.__setattr__(self, "categories", categories)
        common = Path(os.path.commonpath([file.parent for file in files]))
        ids = (id_of(file.with_suffix(""), common) for file in files)
        object.__setattr__(self, "ids", tuple(ids))
        object.__setattr__(self, "_files", files)
        object.__setattr__(self, "_labels", tuple(labels))
        object.__setattr__(self, "_pictures", Pictures(root))

    @property
    def labels(self) -> tuple[int | None, ...]:
        """The class that all boxes of a picture share; None where there is none, or several."""
        return self._labels

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, index: int, /) -> Sample:
        """Read one picture and its boxes; negative indices count from the end."""
        index = position(index, len(self))
        file = self._files[index]
        found = read_annotation(file, first_pixel=self.first_pixel, difficult=self.difficult)
        picture = self._picture(file, found.file_name)
        frame = find_frame(picture, found.size, exif=self.exif, drawn=bool(found.boxes))
        image = read_image(picture, exif=frame.upright)
        known = [i for i, name in enumerate(found.names) if name in self.categories]
        boxes = fitted_boxes(
            [found.boxes[i] for i in known],
            [self.categories.index(found.names[i]) for i in known],
            (image.shape[1], image.shape[2]),
            found.size,
        )
        return Sample(
            id=self.ids[index],
            image=image,
            label=self._labels[index],
            boxes=boxes.boxes,
            box_labels=boxes.labels,
            problems=found.problems + boxes.problems + frame.problems,
        )

    def _names(self, file: Path) -> tuple[str, ...]:
        try:
            return read_annotation(file, difficult=self.difficult).names
        except DatasetError:  # raised again when it is asked for
            return ()

    def _picture(self, file: Path, name: str) -> Path:
        """The picture that the XML file names, or the one that is called as the XML file is."""
        for called in (name, file.stem):
            if called in self._pictures:
                return self._pictures.find(called, near=file.parent)
        raise ImageError(
            f"{str(file)!r} is about the image file {name!r}, which is not in "
            f"{str(self.root)!r} or below it"
        )


def read_annotation(file: Path, *, first_pixel: int = 1, difficult: bool = True) -> Annotation:
    """Read one XML file.

    Raises:
        DatasetError: If it is damaged, or no annotation of Pascal VOC.
    """
    root = _parsed(file)
    if root.tag != "annotation":
        raise DatasetError(f"{str(file)!r} is no annotation of Pascal VOC, but a <{root.tag}>")
    objects = [
        one for one in root.iter("object") if difficult or _text(one, "difficult") in ("", "0")
    ]
    names, boxes, problems = [], [], []
    for one in objects:
        name = _text(one, "name")
        try:
            x0, y0, x1, y1 = (float(_text(one, f"bndbox/{side}")) for side in _SIDES)
        except ValueError:
            problems.append(
                f"an object {name!r} is left out, since it has no <bndbox> with the numbers "
                f"{', '.join(_SIDES)}"
            )
            continue
        names.append(name)
        boxes.append((x0 - first_pixel, y0 - first_pixel, x1, y1))
    return Annotation(
        file_name=_text(root, "filename"),
        size=_size(root),
        names=tuple(names),
        boxes=tuple(boxes),
        problems=tuple(problems),
    )


def _parsed(file: Path) -> ElementTree.Element:
    try:
        if file.stat().st_size > _MOST_BYTES:
            raise DatasetError(f"{str(file)!r} is too large for the annotation of one picture")
        content = file.read_bytes()
        if b"<!DOCTYPE" in content or b"<!ENTITY" in content:
            raise DatasetError(f"{str(file)!r} declares entities, which no annotation needs")
        declared = _ENCODING.match(content)
        if declared is None or declared[2].lower().startswith((b"utf", b"us-ascii")):
            return ElementTree.fromstring(content)
        # expat knows no encodings of several bytes a character, such as gbk; Python does
        text = content[declared.end() :].decode(declared[2].decode("ascii"))
        return ElementTree.fromstring(text)
    except (LookupError, UnicodeDecodeError) as error:
        raise DatasetError(
            f"{str(file)!r} is damaged, or not in the encoding that it declares: {error}"
        ) from None
    except ElementTree.ParseError as error:
        raise DatasetError(f"{str(file)!r} is damaged, or no XML: {error}") from None
    except OSError as error:
        raise DatasetError(f"{str(file)!r} cannot be read: {error.strerror}") from None


def _text(element: ElementTree.Element, path: str) -> str:
    return (element.findtext(path) or "").strip()


def _size(root: ElementTree.Element) -> tuple[int, int] | None:
    try:
        return int(_text(root, "size/height")), int(_text(root, "size/width"))
    except ValueError:
        return None
