"""Pictures in a folder and nothing else about them: no classes, no boxes."""

import os
from dataclasses import KW_ONLY, dataclass, field
from pathlib import Path

from naspix.datasets.files import existing_folder, id_of, is_picture
from naspix.datasets.sample import Sample, position
from naspix.errors import DatasetError
from naspix.images import read_image, visible_files


@dataclass(frozen=True)
class Photos:
    """All pictures in and below a folder, without labels, sorted by path.

    Args:
        root: The folder.
        exif: Whether pictures are turned upright as their EXIF says; else they stay as stored.

    Raises:
        DatasetError: If there are no pictures.
    """

    root: str | os.PathLike[str]
    _: KW_ONLY
    exif: bool = True
    _files: tuple[Path, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        root = existing_folder(self.root, "pictures")
        files = tuple(file for file in visible_files(root) if is_picture(file))
        if not files:
            raise DatasetError(f"there is no picture in {str(root)!r} or below it")
        object.__setattr__(self, "_files", files)

    @property
    def ids(self) -> tuple[str, ...]:
        """Paths below the root."""
        return tuple(id_of(file, self.root) for file in self._files)

    @property
    def labels(self) -> tuple[None, ...]:
        """None for each picture."""
        return (None,) * len(self._files)

    @property
    def categories(self) -> tuple[str, ...]:
        """There are none."""
        return ()

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, index: int, /) -> Sample:
        """Read one picture; negative indices count from the end."""
        file = self._files[position(index, len(self))]
        return Sample(id=id_of(file, self.root), image=read_image(file, exif=self.exif))
