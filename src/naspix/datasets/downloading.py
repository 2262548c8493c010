"""Fetching a published archive: continues where it broke off, is checked, and is unpacked safely.

Nothing here runs unasked. What has come so far lies beside its place as ``NAME.part``; unpacked
files appear only once the archive is whole and its checksum right.
"""

import contextlib
import errno
import hashlib
import http.client
import os
import re
import ssl
import tarfile
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from naspix.errors import DownloadError, OutputError

Step = Callable[[str, int, int | None], None]
"""Told what is being done, how many bytes of it are done, and of how many, if that is known."""

_BROKEN = (
    urllib.error.URLError,
    http.client.HTTPException,
    ssl.SSLError,
    ConnectionError,
    TimeoutError,
)
_BLOCK = 1 << 20
_TIMEOUT = 60.0
_PAUSES = (1.0, 2.0, 4.0, 8.0)  # seconds before each new try that has brought nothing yet


@dataclass(frozen=True)
class Archive:
    """A published file.

    Attributes:
        title: What people call it.
        url: Where its authors have it.
        md5: Its checksum.
        size: About how much it is to download, in words.
        folder: What it unpacks to.
        terms: What its authors ask for.
    """

    title: str
    url: str
    md5: str
    size: str
    folder: str
    terms: str

    @property
    def file_name(self) -> str:
        """The name of the archive."""
        return self.url.rpartition("/")[2]


ARCHIVES: Mapping[str, Archive] = {
    "stl10": Archive(
        title="STL-10",
        url="http://ai.stanford.edu/~acoates/stl10/stl10_binary.tar.gz",
        md5="91f7769df0f17e558f3565bffb0c7dfb",
        size="2.5 GB",
        folder="stl10_binary",
        terms="Coates, Ng and Lee, AISTATS 2011, are to be cited; pictures are from ImageNet",
    ),
    "cub": Archive(
        title="CUB-200-2011",
        url="https://data.caltech.edu/records/65de6-vp158/files/CUB_200_2011.tgz",
        md5="97eceeb196236b17998738112f37df78",
        size="1.1 GB",
        folder="CUB_200_2011",
        terms="Wah et al., 2011, are to be cited; pictures are for non-commercial research",
    ),
}


def fetch(
    archive: Archive,
    output: str | os.PathLike[str],
    *,
    step: Step = lambda doing, done, total: None,
    keep_archive: bool = False,
) -> Path:
    """Download an archive, check it, and unpack it.

    Args:
        archive: One of `ARCHIVES`.
        output: The folder to unpack in; made if it is not there.
        step: Told what goes on.
        keep_archive: Whether the archive stays beside what it held.

    Returns:
        The folder it unpacks to; if it is there already, nothing is done.

    Raises:
        DownloadError: If it cannot be had, or is not what was published.
        OutputError: If there is no room or no permission to write it.
    """
    place = Path(output)
    if (place / archive.folder).exists():
        return place / archive.folder
    whole = place / archive.file_name
    with _writing(place):
        place.mkdir(parents=True, exist_ok=True)
        if not whole.is_file():
            part = whole.with_name(f"{whole.name}.part")
            download(archive.url, part, step)
            part.replace(whole)
        _verify(whole, archive, step)
        _unpack(whole, place, archive, step)
        if not keep_archive:
            whole.unlink()
    return place / archive.folder


def download(url: str, part: Path, step: Step, pauses: tuple[float, ...] = _PAUSES) -> None:
    """Download a file, from where it broke off if some of it is there.

    Args:
        url: The file.
        part: Where it goes; what is there already is taken for its beginning.
        step: Told of each block.
        pauses: Seconds to wait before each new try, counted again once anything has come.

    Raises:
        DownloadError: If it cannot be had; what has come is kept.
    """
    tries = 0
    while True:
        before = _length(part)
        try:
            if _one_try(url, part, step):
                return
            reason = "the connection ended early"
        except urllib.error.HTTPError as error:
            if error.code < 500 and error.code not in (408, 429):
                raise DownloadError(f"{url} answers {error.code} {error.reason}") from None
            reason = f"it answers {error.code} {error.reason}"
        except (
            urllib.error.URLError,
            ssl.SSLError,
            http.client.HTTPException,
            TimeoutError,
        ) as error:
            reason = str(getattr(error, "reason", error)) or type(error).__name__
        tries = 0 if _length(part) > before else tries + 1
        if tries > len(pauses):
            kept = f"; {_length(part)} bytes are kept, and the same command goes on from there"
            raise DownloadError(
                f"{url} cannot be downloaded ({reason}){kept if _length(part) else ''}"
            )
        time.sleep(pauses[max(tries - 1, 0)] if pauses else 0)


