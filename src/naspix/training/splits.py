"""What is learned from, what says when to stop, and what is only looked at in the end.

Published splits are taken where there are any; where there is no validation split, a share of each
class is set aside by a seed.
"""

import os
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Literal, get_args

import numpy as np

from naspix.datasets import CUB200, STL10, Dataset, ImageFolder, Sample
from naspix.datasets.checking import SPLITS, TITLES, look_into
from naspix.datasets.cub import find_cub
from naspix.datasets.folder import class_folders
from naspix.datasets.stl10 import find_stl10
from naspix.errors import DatasetError, ImageError, InputError, UnknownNameError

DatasetName = Literal["stl10", "cub", "folder"]
VAL_NAMES = ("val", "valid", "validation")

_LEAST = 2  # pictures of a class: one to learn from, one to validate with


@dataclass(frozen=True)
class View:
    """Some pictures of a data set.

    Attributes:
        dataset: All of them.
        indices: Places of these.
        labels: Their classes.
    """

    dataset: Dataset
    indices: tuple[int, ...]
    labels: tuple[int, ...]

    @classmethod
    def of(cls, dataset: Dataset, indices: Sequence[int] | None = None) -> "View":
        """These pictures, or all; those without a class are left out."""
        labels = dataset.labels
        places = range(len(dataset)) if indices is None else indices
        found = [(i, label) for i in places if (label := labels[i]) is not None]
        return cls(dataset, tuple(i for i, _ in found), tuple(label for _, label in found))

    @property
    def ids(self) -> tuple[str, ...]:
        """What names each picture."""
        ids = self.dataset.ids
        return tuple(ids[i] for i in self.indices)

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int, /) -> Sample:
        return self.dataset[self.indices[index]]

    def without(self, ids: frozenset[str]) -> "View":
        """The view less some pictures."""
        kept = [i for i, id_ in zip(self.indices, self.ids, strict=True) if id_ not in ids]
        return View.of(self.dataset, kept)


@dataclass(frozen=True)
class Splits:
    """The three parts of a data set, with the same classes.

    Attributes:
        train: Learned from.
        val: Says which epoch was best, and when to stop.
        test: Looked at once, in the end; None if there is none.
        categories: The classes' names.
        notes: What should be known about them, a sentence each.
    """

    train: View
    val: View
    test: View | None
    categories: tuple[str, ...]
    notes: tuple[str, ...] = ()

    def without(self, ids: frozenset[str]) -> "Splits":
        """The splits less some pictures; a test split that nothing is left of is none."""
        test = None if self.test is None else self.test.without(ids) or None
        return replace(self, train=self.train.without(ids), val=self.val.without(ids), test=test)


def open_splits(
    name: str, root: str | os.PathLike[str], *, val_share: float = 0.2, seed: int = 0
) -> Splits:
    """Open a data set's splits.

    Args:
        name: ``"stl10"``, ``"cub"``, or ``"folder"``: a folder for each class, or folders
            ``train``, ``val`` and ``test`` of such folders.
        root: The folder.
        val_share: Of each class, where there is no split for validation: in (0, 1).
        seed: Of which pictures that takes.

    Raises:
        DatasetError: If the folder is of another kind, or a class has too few pictures.
        UnknownNameError: If there is no such data set to learn from.
    """
    if name not in get_args(DatasetName):
        raise UnknownNameError.among("data set to learn from", name, get_args(DatasetName))
    if not 0 < val_share < 1:
        raise InputError(f"the share of validation pictures lies between 0 and 1, not {val_share}")
    try:
        if name == "folder" and (find_stl10(Path(root)) or find_cub(Path(root))):
            raise DatasetError(f"there is no folder of pictures for each class in {str(root)!r}")
        train, val, test, notes = parts_of(name, Path(root))
        if len(train.categories) < 2:
            raise DatasetError(
                f"{str(root)!r} has one class, {train.categories[0]!r}, but a classifier needs two"
            )
    except DatasetError as error:
        raise _told_apart(name, root, error) from None
    categories = train.categories
    counts = Counter(label for label in train.labels if label is not None)
    least = _LEAST if val is None else 1
    few = [i for i in range(len(categories)) if counts[i] < least]
    if few:
        raise DatasetError(
            f"the class {categories[few[0]]!r} has {counts[few[0]]} "
            f"picture{'s' * (counts[few[0]] != 1)} to learn from"
            + (f", and so have {len(few) - 1} other classes too few" if len(few) > 1 else "")
            + f"; at least {least} are needed: add some, or leave the class out"
        )
    if val is None:
        learned, validated = _set_aside(View.of(train), val_share, seed)
        notes += (f"{len(validated)} pictures of the training split are set aside to validate",)
    else:
        learned, validated = View.of(train), View.of(val)
    return Splits(learned, validated, None if test is None else View.of(test), categories, notes)


