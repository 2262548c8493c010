"""Boxes and masks in COCO's JSON, wherever the pictures lie.

Source: Lin et al., "Microsoft COCO: Common Objects in Context", ECCV 2014, and the description of
the format at cocodataset.org. COCO counts at the edges; its boxes are left, top, width and height.
Objects marked as crowds are regions to be ignored: they give neither boxes nor masks.
"""

import json
import os
import warnings
from dataclasses import KW_ONLY, dataclass, field
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool
from torch import Tensor

from naspix.datasets.boxes import fitted_boxes, scale_to
from naspix.datasets.files import Pictures, existing_folder
from naspix.datasets.frames import find_frame
from naspix.datasets.masks import union_mask
from naspix.datasets.sample import Sample, only_one, position
from naspix.errors import DatasetError, InputError, NaspixWarning
from naspix.images import read_image, shown, visible_files

_MOST_BYTES_GUESSED = 2_000_000_000  # no annotation file is larger, so none is parsed to find out


@dataclass(frozen=True)
class COCOBoxes:
    """Pictures with boxes, and masks where there are polygons or run lengths, from COCO's JSON.

    Args:
        root: The folder that holds the JSON file and the pictures; or the JSON file, whose folder,
            or the one above it if it is called ``annotations``, holds the pictures.
        annotations: The JSON file's name or path below the root, needed where there are several.
        exif: Whether pictures are turned upright as their EXIF says, unless boxes were drawn before
            that, which the size that annotations declare tells; else they stay as stored.

    Attributes:
        ids: The pictures' file names as in the JSON file, in its order.
        labels: The class that all boxes of a picture share; None where there is none, or several.
        categories: Their names, in the order of COCO's numbers, which may have gaps and are not
            the labels.

    Raises:
        DatasetError: If there is no such file, it is damaged, or there are several to choose from.

    Warns:
        NaspixWarning: Annotations are of pictures that the file does not list, or of a category
            that it does not list, or do not name these, or have neither a box nor polygons; each is
            left out.
    """

    root: str | os.PathLike[str]
    _: KW_ONLY
    annotations: str | os.PathLike[str] | None = None
    exif: bool = True
    ids: tuple[str, ...] = field(init=False, repr=False, compare=False)
    labels: tuple[int | None, ...] = field(init=False, repr=False, compare=False)
    categories: tuple[str, ...] = field(init=False, repr=False, compare=False)
    _images: tuple[dict[str, Any], ...] = field(init=False, repr=False, compare=False)
    _objects: dict[Any, list[dict[str, Any]]] = field(init=False, repr=False, compare=False)
    _numbers: dict[Any, int] = field(init=False, repr=False, compare=False)
    _pictures: Pictures = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        root, file = _located(Path(self.root), self.annotations)
        content = read_instances(file)
        named = sorted(content["categories"], key=lambda one: one["id"])
        numbers = {one["id"]: i for i, one in enumerate(named)}
        objects: dict[Any, list[dict[str, Any]]] = {one["id"]: [] for one in content["images"]}
        if len(objects) < len(content["images"]):
            raise DatasetError(f"{str(file)!r} lists pictures twice under the same id")
        annotations = content["annotations"]
        sound = {i: one for i, one in enumerate(annotations) if _names_both(one)}
        strangers = [one for one in sound.values() if one["image_id"] not in objects]
        if strangers:
            warnings.warn(
                f"{len(strangers)} of {len(annotations)} annotations in {str(file)!r} "
                f"are of pictures that it does not list, such as {strangers[0]['image_id']!r}; "
                "they are left out",
                NaspixWarning,
                stacklevel=3,
            )
        faults = []
        for i, one in enumerate(annotations):
            if i not in sound:
                faults.append(f"{i} must have image_id and category_id")
                continue
            if one.get("iscrowd") or one["image_id"] not in objects:
                continue
            box = _box(one)
            if box is None:
                faults.append(f"the bbox of {i} must be four numbers, left, top, width and height")
            elif one["category_id"] not in numbers:
                faults.append(f"{i} has the category {one['category_id']}, which is not listed")
            else:
                objects[one["image_id"]].append({**one, "bbox": box})
        if faults:
            some = "; ".join(faults[:4]) + ("; ..." if len(faults) > 4 else "")
            if not any(objects.values()):
                raise DatasetError(f"no annotation in {str(file)!r} can be used: {some}")
            warnings.warn(
                f"{len(faults)} of {len(annotations)} annotations in {str(file)!r} are left out, "
                f"counted from 0: {some}",
                NaspixWarning,
                stacklevel=3,
            )
        labels = [
            only_one([numbers[one["category_id"]] for one in objects[image["id"]]])
            for image in content["images"]
        ]
        object.__setattr__(self, "ids", tuple(shown(one["file_name"]) for one in content["images"]))
        object.__setattr__(self, "labels", tuple(labels))
        object.__setattr__(self, "categories", tuple(str(one["name"]) for one in named))
        object.__setattr__(self, "_images", tuple(content["images"]))
        object.__setattr__(self, "_objects", objects)
        object.__setattr__(self, "_numbers", numbers)
        object.__setattr__(self, "_pictures", Pictures(root))

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: int, /) -> Sample:
        """Read one picture, its boxes and masks; negative indices count from the end."""
        index = position(index, len(self))
        described = self._images[index]
        drawn_on, objects = _size(described), self._objects[described["id"]]
        picture = self._pictures.find(described["file_name"])
        frame = find_frame(picture, drawn_on, exif=self.exif, drawn=bool(objects))
        image = read_image(picture, exif=frame.upright)
        size = image.shape[1], image.shape[2]
        boxes = fitted_boxes(
            [one["bbox"] for one in objects],
            [self._numbers[one["category_id"]] for one in objects],
            size,
            drawn_on,
        )
        mask, problem = self._mask(objects, size, drawn_on)
        return Sample(
            id=self.ids[index],
            image=image,
            label=self.labels[index],
            boxes=boxes.boxes,
            box_labels=boxes.labels,
            mask=mask,
            problems=boxes.problems + problem + frame.problems,
        )

    def _mask(
        self,
        objects: list[dict[str, Any]],
        size: tuple[int, int],
        drawn_on: tuple[int, int] | None,
    ) -> tuple[Bool[Tensor, "H W"] | None, tuple[str, ...]]:
        """All objects' masks as one, at the picture's size."""
        shapes = [one["segmentation"] for one in objects if one.get("segmentation")]
        if not shapes or scale_to(size, drawn_on) is None:
            return None, ()
        try:
            mask = torch.from_numpy(union_mask(shapes, drawn_on or size))
        except InputError as error:
            return None, (f"the masks are left out, since {error}",)
        if tuple(mask.shape) != size:
            scaled = torch.nn.functional.interpolate(mask[None, None].float(), size)
            mask = scaled[0, 0] > 0.5
        return mask, ()


