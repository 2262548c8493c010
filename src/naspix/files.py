"""Files that are there whole or not at all, and what is said where they cannot be written."""

import contextlib
import errno
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import numpy as np
from jaxtyping import UInt8

from naspix.errors import OutputError

_UNFINISHED = ".part"  # how a file is called that is being written


@contextlib.contextmanager
def written(target: Path, remedy: str = "choose another folder with --output") -> Iterator[None]:
    """Turn the system's errors into a sentence about what cannot be written.

    Args:
        target: What is being written.
        remedy: What to do about it.
    """
    try:
        yield
    except OutputError:
        raise
    except OSError as error:
        named = error.filename if isinstance(error.filename, str) else str(target)
        where = str(target) if named.endswith(_UNFINISHED) else named
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            reason = f"the disk is full; free some space or {remedy}"
        elif error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            reason = f"writing there is not allowed; {remedy}"
        elif error.errno in (errno.ENOTDIR, errno.EEXIST):
            reason = f"it, or a part of its path, is a file; {remedy}"
        else:
            reason = f"{error.strerror or error}; {remedy}"
        raise OutputError(f"cannot write {where}: {reason}") from None


def write_png(path: Path, picture: UInt8[np.ndarray, "H W *C"]) -> None:
    """Write a PNG whole or not at all."""
    from PIL import Image

    with write_whole(path) as file:
        Image.fromarray(picture).save(file, "png", compress_level=2)  # quick, a seventh larger


@contextlib.contextmanager
def write_whole(path: Path, *, durable: bool = False) -> Iterator[IO[bytes]]:
    """Open a file that appears at ``path`` only once everything is in it.

    Args:
        path: Where to; its folder exists.
        durable: For a large file that one process alone writes again and again: it is on the disk
            before it appears, and overwrites what an interrupted write left beside its place.
    """
    if durable:
        hidden = str(path.with_name(f".{path.name}{_UNFINISHED}"))
        descriptor = os.open(hidden, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
    else:
        descriptor, hidden = tempfile.mkstemp(dir=path.parent, prefix=".", suffix=_UNFINISHED)
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield file
            if durable:
                file.flush()
                os.fsync(file.fileno())
        _publish(hidden, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(hidden)
        raise


class GrowingFile:
    """A text that grows beside its place and is moved there when it is complete.

    What was appended in one call stays whole: an interrupted call leaves no half of it.
    """

    def __init__(self, place: Path) -> None:
        self._place = place
        descriptor, self._hidden = tempfile.mkstemp(
            dir=place.parent, prefix=f".{place.name}-", suffix=_UNFINISHED
        )
        self._file = os.fdopen(descriptor, "wb")
        self._length = 0

    def append(self, text: str) -> None:
        """Write a text at the end; half of one that was interrupted before is overwritten."""
        self._file.seek(self._length)
        self._file.truncate()
        self._file.write(text.encode())
        self._file.flush()
        self._length = self._file.tell()

    def publish(self, place: Path | None = None) -> None:
        """Close the file and move it to its place, or to another."""
        self._file.close()
        _publish(self._hidden, place or self._place)

    def discard(self) -> None:
        """Remove the file; nothing appears at its place."""
        with contextlib.suppress(OSError):
            self._file.close()
        with contextlib.suppress(OSError):
            os.unlink(self._hidden)


def _publish(hidden: str, place: Path) -> None:
    os.chmod(hidden, 0o666 & ~_umask())
    os.replace(hidden, place)


def _umask() -> int:
    """The process's file mask, which can only be read by setting it."""
    mask = os.umask(0o022)
    os.umask(mask)
    return mask
