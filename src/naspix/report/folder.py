"""The folder of results: pictures as each photo is done, then ``report.html`` and ``results.json``.

Memory does not grow with the number of photos: page and record are written to hidden files beside
their places as photos come, and put there in one move when the folder is closed, be it by the end,
an error or Ctrl-C. Every file is there whole or not at all.
"""

import contextlib
import json
import os
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from naspix import plots
from naspix.errors import OutputError
from naspix.files import GrowingFile, write_png, written
from naspix.report import page
from naspix.report.agreement import Agreement
from naspix.report.gallery import gallery
from naspix.report.record import SCHEMA, PhotoExplanation, RunRecord

PAGE, RECORD = "report.html", "results.json"


class ResultsFolder:
    """Writes one photo after the other; use it in a ``with`` block.

    Args:
        folder: Made if it is not there. Files of the same names are replaced.
        run: What makes the results.

    Raises:
        OutputError: something cannot be written.
    """

    def __init__(self, folder: str | os.PathLike[str], run: RunRecord) -> None:
        self.folder = Path(folder)
        self.failed: list[tuple[str, str]] = []
        self.finished = False
        self._run = run
        self._links: list[str] = []
        self._agreements: list[Agreement] = []
        self._first = True

    def __enter__(self) -> Self:
        with written(self.folder), contextlib.ExitStack() as undo:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._page = GrowingFile(self.folder / PAGE)
            undo.callback(self._page.discard)
            self._record = GrowingFile(self.folder / RECORD)
            undo.callback(self._record.discard)
            self._page.append(page.head())
            opening = {
                "schema": SCHEMA,
                "naspix": self._run.versions.get("naspix", ""),
                "created": self._run.created,
                "seed": self._run.seed,
                "settings": self._run.settings,
                "versions": dict(self._run.versions),
            }
            self._record.append(_dump(opening).removesuffix("\n}") + ',\n "photos": [')
            undo.pop_all()
        return self

    def add(self, photo: PhotoExplanation) -> dict[str, object]:
        """Write a photo's pictures, and its part of the page and of the record.

        Returns:
            The photo's entry in ``results.json``.
        """
        with written(self.folder):
            files = self._write_pictures(photo)
            entry = photo.to_json(files)
            section = page.section(photo)
            record = ("" if self._first else ",") + "\n" + _dump(entry)
            self._page.append(section)
            self._record.append(record)
        self._first = False
        self._links.append(page.link(photo))
        self._agreements.append(photo.agreement)
        return entry

    def fail(self, source: str, reason: str) -> None:
        """Note a photo that could not be explained."""
        self.failed.append((source, reason))

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.finished = kind is None
        if not isinstance(error, OutputError):
            self._close()
            return
        with contextlib.suppress(OutputError):  # for what is finished there may still be room
            if not self._first:
                self._close()
        self._page.discard()
        self._record.discard()

    def _close(self) -> None:
        """Complete page and record, and put them in their places."""
        with written(self.folder):
            ending = page.tail(self._links, self._run, self.failed, self.finished, self._agreements)
            self._page.append(ending)
            failed = [{"source": source, "error": reason} for source, reason in self.failed]
            self._record.append(
                f'\n ],\n "failed": {_dump(failed)},\n "finished": {_dump(self.finished)}\n}}\n'
            )
            self._page.publish()
            self._record.publish()

    def _write_pictures(self, photo: PhotoExplanation) -> dict[str, str]:
        (self.folder / photo.name).mkdir(exist_ok=True)
        files = {}
        for picture in gallery(photo):
            pixels = picture.draw()
            if picture.scale is not None:
                pixels = plots.with_colour_bar(pixels, picture.scale)
            path = f"{photo.name}/{picture.kind}.png"
            write_png(self.folder / path, pixels)
            files[picture.kind] = path
        return files


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


def _dump(value: object) -> str:
    return json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False)


def _cleaned(name: str) -> str:
    """A name without what file systems or readers stumble over."""
    kept = "".join(c if c.isalnum() or c in " ._+" else "-" for c in name).strip(" .-")
    return kept[:120] or "photo"


def _repeated(names: Sequence[str]) -> set[int]:
    """Places of names that occur more than once."""
    seen: dict[str, list[int]] = {}
    for i, name in enumerate(names):
        seen.setdefault(name.casefold(), []).append(i)
    return {i for places in seen.values() if len(places) > 1 for i in places}


_RESERVED = {PAGE, RECORD}