def read_instances(file: Path) -> dict[str, list[dict[str, Any]]]:
    """Read COCO's JSON as far as boxes are concerned.

    Raises:
        DatasetError: If it is damaged, or something else.
    """
    try:
        content = json.loads(file.read_bytes())
    except OSError as error:
        raise DatasetError(f"{str(file)!r} cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise DatasetError(f"{str(file)!r} is damaged, or no JSON: {error}") from None
    for part, keys in (
        ("images", ("id", "file_name")),
        ("annotations", ()),  # each of which costs itself
        ("categories", ("id", "name")),
    ):
        entries = content.get(part) if isinstance(content, dict) else None
        if not isinstance(entries, list):
            raise DatasetError(
                f"{str(file)!r} is not COCO's JSON of boxes: it has no list {part!r}"
            )
        for i, entry in enumerate(entries):
            if keys and (not isinstance(entry, dict) or any(key not in entry for key in keys)):
                raise DatasetError(
                    f"entry {i} of {part!r} in {str(file)!r} must have {', '.join(keys)}"
                )
    return {part: content[part] for part in ("images", "annotations", "categories")}


def find_instances(root: Path) -> list[Path]:
    """JSON files below a folder that begin as COCO's may; which of them are, reading tells."""
    return [
        path
        for path in visible_files(root)
        if path.suffix.lower() == ".json"
        and path.stat().st_size < _MOST_BYTES_GUESSED
        and _looks_like_coco(path)
    ]


def _looks_like_coco(path: Path) -> bool:
    """Whether the three lists are there; large files are searched, not parsed."""
    wanted = {b'"images"', b'"annotations"', b'"categories"'}
    tail = b""
    with path.open("rb") as file:
        while wanted and (block := file.read(1 << 20)):
            wanted = {word for word in wanted if word not in tail + block}
            tail = block[-16:]
    return not wanted


def _names_both(annotation: object) -> bool:
    """Whether an annotation says of which picture and which category it is."""
    return isinstance(annotation, dict) and all(
        isinstance(annotation.get(key), int | str) for key in ("image_id", "category_id")
    )


def _located(root: Path, annotations: str | os.PathLike[str] | None) -> tuple[Path, Path]:
    """The folder of the pictures, and the JSON file."""
    if root.is_file():
        above = root.parent
        return (above.parent if above.name == "annotations" else above), root
    existing_folder(root, "COCO annotations")
    if annotations is not None:
        file = root / annotations
        if not file.is_file():
            raise DatasetError(f"there is no annotation file {str(file)!r}")
        return root, file
    found = find_instances(root)
    if not found:
        raise DatasetError(
            f"there is no JSON file with 'images', 'annotations' and 'categories' in {str(root)!r} "
            "or below it, as COCO has them"
        )
    if len(found) > 1:
        names = ", ".join(path.relative_to(root).as_posix() for path in found[:4])
        raise DatasetError(
            f"there are {len(found)} annotation files in {str(root)!r} ({names}); name one"
        )
    return root, found[0]


def _box(annotation: dict[str, Any]) -> tuple[float, float, float, float] | None:
    """The edges of an annotation's box, or else of its polygons; None if it has neither."""
    box = annotation.get("bbox")
    if (
        isinstance(box, list)
        and len(box) == 4
        and all(isinstance(side, int | float) for side in box)
    ):
        left, top, width, height = (float(side) for side in box)
        return left, top, left + width, top + height
    try:
        points = torch.cat(
            [
                torch.tensor(polygon, dtype=torch.float64).reshape(-1, 2)
                for polygon in annotation["segmentation"]
            ]
        )
        left, top = points.amin(0).tolist()
        right, bottom = points.amax(0).tolist()
    except (KeyError, TypeError, ValueError, RuntimeError, IndexError):
        return None
    return left, top, right, bottom


def _size(image: dict[str, Any]) -> tuple[int, int] | None:
    height, width = image.get("height"), image.get("width")
    if isinstance(height, int) and isinstance(width, int) and height > 0 and width > 0:
        return height, width
    return None
