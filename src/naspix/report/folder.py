"""The folder of results: pictures as each photo is done, then ``report.html`` and ``results.json``.

Memory does not grow with the number of photos: pages and record are written to hidden files beside
their places as photos come, and put there in one move when the folder is closed, be it by the end,
an error or Ctrl-C. Every file is there whole or not at all. Of more than a hundred photos each
hundred has a page of its own, and ``report.html`` lists them.
"""

import contextlib
import csv
import io
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from naspix import plots
from naspix.errors import OutputError
from naspix.files import GrowingFile, write_whole, written
from naspix.report import page
from naspix.report.agreement import Agreement
from naspix.report.gallery import gallery, photo_figure
from naspix.report.record import SCHEMA, PhotoExplanation, RunRecord
from naspix.report.regions import Half, half_of

PAGE, RECORD, RANKING = "report.html", "results.json", "ranking.csv"
_PAGE_OF_MANY = "report-{:03d}.html"
_PAGE_LENGTH = 100  # photos
_COLUMNS = (
    *("name", "source", "target", "method", "segmenter", "rank", "label", "cluster", "area"),
    *("left", "top", "right", "bottom", "saliency"),
)


@dataclass(frozen=True, eq=False)
class PhotoResult:
    """What is written of one photo.

    Attributes:
        name: Of its folder.
        entry: In ``results.json``.
        section: Of the page, as HTML.
        link: Its words in the list of photos.
        agreement: How far the methods agree on it.
        pictures: Path below the folder -> the file's content.
    """

    name: str
    entry: Mapping[str, Any]
    section: str
    link: tuple[str, str]
    agreement: Agreement
    pictures: Mapping[str, bytes]

    @classmethod
    def of(cls, photo: PhotoExplanation, file_format: str = "png") -> "PhotoResult":
        """Draw and describe a photo.

        Args:
            photo: What is shown of it.
            file_format: ``"svg"`` or ``"pdf"`` adds a figure of the explanation.
        """
        from PIL import Image

        pictures, files = {}, {}
        for picture in gallery(photo):
            pixels = picture.draw()
            if picture.scale is not None:
                pixels = plots.with_colour_bar(pixels, picture.scale)
            content = io.BytesIO()
            # most of the time would go into the last percents of size
            Image.fromarray(pixels).save(content, "png", compress_level=2)
            files[picture.kind] = f"{photo.name}/{picture.kind}.png"
            pictures[files[picture.kind]] = content.getvalue()
        if file_format in ("svg", "pdf"):
            files["figure"] = f"{photo.name}/explanation.{file_format}"
            pictures[files["figure"]] = plots.figure_bytes(photo_figure(photo), file_format)
        section, link = page.section(photo), page.link_of(photo)
        return cls(photo.name, photo.to_json(files), section, link, photo.agreement, pictures)


def write_pictures(folder: Path, pictures: Mapping[str, bytes]) -> None:
    """Write a photo's PNG files below a folder.

    Raises:
        OutputError: They cannot be written.
    """
    with written(folder):
        for path, content in pictures.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            with write_whole(folder / path) as file:
                file.write(content)


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
        self.finished = self.stopped = False
        self._run = run
        self._links: list[tuple[str, str]] = []
        self._agreements: list[Agreement] = []
        self._halves: list[Half] = []
        self._n_pages = 0  # that are full

    def __enter__(self) -> Self:
        with written(self.folder), contextlib.ExitStack() as undo:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._page = GrowingFile(self.folder / PAGE)
            undo.callback(self._page.discard)
            self._record = GrowingFile(self.folder / RECORD)
            undo.callback(self._record.discard)
            self._ranking = GrowingFile(self.folder / RANKING)
            undo.callback(self._ranking.discard)
            self._ranking.append(_csv([list(_COLUMNS)]))
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

    def add(self, photo: PhotoExplanation) -> None:
        """Write a photo's pictures, and its part of the page and of the record."""
        result = PhotoResult.of(photo)
        write_pictures(self.folder, result.pictures)
        self.append(result)

    def append(self, result: PhotoResult) -> None:
        """Write a photo's part of the page and of the record; its pictures are there already."""
        with written(self.folder):
            if self._links and len(self._links) % _PAGE_LENGTH == 0:
                self._finish_page()
            record = ("," if self._links else "") + "\n" + _dump(result.entry)
            self._page.append(result.section)
            self._record.append(record)
            self._ranking.append(_csv(_ranking_of(result.entry)))
        self._links.append(result.link)
        self._agreements.append(result.agreement)
        self._halves.append(_half(result.entry))

    def fail(self, source: str, reason: str) -> None:
        """Note a photo that could not be explained."""
        self.failed.append((source, reason))

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.finished = kind is None and not self.stopped
        if not isinstance(error, OutputError):
            self._close()
            return
        with contextlib.suppress(OutputError):  # for what is finished there may still be room
            if self._links:
                self._close()
        for file in (self._page, self._record, self._ranking):
            file.discard()

    def _finish_page(self) -> None:
        """Put a page of a hundred photos into its place, and begin the next one."""
        self._n_pages += 1
        self._page.append(page.end_of_part(PAGE))
        self._page.publish(self.folder / _PAGE_OF_MANY.format(self._n_pages))
        self._page = GrowingFile(self.folder / PAGE)
        self._page.append(page.head())

    def _close(self) -> None:
        """Complete page and record, and put them in their places."""
        with written(self.folder):
            if self._n_pages:
                self._finish_page()
            links = [
                (f"{self._page_of(place)}#{anchor}", name, words)
                for place, (name, words) in enumerate(self._links)
                for anchor in [page.anchor(name)]
            ]
            ending = page.tail(
                links, self._run, self.failed, self.finished, self._agreements, self._halves
            )
            self._page.append(ending)
            failed = [{"source": source, "error": reason} for source, reason in self.failed]
            self._record.append(
                f'\n ],\n "failed": {_dump(failed)},\n "finished": {_dump(self.finished)}\n}}\n'
            )
            self._page.publish()
            self._record.publish()
            self._ranking.publish()

    def _page_of(self, place: int) -> str:
        return _PAGE_OF_MANY.format(place // _PAGE_LENGTH + 1) if self._n_pages else ""


def _ranking_of(entry: Mapping[str, Any]) -> list[list[object]]:
    """A photo's superpixels, a row each, of every method and segmenter, as its record has them."""
    return [
        [
            *(entry["name"], entry["source"], entry["target"]["name"]),
            *(each["method"], each["segmenter"]),
            *(one["rank"], one["label"], one["cluster"], one["area"], *one["box"], one["saliency"]),
        ]
        for each in entry["explanations"]
        for one in each["superpixels"]
    ]


def _half(entry: Mapping[str, Any]) -> Half:
    """The regions that hold half of what speaks for the class, by the first method."""
    ranking = entry["explanations"][0]["superpixels"]
    n_pixels = entry["size"][0] * entry["size"][1]
    return half_of([(one["label"], one["area"], one["saliency"]) for one in ranking], n_pixels)


def _csv(rows: Sequence[Sequence[object]]) -> str:
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()


def _dump(value: object) -> str:
    return json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False)
