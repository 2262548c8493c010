"""What data there is to reproduce the paper on: its own, or what is at hand, told in a sentence.

The paper's own are STL-10 and CUB (``--data``, as published). A folder of pictures (``--images``)
or of Pascal VOC boxes (``--boxes``) stands in for them; without any, four photos in scikit-image's
wheel do, with boxes drawn around their object for naspix.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from naspix import registry
from naspix.datasets import Dataset
from naspix.datasets.cub import find_cub
from naspix.datasets.stl10 import find_stl10
from naspix.errors import DatasetError
from naspix.evaluation.settings import Shuffled
from naspix.files import write_whole, written

# photo of skimage.data -> what it shows, and a box around it: left, top, right, bottom edge
PHOTOS: Mapping[str, tuple[str, tuple[int, int, int, int]]] = {
    "chelsea": ("cat", (0, 0, 395, 300)),
    "coffee": ("cup", (172, 18, 402, 316)),
    "rocket": ("rocket", (307, 126, 338, 410)),
    "astronaut": ("astronaut", (18, 14, 362, 512)),
}
_UNBOXED = "scikit-image's photos ({}), since none were given by --images or --data"
_BOXED = (
    "scikit-image's photos ({}) with boxes drawn for naspix, since none were given by --boxes or "
    "--data"
)
_ANNOTATION = (
    "<annotation><filename>{name}.png</filename><object><name>{what}</name><bndbox><xmin>{x0}"
    "</xmin><ymin>{y0}</ymin><xmax>{x1}</xmax><ymax>{y1}</ymax></bndbox></object></annotation>\n"
)


@dataclass(frozen=True)
class Source:
    """Pictures that were found.

    Attributes:
        dataset: A name in ``naspix.registry.DATASETS``.
        root: Its folder.
        sentence: What they are, to follow "12 pictures:".
        parameters: Of the data set.
        is_papers: Whether the paper used them.
    """

    dataset: str
    root: str
    sentence: str
    parameters: Mapping[str, Any] = field(default_factory=dict)
    is_papers: bool = False

    def open(self) -> Dataset:
        """The data set, in a shuffled order that is always the same, so that a part is a sample.

        Raises:
            DatasetError: It is not there, or damaged.
        """
        dataset: Dataset = registry.find_dataset(self.dataset)(self.root, **self.parameters)
        return Shuffled(dataset)

    def counted(self, n: int) -> str:
        """A sentence about so many of them.

        Example:
            >>> Source("stl10", "data", "STL-10's test split").counted(12)
            "On 12 pictures: STL-10's test split."
        """
        return f"On {n} {'picture' if n == 1 else 'pictures'}: {self.sentence}."

    def to_plain(self) -> dict[str, Any]:
        """All of it as JSON knows it."""
        return asdict(self)

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> "Source":
        """What `to_plain` gave."""
        return cls(**plain)


@dataclass(frozen=True, kw_only=True)
class AtHand:
    """Folders that were given.

    Attributes:
        data: STL-10, CUB, or both, as published.
        images: Pictures, or folders of them named for their classes.
        boxes: Pictures with boxes in Pascal VOC's XML.
    """

    data: Path | None = None
    images: Path | None = None
    boxes: Path | None = None

    def to_plain(self) -> dict[str, str | None]:
        """All of it as JSON knows it."""
        given = {"data": self.data, "images": self.images, "boxes": self.boxes}
        return {
            name: None if folder is None else str(folder.absolute())
            for name, folder in given.items()
        }

    def photos(self, spare: Path) -> Source:
        """Pictures to look at.

        Args:
            spare: A folder for scikit-image's photos, if they are needed.

        Raises:
            DatasetError: A folder that was given holds none.
        """
        if self.images is not None:
            found = self._images("photos")
        else:
            found = self._stl10() or self._cub() or self._boxes() or usual_photos(spare)
        return _checked(found)

    def labelled(self) -> Source | None:
        """Pictures with classes: STL-10's test split, or the folders of ``images``; else None.

        Raises:
            DatasetError: ``data`` holds neither STL-10 nor CUB.
        """
        found = self._stl10()
        if found is None and self.images is not None and _has_classes(self.images):
            found = self._images("folder")
        return None if found is None else _checked(found)

    def boxed(self, spare: Path) -> Source:
        """Pictures with boxes: CUB's test split, VOC boxes, or those around scikit-image's photos.

        Args:
            spare: A folder for scikit-image's photos, if they are needed.

        Raises:
            DatasetError: A folder that was given holds none.
        """
        return _checked(self._cub() or self._boxes() or usual_photos(spare, boxed=True))

    def _images(self, kind: str) -> Source:
        assert self.images is not None
        return Source(kind, str(self.images.absolute()), f"the folder {self.images.name}")

    def _boxes(self) -> Source | None:
        if self.boxes is None:
            return None
        return Source(
            "voc", str(self.boxes.absolute()), f"the folder {self.boxes.name} with its boxes"
        )

    def _stl10(self) -> Source | None:
        return self._published("stl10", "STL-10's test split")

    def _cub(self) -> Source | None:
        return self._published("cub", "CUB's test split")

    def _published(self, name: str, sentence: str) -> Source | None:
        """The data set if it lies in ``data``, damaged or not; that neither does is an error."""
        if self.data is None:
            return None
        if not self.data.is_dir():
            raise DatasetError(f"the folder {str(self.data)!r}, given by --data, does not exist")
        there = {"stl10": find_stl10(self.data) is not None, "cub": find_cub(self.data)}
        if not any(there.values()):
            raise DatasetError(
                f"--data holds neither data set of the paper: STL-10 has test_X.bin in "
                f"{str(self.data)!r} or in stl10_binary, CUB-200-2011 has images.txt there or in "
                "CUB_200_2011; `naspix data fetch` downloads them, and other pictures are given by "
                "--images or --boxes"
            )
        if not there[name]:
            return None
        return Source(name, str(self.data.absolute()), sentence, is_papers=True)


def usual_photos(folder: Path, *, boxed: bool = False) -> Source:
    """Scikit-image's photos as files, with a box around the object of each.

    Args:
        folder: Made if it is not there.
        boxed: Whether the boxes are wanted.

    Raises:
        OutputError: They cannot be written.
    """
    import skimage.data
    from PIL import Image

    with written(folder):
        folder.mkdir(parents=True, exist_ok=True)
        for name, (what, (x0, y0, x1, y1)) in PHOTOS.items():
            if not (folder / f"{name}.png").exists():
                with write_whole(folder / f"{name}.png") as file:
                    Image.fromarray(getattr(skimage.data, name)()).save(file, "png")
            with write_whole(folder / f"{name}.xml") as file:
                text = _ANNOTATION.format(name=name, what=what, x0=x0 + 1, y0=y0 + 1, x1=x1, y1=y1)
                file.write(text.encode())
    names = ", ".join(PHOTOS)
    if boxed:
        return Source("voc", str(folder.absolute()), _BOXED.format(names))
    return Source("photos", str(folder.absolute()), _UNBOXED.format(names))


def _checked(source: Source) -> Source:
    """A source that can be opened, so that what is wrong is said before anything is computed."""
    source.open()
    return source


def _has_classes(folder: Path) -> bool:
    return folder.is_dir() and sum(child.is_dir() for child in folder.iterdir()) > 1
