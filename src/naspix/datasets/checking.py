"""What a folder holds, and what of it is broken: every picture is read once, none is kept.

The format is found by the files that only it has; a folder of pictures without anything else is one
too.
"""

import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Literal

from naspix.datasets.coco import COCOBoxes, find_instances
from naspix.datasets.cub import CUB200, find_cub
from naspix.datasets.cub import N_PUBLISHED as N_CUB
from naspix.datasets.files import existing_folder, is_picture
from naspix.datasets.folder import ImageFolder, class_folders
from naspix.datasets.photos import Photos
from naspix.datasets.sample import Dataset
from naspix.datasets.stl10 import N_PUBLISHED as N_STL10
from naspix.datasets.stl10 import STL10, find_stl10
from naspix.datasets.voc import VOCBoxes
from naspix.errors import DatasetError, InputError
from naspix.images import visible_files

Kind = Literal["stl10", "cub", "coco", "voc", "folder", "photos"]

TITLES: Mapping[Kind, str] = {
    "stl10": "STL-10's binary files",
    "cub": "CUB-200-2011 or CUBv2's lists",
    "coco": "COCO's JSON",
    "voc": "Pascal VOC's XML",
    "folder": "a folder for each class",
    "photos": "pictures without classes or boxes",
}
SPLITS = ("train", "val", "valid", "validation", "test")

_WITH_BOXES = ("cub", "coco", "voc")
_AHEAD = 64  # pictures under way


@dataclass(frozen=True)
class Part:
    """A split, or an annotation file, of what was found.

    Attributes:
        name: Such as ``"train"``; empty where there is only one part.
        n_items: Pictures that it should have.
        n_broken: Of these, what cannot be read.
        n_classes: Classes that occur.
        n_boxes: Boxes that lie in pictures that can be read.
        n_masks: Pictures with a mask.
        smallest_class: Pictures in the class that has the fewest.
    """

    name: str
    n_items: int
    n_broken: int = 0
    n_classes: int = 0
    n_boxes: int = 0
    n_masks: int = 0
    smallest_class: int = 0


@dataclass(frozen=True)
class Remark:
    """A sentence about one picture, or about a part as a whole.

    Attributes:
        part: Name of the part.
        id: Of the picture; empty for the part as a whole.
        sentence: What is wrong with it.
    """

    part: str
    id: str
    sentence: str


@dataclass(frozen=True)
class Findings:
    """What `check` has found.

    Attributes:
        root: The folder.
        kind: The data set's name, as ``--dataset`` takes it, or ``"photos"``.
        parts: One for each split or annotation file.
        broken: What cannot be read.
        remarks: What can, but is not as it should be.
    """

    root: str
    kind: Kind
    parts: tuple[Part, ...]
    broken: tuple[Remark, ...]
    remarks: tuple[Remark, ...]


@dataclass
class Contents:
    """What a folder holds, not yet read.

    Attributes:
        kind: See `Findings`.
        parts: The data set of each part.
        broken: Parts that cannot be opened.
        remarks: About parts as a whole.
    """

    kind: Kind
    parts: dict[str, Dataset] = field(default_factory=dict)
    broken: list[Remark] = field(default_factory=list)
    remarks: list[Remark] = field(default_factory=list)

    def add(self, name: str, make: Callable[[], Dataset]) -> None:
        """Open a part, or note why it cannot be."""
        try:
            self.parts[name] = make()
        except DatasetError as error:
            self.broken.append(Remark(name, "", str(error)))


