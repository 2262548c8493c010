"""STL-10 as published: binary files of 96 x 96 pictures, their labels, and ten folds.

Source: Coates, Ng and Lee, "An Analysis of Single Layer Networks in Unsupervised Feature Learning",
AISTATS 2011. Each picture is 27,648 bytes: red, green, blue, each plane column by column.
"""

import os
from dataclasses import KW_ONLY, dataclass, field
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import torch

from naspix.datasets.files import existing_folder, read_lines
from naspix.datasets.sample import Sample, position
from naspix.errors import DatasetError, UnknownNameError

Split = Literal["train", "test", "unlabeled"]

SIDE = 96
N_PUBLISHED = {"train": 5_000, "test": 8_000, "unlabeled": 100_000}
N_FOLDS = 10

_BYTES = 3 * SIDE * SIDE
_FOLDER = "stl10_binary"
_HOW = "`naspix data fetch stl10` downloads STL-10"


@dataclass(frozen=True)
class STL10:
    """STL-10's published files; a picture's bytes are read when it is asked for.

    Args:
        root: The folder with ``train_X.bin`` and its like, or the one with ``stl10_binary`` in it.
        split: ``"train"`` (5,000 pictures), ``"test"`` (8,000) or ``"unlabeled"`` (100,000).
        fold: One of the ten published subsets of 1,000 of ``"train"``, from 0; None is all.

    Raises:
        DatasetError: If a file is missing, or its size is wrong.
        UnknownNameError: If there is no such split.
    """

    root: str | os.PathLike[str]
    _: KW_ONLY
    split: str = "test"
    fold: int | None = None
    _folder: Path = field(init=False, repr=False, compare=False)
    _labels: tuple[int | None, ...] = field(init=False, repr=False, compare=False)
    _places: tuple[int, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.split not in get_args(Split):
            raise UnknownNameError.among("split of STL-10", self.split, get_args(Split))
        folder = find_stl10(existing_folder(self.root, "STL-10"))
        if folder is None:
            raise DatasetError(
                f"there is no STL-10 in {str(self.root)!r}: {self.split}_X.bin is not there, nor "
                f"in {_FOLDER}; {_HOW}"
            )
        labels = _read_labels(folder, self.split)
        places = tuple(range(len(labels))) if self.fold is None else self._of_fold(folder, labels)
        object.__setattr__(self, "_folder", folder)
        object.__setattr__(self, "_places", places)
        object.__setattr__(self, "_labels", tuple(labels[i] for i in places))

    @property
    def ids(self) -> tuple[str, ...]:
        """Split and place in the published file, such as ``"test/00042"``."""
        return tuple(self._id(place) for place in self._places)

    @property
    def labels(self) -> tuple[int | None, ...]:
        """From 0 to 9; None throughout ``"unlabeled"``."""
        return self._labels

    @property
    def categories(self) -> tuple[str, ...]:
        """The ten names, from airplane to truck."""
        names = read_lines(
            self._folder / "class_names.txt", f"the names of STL-10's classes; {_HOW}"
        )
        return tuple(name.strip() for name in names)

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, index: int, /) -> Sample:
        """Read one picture; negative indices count from the end."""
        index = position(index, len(self))
        place = self._places[index]
        path = self._folder / f"{self.split}_X.bin"
        content = np.fromfile(path, np.uint8, count=_BYTES, offset=place * _BYTES)
        if content.size != _BYTES:
            raise DatasetError(f"{str(path)!r} ends before picture {place}; {_HOW}")
        planes = torch.from_numpy(content).view(3, SIDE, SIDE).transpose(1, 2)  # columns first
        return Sample(
            id=self._id(place),
            image=planes.contiguous().float().div_(255),
            label=self._labels[index],
        )

    def _id(self, place: int) -> str:
        return f"{self.split}/{place:05d}"

    def _of_fold(self, folder: Path, labels: tuple[int | None, ...]) -> tuple[int, ...]:
        if self.split != "train":
            raise DatasetError(f"STL-10 has folds of its split 'train' only, not of {self.split!r}")
        if not (isinstance(self.fold, int) and 0 <= self.fold < N_FOLDS):
            raise DatasetError(f"STL-10 has the folds 0 to {N_FOLDS - 1}, not {self.fold}")
        path = folder / "fold_indices.txt"
        lines = read_lines(path, f"STL-10's ten folds, one a line; {_HOW}")
        try:
            places = tuple(int(number) for number in lines[self.fold].split())
        except (ValueError, IndexError):
            raise DatasetError(
                f"{str(path)!r} must hold {N_FOLDS} lines of whole numbers; {_HOW}"
            ) from None
        wrong = [place for place in places if not 0 <= place < len(labels)]
        if wrong:
            raise DatasetError(
                f"fold {self.fold} in {str(path)!r} names picture {wrong[0]}, but there are "
                f"{len(labels)}"
            )
        return places


def find_stl10(folder: Path) -> Path | None:
    """Where STL-10's files are: in the folder, or one below it."""
    for place in (folder, folder / _FOLDER):
        if any((place / f"{split}_X.bin").is_file() for split in get_args(Split)):
            return place
    return None


def _read_labels(folder: Path, split: str) -> tuple[int | None, ...]:
    """The label of every picture; both files' sizes are checked on the way."""
    pictures, labels = folder / f"{split}_X.bin", folder / f"{split}_y.bin"
    if not pictures.is_file():
        raise DatasetError(f"there is no file {str(pictures)!r}, the split {split!r}; {_HOW}")
    number, left_over = divmod(pictures.stat().st_size, _BYTES)
    if left_over or not number:
        raise DatasetError(
            f"{str(pictures)!r} has {pictures.stat().st_size} bytes, which is no whole number of "
            f"pictures of {_BYTES} (the published file has {N_PUBLISHED[split] * _BYTES}); {_HOW}"
        )
    if split == "unlabeled":
        return (None,) * number
    if not labels.is_file():
        raise DatasetError(f"there is no file {str(labels)!r}, the labels of {split!r}; {_HOW}")
    values = np.fromfile(labels, np.uint8)
    if len(values) != number:
        raise DatasetError(
            f"{str(labels)!r} has {len(values)} labels, but there are {number} pictures; {_HOW}"
        )
    wrong = np.flatnonzero((values < 1) | (values > 10))
    if wrong.size:
        raise DatasetError(
            f"{str(labels)!r} holds the label {values[wrong[0]]} for picture {wrong[0]}, but "
            f"labels go from 1 to 10; {_HOW}"
        )
    return tuple(int(value) - 1 for value in values)