def _one_try(url: str, part: Path, step: Step) -> bool:
    """Ask for what is missing; whether all of it came."""
    have = _length(part)
    request = urllib.request.Request(url, headers={"User-Agent": "naspix"})
    if have:
        request.add_header("Range", f"bytes={have}-")
    try:
        answer = urllib.request.urlopen(request, timeout=_TIMEOUT)
    except urllib.error.HTTPError as error:
        if error.code != 416 or not have:
            raise
        if _number(r"\*/(\d+)", error.headers.get("Content-Range")) == have:
            return True  # nothing is missing
        part.unlink()  # longer than the file, so no beginning of it
        return False
    with answer:
        coming = _number(r"(\d+)", answer.headers.get("Content-Length"))
        if answer.status == 206:
            if _number(r"bytes (\d+)-", answer.headers.get("Content-Range")) != have:
                part.unlink()
                return False
        else:
            have = 0  # the server sends all of it
        total = None if coming is None else have + coming
        with part.open("ab" if have else "wb") as file:
            step("downloading", have, total)
            while block := answer.read(_BLOCK):
                file.write(block)
                have += len(block)
                step("downloading", have, total)
    return total is None or have == total


def _verify(whole: Path, archive: Archive, step: Step) -> None:
    checksum = hashlib.md5(usedforsecurity=False)
    total, done = _length(whole), 0
    with whole.open("rb") as file:
        while block := file.read(_BLOCK):
            checksum.update(block)
            done += len(block)
            step("checking", done, total)
    if checksum.hexdigest() != archive.md5:
        whole.unlink()
        raise DownloadError(
            f"what came from {archive.url} is not {archive.title} as published (its MD5 is "
            f"{checksum.hexdigest()}, not {archive.md5}), so it was removed; try again"
        )


def _unpack(whole: Path, place: Path, archive: Archive, step: Step) -> None:
    """Unpack beside its place, then move it there: it is whole, or not there at all."""
    if not hasattr(tarfile, "data_filter"):
        raise DownloadError(
            f"this Python cannot unpack safely; update it, or unpack {str(whole)!r} yourself"
        )
    total = _length(whole)
    with tempfile.TemporaryDirectory(dir=place, prefix=".unpacking-") as hidden:
        try:
            with whole.open("rb") as file, tarfile.open(fileobj=file, mode="r:*") as tar:
                for member in tar:
                    tar.extract(member, hidden, filter="data")
                    step("unpacking", file.tell(), total)
        except tarfile.TarError as error:
            raise DownloadError(f"{str(whole)!r} cannot be unpacked: {error}") from None
        if not Path(hidden, archive.folder).is_dir():
            raise DownloadError(f"{str(whole)!r} holds no folder {archive.folder!r}")
        # the folder that says that all is there comes last
        for found in sorted(Path(hidden).iterdir(), key=lambda path: path.name == archive.folder):
            if not (place / found.name).exists():
                found.replace(place / found.name)


@contextlib.contextmanager
def _writing(place: Path) -> Iterator[None]:
    """Turn the system's errors into a sentence about what cannot be written."""
    try:
        yield
    except (DownloadError, OutputError):
        raise
    except OSError as error:
        where = error.filename if isinstance(error.filename, str) else str(place)
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        reason = "the disk is full; free some space" if full else error.strerror or str(error)
        raise OutputError(
            f"cannot write {where}: {reason}, or choose another folder with --output"
        ) from None


def _length(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _number(pattern: str, header: str | None) -> int | None:
    found = re.search(pattern, header or "")
    return int(found[1]) if found else None