def broken_ids(splits: Splits) -> dict[str, str]:
    """The pictures that cannot be read, with the reason; all are read once."""

    def look(view: View, index: int) -> str:
        try:
            view[index]
        except InputError as error:
            return str(error)
        return ""

    found: dict[str, str] = {}
    with ThreadPoolExecutor(os.cpu_count()) as readers:
        for view in filter(None, (splits.train, splits.val, splits.test)):
            ids = view.ids
            for start in range(0, len(view), 64):
                some = range(start, min(start + 64, len(view)))
                reasons = zip(some, readers.map(partial(look, view), some), strict=True)
                found |= {ids[index]: reason for index, reason in reasons if reason}
    return found


def parts_of(
    name: str, root: Path
) -> tuple[Dataset, Dataset | None, Dataset | None, tuple[str, ...]]:
    """Train, validation and test as they lie there, and notes.

    Raises:
        DatasetError: If there is no such data set.
    """
    if name == "stl10":
        return STL10(root, split="train"), None, _if_there(STL10, root), ()
    if name == "cub":
        val, notes = _cub_val(root)
        return CUB200(root, split="train"), val, _if_there(CUB200, root), notes
    if not _has_classes(root / "train"):  # which may be a class: railways
        return ImageFolder(root), None, None, ()
    train = ImageFolder(root / "train")
    rest = {
        split: ImageFolder(root / split, categories=train.categories)
        for split in SPLITS[1:]
        if _has_classes(root / split)
    }
    val_name = next((split for split in VAL_NAMES if split in rest), None)
    return train, rest[val_name] if val_name else None, rest.get("test"), ()


def _has_classes(folder: Path) -> bool:
    return folder.is_dir() and bool(class_folders(folder))


def _if_there(kind: type[STL10] | type[CUB200], root: Path) -> Dataset | None:
    try:
        return kind(root, split="test")
    except DatasetError:
        return None


def _cub_val(root: Path) -> tuple[CUB200 | None, tuple[str, ...]]:
    """CUBv2's split for validation, if its lists and pictures are there."""
    try:
        val = CUB200(root, split="val")
        val[0]
    except (DatasetError, ImageError):
        return None, ("CUBv2's validation split is not there",)
    return val, ()


def _told_apart(name: str, root: str | os.PathLike[str], error: DatasetError) -> DatasetError:
    """The error, with what the folder seems to be instead."""
    try:
        kind = look_into(root).kind
    except DatasetError:
        return error
    if kind == name:
        return error
    hint = f"; --dataset {kind} reads it" if kind in get_args(DatasetName) else ""
    return DatasetError(f"{error}; the folder looks like {TITLES[kind]}{hint}")


def _set_aside(view: View, share: float, seed: int) -> tuple[View, View]:
    """A share of each class, at least one picture, but never all of them."""
    random = np.random.default_rng(seed)
    labels = np.asarray(view.labels)
    kept: list[int] = []
    aside: list[int] = []
    for label in np.unique(labels):
        places = random.permutation(np.flatnonzero(labels == label))
        n = min(max(round(share * len(places)), 1), len(places) - 1)
        aside += [view.indices[i] for i in places[:n]]
        kept += [view.indices[i] for i in places[n:]]
    return View.of(view.dataset, sorted(kept)), View.of(view.dataset, sorted(aside))
