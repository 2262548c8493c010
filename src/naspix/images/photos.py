"""Photos of a command line: found, named apart, read ahead, and asked about in batches."""

import os
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from numpy.typing import NDArray

from naspix.errors import DeviceError, NaspixError, OutputError
from naspix.images.decoding import orientation
from naspix.images.files import expand_paths, shown

_Item = TypeVar("_Item")
_Answer = TypeVar("_Answer")

_RESERVED = {"report.html", "results.json", "run.sqlite"}  # names in a folder of results
_LONGEST = 120


@dataclass(frozen=True)
class Photo:
    """A photo to be read.

    Attributes:
        name: Unique among the photos of a run, fit for a file name.
        source: Where it comes from.
        content: What ``Classifier.load_images`` reads.
    """

    name: str
    source: str
    content: Path | NDArray[Any]

    @property
    def stamp(self) -> list[object]:
        """What tells whether it is still the same photo."""
        if not isinstance(self.content, Path) or not self.content.is_file():
            return [self.source]
        status = self.content.stat()
        return [self.source, status.st_size, status.st_mtime_ns]

    def size(self, *, exif: bool = True) -> tuple[int, int]:
        """Height and width, turned as the photo's EXIF says unless that is left alone."""
        if not isinstance(self.content, Path):
            return self.content.shape[0], self.content.shape[1]
        turn, (height, width) = orientation(self.content)
        return (width, height) if exif and turn > 4 else (height, width)


def find_photos(
    paths: str | os.PathLike[str] | Sequence[str | os.PathLike[str]] | None = None,
) -> list[Photo]:
    """The photos that paths and folders name; without any, two from scikit-image's wheel.

    Raises:
        InputError: A folder holds no image.

    Example:
        >>> [photo.name for photo in find_photos()]
        ['chelsea', 'coffee']
    """
    if isinstance(paths, str | os.PathLike):
        paths = [paths]
    if not paths:
        import skimage.data

        return [
            Photo(name, f"skimage.data.{name}", getattr(skimage.data, name)())
            for name in ("chelsea", "coffee")
        ]
    files = expand_paths(paths)
    sources = [shown(file) for file in files]
    names = unique_names(sources)
    return [
        Photo(name, source, file) for name, source, file in zip(names, sources, files, strict=True)
    ]


def unique_names(sources: Sequence[str]) -> list[str]:
    """Short names for sources, no two alike on any file system.

    The stem, where that is unique; with the names of its folders where it is not; numbered at last.

    Example:
        >>> unique_names(["a/cat.jpg", "b/cat.jpg", "b/dog.jpg", "dog.png"])
        ['a-cat', 'b-cat', 'b-dog', 'dog']
        >>> unique_names(["cat.jpg", "cat.png"])
        ['cat', 'cat-2']
    """
    paths = [Path(source) for source in sources]
    names = [_cleaned(path.stem) for path in paths]
    for depth in range(1, 4):
        alike = _repeated(names)
        names = [
            _cleaned("-".join([*path.parent.parts[-depth:], path.stem])) if i in alike else name
            for i, (name, path) in enumerate(zip(names, paths, strict=True))
        ]
    taken: set[str] = set()
    for i, name in enumerate(names):
        number = 1
        while names[i].casefold() in taken or names[i].casefold() in _RESERVED:
            number += 1
            names[i] = f"{name}-{number}"
        taken.add(names[i].casefold())
    return names


class ReadingAhead(Generic[_Item]):
    """Reads the items of a span, and those of the following one in a thread meanwhile.

    Args:
        read: An item by its place.
    """

    def __init__(self, read: Callable[[int], _Item]) -> None:
        self._read_one = read
        self._reader = ThreadPoolExecutor(1, thread_name_prefix="naspix-reader")
        self._ahead: dict[Iterable[int], Future[tuple[list[_Item], float]]] = {}

    def __call__(
        self, span: Iterable[int], following: Iterable[int] | None
    ) -> tuple[list[_Item], float]:
        """The items of a span ``(start, stop)``, and the seconds that reading them took."""
        found = self._ahead.pop(span, None) or self._reader.submit(self._read, span)
        if following is not None:
            self._ahead[following] = self._reader.submit(self._read, following)
        return found.result()

    def _read(self, span: Iterable[int]) -> tuple[list[_Item], float]:
        begin = time.perf_counter()
        return [self._read_one(index) for index in range(*span)], time.perf_counter() - begin


def of_one_size(
    items: Iterable[_Item], size: Callable[[_Item], Sequence[int]]
) -> list[list[_Item]]:
    """The items in groups that can be one batch, in the order in which their sizes appear."""
    groups: dict[tuple[int, ...], list[_Item]] = {}
    for item in items:
        groups.setdefault(tuple(size(item)), []).append(item)
    return list(groups.values())


def answers_of(
    items: Sequence[_Item],
    ask: Callable[[Sequence[_Item]], Sequence[_Answer]],
    fail: Callable[[_Item, NaspixError], None],
) -> list[_Answer]:
    """Ask about a batch; if one item spoils it, about each alone.

    Args:
        items: Of one size.
        ask: Answers for all of a batch, or raises.
        fail: Told of each item that cannot be answered for, and why.

    Raises:
        DeviceError, OutputError: Not the items' fault.

    Example:
        >>> answers_of([1, 2], lambda some: [2 * one for one in some], print)
        [2, 4]
    """
    try:
        return list(ask(items))
    except (DeviceError, OutputError):
        raise
    except NaspixError as error:
        if len(items) == 1:
            fail(items[0], error)
            return []
    return [answer for item in items for answer in answers_of([item], ask, fail)]


def _cleaned(name: str) -> str:
    """A name without what file systems or readers stumble over; bytes are what they count."""
    kept = "".join(c if c.isalnum() or c in " ._+" else "-" for c in name).strip(" .-")
    return kept.encode()[:_LONGEST].decode(errors="ignore").strip(" .-") or "photo"


def _repeated(names: Sequence[str]) -> set[int]:
    """Places of names that occur more than once."""
    seen: dict[str, list[int]] = {}
    for i, name in enumerate(names):
        seen.setdefault(name.casefold(), []).append(i)
    return {i for places in seen.values() if len(places) > 1 for i in places}
