"""Files of pictures: found below folders, by patterns, and shown by names that anyone can print."""

import glob
import os
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path

from naspix.errors import InputError, NaspixWarning

SUFFIXES = frozenset(
    f".{name}"
    for name in (
        *("jpg", "jpeg", "jpe", "jfif", "png", "webp", "bmp", "gif"),
        *("tif", "tiff", "ppm", "pgm", "pbm", "jp2", "avif", "heic", "heif"),
    )
)


def expand_paths(sources: Iterable[str | os.PathLike[str]]) -> list[Path]:
    """List the image files that paths, folders and patterns stand for, each once.

    Folders are searched as `visible_files` does, for names that end like an image's. A pattern such
    as ``"photos/*.png"``, which not every shell expands, is expanded where no file has that name. A
    file that is named itself is kept whatever its name, and if it does not exist: reading it will
    say so.

    Raises:
        InputError: If a folder holds no image, or a pattern fits nothing.
    """
    paths: dict[Path, None] = {}
    for source in sources:
        for path in _matching(Path(source)):
            if not path.is_dir():
                paths[path] = None
                continue
            found = [file for file in visible_files(path) if file.suffix.lower() in SUFFIXES]
            if not found:
                raise InputError(f"there is no image in the folder {str(path)!r}")
            paths.update(dict.fromkeys(sorted(found)))
    return list(paths)


def visible_files(folder: Path) -> Iterator[Path]:
    """All files below a folder that are not hidden, in one order on every machine.

    Symbolic links are followed, a link whose target is gone is passed on as a file; a folder that
    is reached twice, as in a circle of links, is read once.

    Warns:
        NaspixWarning: A folder may not be read.
    """
    root = Path(os.path.realpath(folder))
    visited = {str(root)}

    def below(place: Path) -> Iterator[Path]:
        try:
            with os.scandir(place) as listing:
                entries = sorted(listing, key=lambda entry: entry.name)
        except OSError as error:
            warnings.warn(
                f"the folder {str(place)!r} cannot be read ({error.strerror}) and is left out",
                NaspixWarning,
                stacklevel=2,
            )
            return
        entries = [entry for entry in entries if not entry.name.startswith(".")]
        for entry in entries:
            if not entry.is_dir() and (entry.is_file() or entry.is_symlink()):
                yield place / entry.name
        for entry in entries:
            if not entry.is_dir():
                continue
            real = Path(os.path.realpath(entry.path))
            inside = real.is_relative_to(root) and not any(
                part.startswith(".") for part in real.relative_to(root).parts
            )
            if str(real) in visited or (entry.is_symlink() and inside):
                continue  # seen, or to be seen by its own name
            visited.add(str(real))
            yield from below(place / entry.name)

    yield from below(Path(folder))


def shown(path: str | os.PathLike[str]) -> str:
    r"""A path as text that can be printed and stored: what is no UTF-8 is escaped.

    Example:
        >>> print(shown("caf\udce9.png"))
        caf\udce9.png
    """
    return os.fspath(path).encode("utf-8", "backslashreplace").decode()


def _matching(path: Path) -> list[Path]:
    """What a pattern stands for; a path that is none, or is there as it is, stands for itself."""
    if not glob.has_magic(str(path)) or os.path.lexists(path):
        return [path]
    found = sorted(glob.glob(str(path), recursive=True))
    if not found:
        raise InputError(f"nothing fits the pattern {str(path)!r}")
    return [Path(one) for one in found]
