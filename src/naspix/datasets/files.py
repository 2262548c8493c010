"""Finding and reading a data set's files, with a sentence for each that is not there.

Pictures are looked for by name below one folder only, so that no annotation file can have another
read.
"""

import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath

from naspix.errors import DatasetError, ImageError
from naspix.images import SUFFIXES, shown, visible_files


def existing_folder(root: str | os.PathLike[str], what: str) -> Path:
    """The folder, if it is one.

    Raises:
        DatasetError: If it is not.
    """
    folder = Path(root)
    if not folder.is_dir():
        problem = "is a file, not a folder" if folder.is_file() else "does not exist"
        raise DatasetError(f"the folder {str(folder)!r} of {what} {problem}")
    return folder


def read_lines(path: Path, what: str) -> list[str]:
    """The lines of a text file that are not blank.

    Raises:
        DatasetError: If it cannot be read, with ``what`` it should have been.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise DatasetError(f"there is no file {str(path)!r}, {what}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise DatasetError(f"{str(path)!r}, {what}, cannot be read: {error}") from None
    return [line for line in text.splitlines() if line.strip()]


def id_of(file: Path, root: str | os.PathLike[str]) -> str:
    """A picture's name in a data set: its path below the root, fit to be printed and stored."""
    return shown(file.relative_to(root).as_posix())


def is_picture(path: Path) -> bool:
    """Whether a file's name ends like an image's."""
    return path.suffix.lower() in SUFFIXES


@dataclass(frozen=True)
class Pictures:
    """The image files below a folder, found by the names that annotations call them.

    Args:
        root: All below it is searched, once.
    """

    root: Path

    def __contains__(self, name: str) -> bool:
        return _portable(name).stem in self._by_stem

    def find(self, name: str, near: Path | None = None) -> Path:
        """The file that an annotation means.

        Args:
            name: File name or path, also of a machine elsewhere, of which only as much counts as
                there is below the folder. Another suffix will do.
            near: A folder whose picture is meant if all else leaves it open.

        Raises:
            ImageError: If there is no such file, or it cannot be told which is meant.
        """
        wanted = _portable(name)
        found = [f for f in self._by_stem.get(wanted.stem, []) if f.name == wanted.name]
        found = found or self._by_stem.get(wanted.stem, [])
        if not found:
            raise ImageError(
                f"there is no image file {wanted.name!r} in {str(self.root)!r} or below it"
            )
        alike = [_n_alike(path, wanted) for path in found]
        best = [path for path, n in zip(found, alike, strict=True) if n == max(alike)]
        best = [path for path in best if path.parent == near] or best
        if len(best) > 1:
            raise ImageError(
                f"{name!r} may be any of {len(best)} image files in {str(self.root)!r}, such as "
                f"{str(best[0])!r} and {str(best[1])!r}; give the folder of the right ones"
            )
        return best[0]

    @cached_property
    def _by_stem(self) -> dict[str, list[Path]]:
        stems: dict[str, list[Path]] = {}
        for path in visible_files(self.root):
            if is_picture(path):
                stems.setdefault(path.stem, []).append(path)
        return stems


def _portable(name: str) -> PurePosixPath:
    return PurePosixPath(name.replace("\\", "/"))


def _n_alike(path: Path, wanted: PurePosixPath) -> int:
    """How many folders above the file have the names that are wanted."""
    number = 0
    for mine, theirs in zip(path.parts[-2::-1], wanted.parts[-2::-1], strict=False):
        if mine != theirs:
            break
        number += 1
    return number