def check(
    folder: str | os.PathLike[str], step: Callable[[int, int], None] = lambda done, total: None
) -> Findings:
    """Find out what a folder holds, and read all of it.

    Args:
        folder: The folder.
        step: Told how many pictures have been read, and of how many.

    Raises:
        DatasetError: If there is nothing in it that could be a data set.
    """
    contents = look_into(folder)
    total = sum(len(dataset) for dataset in contents.parts.values())
    done = 0
    parts, broken, remarks = [], list(contents.broken), list(contents.remarks)
    for name, dataset in contents.parts.items():
        boxes = masks = faulty = without = 0
        for id_, sample, problems in _examined(dataset):
            done += 1
            step(done, total)
            if sample is None:
                faulty += 1
                broken += [Remark(name, id_, problem) for problem in problems]
                continue
            remarks += [Remark(name, id_, problem) for problem in problems]
            boxes += sample.n_boxes
            masks += sample.has_mask
            without += not sample.n_boxes
        if contents.kind in _WITH_BOXES and without:
            sentence = f"{without} picture{'s have' if without > 1 else ' has'} no box"
            remarks.append(Remark(name, "", sentence))
        counts = Counter(label for label in dataset.labels if label is not None)
        parts.append(
            Part(
                name=name,
                n_items=len(dataset),
                n_broken=faulty,
                n_classes=len(counts),
                n_boxes=boxes,
                n_masks=masks,
                smallest_class=min(counts.values(), default=0),
            )
        )
    return Findings(str(folder), contents.kind, tuple(parts), tuple(broken), tuple(remarks))


def look_into(folder: str | os.PathLike[str]) -> Contents:
    """Find the format of a folder, and open its parts.

    Raises:
        DatasetError: If there is nothing in it that could be a data set.
    """
    root = existing_folder(folder, "a data set")
    if find_stl10(root):
        return _published("stl10", root, STL10, N_STL10)
    if find_cub(root):
        return _published("cub", root, CUB200, N_CUB)
    if files := find_instances(root):
        contents = Contents("coco")
        for file in files:
            name = file.relative_to(root).as_posix()
            part = name if len(files) > 1 else ""
            contents.add(part, partial(COCOBoxes, root, annotations=name))
        return contents
    if any(file.suffix.lower() == ".xml" for file in visible_files(root)):
        contents = Contents("voc")
        contents.add("", partial(VOCBoxes, root))
        return contents
    return _of_pictures(root)


def _of_pictures(root: Path) -> Contents:
    """Folders of classes, once or for each split; or pictures only."""
    classes = class_folders(root)
    splits = [name for name in classes if name in SPLITS and class_folders(root / name)]
    contents = Contents("folder")
    if splits and len(splits) == len(classes):
        for name in sorted(splits, key=SPLITS.index):
            contents.add(name, partial(ImageFolder, root / name))
        return contents
    n_pictures = sum(is_picture(file) for file in visible_files(root))
    if not n_pictures:
        raise DatasetError(
            f"there is nothing in {str(root)!r} that is a data set: no pictures, and none of the "
            "files that STL-10, CUB, COCO or Pascal VOC are made of"
        )
    if not classes:
        return Contents("photos", {"": Photos(root)})
    contents.add("", partial(ImageFolder, root))
    outside = n_pictures - sum(map(len, classes.values()))
    if outside:
        are = "s lie" if outside > 1 else " lies"
        contents.remarks.append(Remark("", "", f"{outside} picture{are} outside of any class"))
    return contents


def _published(
    kind: Kind,
    root: Path,
    dataset: type[STL10] | type[CUB200],
    numbers: Mapping[str, int],
) -> Contents:
    """A data set that is published as a whole, whose numbers are known."""
    contents = Contents(kind)
    for split, number in numbers.items():
        contents.add(split, partial(dataset, root, split=split))
        found = len(contents.parts[split]) if split in contents.parts else number
        if found != number:
            sentence = f"there are {found} pictures; as published there are {number}"
            contents.remarks.append(Remark(split, "", sentence))
    return contents


@dataclass(frozen=True)
class _Looked:
    """What remains of a picture that was read."""

    n_boxes: int
    has_mask: bool


def _examined(dataset: Dataset) -> Iterator[tuple[str, _Looked | None, tuple[str, ...]]]:
    """The id of each picture, what it holds if it can be read, and what is wrong."""
    ids = dataset.ids

    def look(index: int) -> tuple[str, _Looked | None, tuple[str, ...]]:
        try:
            sample = dataset[index]
        except InputError as error:
            return ids[index], None, (str(error),)
        return ids[index], _Looked(len(sample.boxes), sample.mask is not None), sample.problems

    with ThreadPoolExecutor(os.cpu_count()) as readers:
        for start in range(0, len(dataset), _AHEAD):
            yield from readers.map(look, range(start, min(start + _AHEAD, len(dataset))))
