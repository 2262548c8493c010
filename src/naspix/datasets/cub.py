"""CUB-200-2011 as published, and CUBv2 with its lists of ids, classes, sizes and boxes.

Sources: Wah et al., "The Caltech-UCSD Birds-200-2011 Dataset", 2011; Choe et al., "Evaluating
Weakly Supervised Object Localization Methods Right", CVPR 2020, whose lists add 1,000 pictures with
boxes as a split for choosing thresholds. Both count boxes at the edges: right is left plus width.
"""

import os
from dataclasses import KW_ONLY, dataclass, field
from pathlib import Path
from typing import Literal, get_args

from jaxtyping import Bool
from torch import Tensor

from naspix.datasets.boxes import fitted_boxes
from naspix.datasets.files import existing_folder, read_lines
from naspix.datasets.frames import find_frame
from naspix.datasets.sample import Sample, position
from naspix.errors import DatasetError, ImageError, UnknownNameError
from naspix.images import read_image

Split = Literal["train", "val", "test"]
Box = tuple[float, float, float, float]

N_PUBLISHED = {"train": 5_994, "val": 1_000, "test": 5_794}
N_CLASSES = 200

_HOW = "`naspix data fetch cub` downloads CUB-200-2011"
_HOW_LISTS = (
    "they are metadata/CUB in github.com/clovaai/wsolevaluation, which also links the pictures"
)
_LIST_PLACES = ("metadata/CUB", "metadata", ".")
_TABLE_PLACES = (".", "CUB_200_2011", "CUB")
_PICTURE_PLACES = (
    *("images", "CUB_200_2011/images", "CUB/images", "CUB", "CUBV2", "CUB/CUBV2", "."),
    *("dataset/CUB", "val", "CUB_200_2011"),
)
_MASK_PLACES = ("segmentations", "CUB_200_2011/segmentations")


@dataclass(frozen=True)
class CUB200:
    """Birds of 200 species, a box around each.

    The split ``"val"`` is CUBv2's, whose pictures are published apart. With the lists of CUBv2, all
    splits are read from them; without, train and test from CUB's own tables.

    Args:
        root: The folder with ``images`` and ``images.txt``, or the one with ``CUB_200_2011`` in it;
            or with the pictures of both as ``wsolevaluation`` lays them out.
        split: ``"train"`` (5,994 pictures), ``"val"`` (1,000) or ``"test"`` (5,794).
        lists: The folder with CUBv2's lists, a folder for each split; looked for in the root's
            ``metadata`` if not given.
        exif: Whether pictures are turned upright as their EXIF says, unless boxes were drawn before
            that, which the size that annotations declare tells; else they stay as stored.

    Attributes:
        ids: Paths such as ``"001.Black_footed_Albatross/Black_Footed_Albatross_0046_18.jpg"``.
        categories: The 200 names, without number and underscores.

    Raises:
        DatasetError: If a list or table is missing or damaged, saying how to get it.
        UnknownNameError: If there is no such split.
    """

    root: str | os.PathLike[str]
    _: KW_ONLY
    split: str = "test"
    lists: str | os.PathLike[str] | None = None
    exif: bool = True
    ids: tuple[str, ...] = field(init=False, repr=False, compare=False)
    categories: tuple[str, ...] = field(init=False, repr=False, compare=False)
    _index: "CubIndex" = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.split not in get_args(Split):
            raise UnknownNameError.among("split of CUB", self.split, get_args(Split))
        root = existing_folder(self.root, "CUB-200-2011")
        lists = find_lists(root) if self.lists is None else Path(self.lists)
        tables = _first(root, _TABLE_PLACES, "images.txt")
        if lists is not None:
            index = read_lists(lists / self.split)
        elif tables is None:
            raise DatasetError(
                f"there is no CUB-200-2011 in {str(root)!r}: images.txt is not there, nor in "
                f"CUB_200_2011; {_HOW}"
            )
        elif self.split == "val":
            raise DatasetError(
                f"the split 'val' is CUBv2's, whose lists are not in {str(root)!r} (give their "
                f"folder by lists=); {_HOW_LISTS}"
            )
        else:
            index = read_tables(tables, self.split)
        object.__setattr__(self, "ids", tuple(index.labels))
        object.__setattr__(self, "categories", _categories(index))
        object.__setattr__(self, "_index", index)

    @property
    def labels(self) -> tuple[int, ...]:
        """The class of each picture, from 0 to 199."""
        return tuple(self._index.labels.values())

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: int, /) -> Sample:
        """Read one picture and its box; negative indices count from the end."""
        id_ = self.ids[position(index, len(self))]
        label = self._index.labels[id_]
        drawn, picture = self._index.boxes.get(id_, []), self._picture(id_)
        frame = find_frame(picture, self._index.sizes.get(id_), exif=self.exif, drawn=bool(drawn))
        image = read_image(picture, exif=frame.upright)
        size = image.shape[1], image.shape[2]
        boxes = fitted_boxes(drawn, [label] * len(drawn), size, self._index.sizes.get(id_))
        return Sample(
            id=id_,
            image=image,
            label=label,
            boxes=boxes.boxes,
            box_labels=boxes.labels,
            mask=self._mask(id_, size),
            problems=boxes.problems + frame.problems,
        )

    def _picture(self, id_: str) -> Path:
        for place in _PICTURE_PLACES:
            path = Path(self.root, place, id_)
            if path.is_file():
                return path
        how = _HOW if self.split != "val" else "CUBv2's pictures are linked from wsolevaluation"
        raise ImageError(f"there is no image file {id_!r} in {str(self.root)!r}; {how}")

    def _mask(self, id_: str, size: tuple[int, int]) -> Bool[Tensor, "H W"] | None:
        """What more than half of the people who drew it took for the bird."""
        for place in _MASK_PLACES:
            path = Path(self.root, place, id_).with_suffix(".png")
            if path.is_file():
                mask: Tensor = read_image(path, channels=1)[0] > 0.5
                return mask if tuple(mask.shape) == size else None
        return None


