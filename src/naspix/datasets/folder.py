"""A folder with a folder of pictures for every class, as torchvision and many others have it."""

import os
from dataclasses import KW_ONLY, dataclass, field
from pathlib import Path

from naspix.datasets.files import existing_folder, id_of, is_picture
from naspix.datasets.sample import Sample, position
from naspix.errors import DatasetError
from naspix.images import read_image, visible_files


@dataclass(frozen=True)
class ImageFolder:
    """Pictures whose class is the name of the folder that they lie in.

    Folders further down belong to the class above them; hidden files, and pictures outside of any
    class's folder, are passed over. Classes are sorted by name, pictures by path.

    Args:
        root: The folder that holds the classes' folders.
        categories: Names of classes in their order, such as those of the data that a network was
            trained on; without them, the folders' names. A folder that is not among them is an
            error, one that is missing is not.
        exif: Whether pictures are turned upright as their EXIF says; else they stay as stored.

    Raises:
        DatasetError: If there are no such folders, or one is of an unknown class.
    """

    root: str | os.PathLike[str]
    _: KW_ONLY
    categories: tuple[str, ...] = ()
    exif: bool = True
    _files: tuple[Path, ...] = field(init=False, repr=False, compare=False)
    _labels: tuple[int, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        root = existing_folder(self.root, "pictures")
        by_class = class_folders(root)
        if not by_class:
            raise DatasetError(
                f"{str(root)!r} holds no folders of pictures; make one for each class, named for it"
            )
        categories = tuple(self.categories or by_class)
        unknown = sorted(set(by_class) - set(categories))
        if unknown:
            raise DatasetError(
                f"the folder {unknown[0]!r} in {str(root)!r} is none of the {len(categories)} "
                f"classes asked for ({', '.join(categories[:3])}, ...)"
            )
        index = {name: i for i, name in enumerate(categories)}
        object.__setattr__(self, "categories", categories)
        object.__setattr__(self, "_files", tuple(f for files in by_class.values() for f in files))
        object.__setattr__(
            self, "_labels", tuple(index[name] for name, files in by_class.items() for _ in files)
        )

    @property
    def ids(self) -> tuple[str, ...]:
        """Paths below the root, such as ``"cat/001.jpg"``."""
        return tuple(id_of(file, self.root) for file in self._files)

    @property
    def labels(self) -> tuple[int, ...]:
        """The class of each picture."""
        return self._labels

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, index: int, /) -> Sample:
        """Read one picture; negative indices count from the end."""
        index = position(index, len(self))
        file = self._files[index]
        return Sample(
            id=id_of(file, self.root),
            image=read_image(file, exif=self.exif),
            label=self._labels[index],
        )


def class_folders(root: Path) -> dict[str, list[Path]]:
    """The pictures in and below each folder directly below the root, where there are any."""
    folders = sorted(f for f in root.iterdir() if f.is_dir() and not f.name.startswith("."))
    found = {f.name: [file for file in visible_files(f) if is_picture(file)] for f in folders}
    return {name: files for name, files in found.items() if files}