@dataclass(frozen=True)
class CubIndex:
    """What lists or tables say, by id: the classes in the fixed order, sizes (H, W), boxes."""

    labels: dict[str, int]
    sizes: dict[str, tuple[int, int]]
    boxes: dict[str, list[Box]]


def find_lists(root: Path) -> Path | None:
    """Where CUBv2's lists are, if they are below the root."""
    places = (_first(root, _LIST_PLACES, f"{split}/image_ids.txt") for split in N_PUBLISHED)
    return next((place for place in places if place is not None), None)


def find_cub(root: Path) -> bool:
    """Whether CUB's tables or CUBv2's lists are in the folder, or in a usual place below it."""
    return find_lists(root) is not None or _first(root, _TABLE_PLACES, "images.txt") is not None


def read_lists(folder: Path) -> CubIndex:
    """Read the four lists of a split of CUBv2.

    Raises:
        DatasetError: If one is missing or damaged, or they do not speak of the same pictures.
    """
    ids = read_lines(folder / "image_ids.txt", f"a list of CUBv2; {_HOW_LISTS}")
    labels: dict[str, int] = {}
    sizes: dict[str, tuple[int, int]] = {}
    boxes: dict[str, list[Box]] = {}
    for id_, numbers in _rows(folder / "class_labels.txt", 1):
        labels[id_] = int(numbers[0])
    for id_, numbers in _rows(folder / "image_sizes.txt", 2):
        sizes[id_] = int(numbers[1]), int(numbers[0])
    for id_, numbers in _rows(folder / "localization.txt", 4):
        boxes.setdefault(id_, []).append((numbers[0], numbers[1], numbers[2], numbers[3]))
    missing = [id_ for id_ in ids if id_ not in labels]
    if missing:
        raise DatasetError(
            f"{str(folder / 'class_labels.txt')!r} has no line for {len(missing)} of the "
            f"{len(ids)} pictures, such as {missing[0]!r}; {_HOW_LISTS}"
        )
    return CubIndex({id_: labels[id_] for id_ in ids}, sizes, boxes)


def read_tables(folder: Path, split: str) -> CubIndex:
    """Read CUB-200-2011's own tables, whose lines begin with the picture's number.

    Raises:
        DatasetError: If one is missing or damaged, or lacks a picture.
    """
    names = dict(_table(folder / "images.txt", 1))
    in_train = dict(_table(folder / "train_test_split.txt", 1))
    classes = dict(_table(folder / "image_class_labels.txt", 1))
    drawn = dict(_table(folder / "bounding_boxes.txt", 4))
    labels, boxes = {}, {}
    for number, (name,) in names.items():
        for table, file in (
            (in_train, "train_test_split.txt"),
            (classes, "image_class_labels.txt"),
            (drawn, "bounding_boxes.txt"),
        ):
            if number not in table:
                raise DatasetError(
                    f"{str(folder / file)!r} has no line for picture {number}, {name!r}; {_HOW}"
                )
        if (in_train[number] == ["1"]) == (split == "train"):
            labels[name] = int(classes[number][0]) - 1
            left, top, width, height = map(float, drawn[number])
            boxes[name] = [(left, top, left + width, top + height)]
    return CubIndex(labels, {}, boxes)


def _rows(path: Path, n_numbers: int) -> list[tuple[str, list[float]]]:
    """Lines of an id and numbers, separated by commas."""
    rows = []
    for number, line in enumerate(read_lines(path, f"a list of CUBv2; {_HOW_LISTS}"), 1):
        id_, *fields = line.strip().rsplit(",", n_numbers)
        try:
            values = [float(field) for field in fields]
        except ValueError:
            values = []
        if len(values) != n_numbers:
            raise DatasetError(
                f"line {number} of {str(path)!r} must hold a path and {n_numbers} "
                f"number{'s' * (n_numbers > 1)}, but is {line[:80]!r}; {_HOW_LISTS}"
            )
        rows.append((id_, values))
    return rows


def _table(path: Path, n_fields: int) -> list[tuple[str, list[str]]]:
    """Lines of a picture's number and fields, separated by blanks."""
    rows = []
    for number, line in enumerate(read_lines(path, f"a table of CUB-200-2011; {_HOW}"), 1):
        key, *fields = line.split()
        numeric = path.name == "images.txt" or all(_is_number(field) for field in fields)
        if len(fields) != n_fields or not numeric:
            raise DatasetError(
                f"line {number} of {str(path)!r} must hold a picture's number and {n_fields} "
                f"field{'s' * (n_fields > 1)}, but is {line[:80]!r}; {_HOW}"
            )
        rows.append((key, fields))
    return rows


def _is_number(field: str) -> bool:
    try:
        float(field)
    except ValueError:
        return False
    return True


def _categories(index: CubIndex) -> tuple[str, ...]:
    """Names from the folders of the pictures; a class without a picture has its number only."""
    names = {
        label: id_.split("/")[0].partition(".")[2].replace("_", " ")
        for id_, label in index.labels.items()
    }
    return tuple(names.get(i) or f"class {i}" for i in range(max(N_CLASSES, *names, -1, -1)))


def _first(root: Path, places: tuple[str, ...], file: str) -> Path | None:
    return next((root / place for place in places if (root / place / file).is_file()), None)
