"""Pictures that EXIF turns: boxes and masks stay where they were drawn."""

import json
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from naspix.datasets import COCOBoxes, ImageFolder, VOCBoxes
from naspix.errors import NaspixWarning

WIDE, HIGH = (20, 40), (40, 20)  # height, width as stored, and upright


def _picture(path: Path, turn: int, size: tuple[int, int] = WIDE) -> None:
    """Black, with a white corner at the top left as stored."""
    pixels = np.zeros((*size, 3), np.uint8)
    pixels[:8, :8] = 255
    picture = Image.fromarray(pixels)
    picture.getexif()[0x0112] = turn
    picture.save(path, exif=picture.getexif())


def _voc(root: Path, turn: int, declared: tuple[int, int] | None, box: str, **kind: bool):
    _picture(root / "a.png", turn, (20, 20) if declared == (20, 20) else WIDE)
    height, width = declared or ("", "")
    size = f"<height>{height}</height><width>{width}</width>"
    left, top, right, bottom = box.split()
    (root / "a.xml").write_text(
        f"<annotation><filename>a.png</filename><size>{size}</size><object><name>cat</name>"
        f"<bndbox><xmin>{left}</xmin><ymin>{top}</ymin><xmax>{right}</xmax><ymax>{bottom}</ymax>"
        "</bndbox></object></annotation>"
    )
    return VOCBoxes(root, first_pixel=0, **kind)[0]


def _whiteness(sample) -> float:
    left, top, right, bottom = sample.boxes[0].long().tolist()
    return float(sample.image[:, top:bottom, left:right].mean())


@pytest.mark.parametrize(
    ("declared", "box", "shape"),
    [
        (WIDE, "0 0 8 8", WIDE),  # drawn as stored
        (HIGH, "12 0 20 8", HIGH),  # drawn upright, a quarter clockwise
        ((40, 80), "0 0 16 16", WIDE),  # the same on larger copies
        ((80, 40), "24 0 40 16", HIGH),
    ],
)
def test_the_frame_that_is_declared_is_taken(tmp_path, declared, box, shape):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        sample = _voc(tmp_path, 6, declared, box)
    assert tuple(sample.image.shape[1:]) == shape
    assert _whiteness(sample) == 1
    assert not sample.problems


@pytest.mark.parametrize(
    ("turn", "declared"), [(6, None), (6, (0, 0)), (6, (20, 20)), (3, WIDE), (2, WIDE), (6, (9, 9))]
)
def test_what_does_not_tell_is_taken_upright_with_a_warning(tmp_path, turn, declared):
    with pytest.warns(NaspixWarning, match="do not tell whether they were drawn before or after"):
        sample = _voc(tmp_path, turn, declared, "0 0 8 8")
    square = declared == (20, 20)
    assert tuple(sample.image.shape[1:]) == ((20, 20) if square else HIGH if turn == 6 else WIDE)
    assert "nothing tells whether boxes were drawn before" in sample.problems[-1]


def test_exif_can_be_left_out(tmp_path):
    sample = _voc(tmp_path, 3, WIDE, "0 0 8 8", exif=False)
    assert _whiteness(sample) == 1
    (tmp_path / "cat").mkdir()
    _picture(tmp_path / "cat" / "a.png", 6)
    assert tuple(ImageFolder(tmp_path)[0].image.shape[1:]) == HIGH
    assert tuple(ImageFolder(tmp_path, exif=False)[0].image.shape[1:]) == WIDE


def _coco(root: Path, annotations: list[object]) -> COCOBoxes:
    _picture(root / "a.png", 6)
    content = {
        "images": [{"id": 1, "file_name": "a.png", "height": WIDE[0], "width": WIDE[1]}],
        "annotations": annotations,
        "categories": [{"id": 3, "name": "cat"}],
    }
    (root / "instances.json").write_text(json.dumps(content))
    return COCOBoxes(root)


CAT = {"image_id": 1, "category_id": 3, "segmentation": [[0, 0, 8, 0, 8, 8, 0, 8]]}


def test_masks_lie_in_the_same_frame(tmp_path):
    sample = _coco(tmp_path, [CAT])[0]
    assert tuple(sample.mask.shape) == WIDE == tuple(sample.image.shape[1:])
    assert float(sample.image[:, sample.mask].mean()) == 1
    assert int(sample.mask.sum()) == 64
    assert _whiteness(sample) == 1


@pytest.mark.parametrize(
    "bad", [{"category_id": 3}, {"image_id": 1}, 1, {"image_id": [1], "category_id": 3}]
)
def test_an_annotation_that_names_nothing_costs_itself(tmp_path, bad):
    with pytest.warns(NaspixWarning, match="1 of 2 .*: 1 must have image_id and category_id"):
        dataset = _coco(tmp_path, [CAT, bad])
    assert len(dataset[0].boxes) == 1


def test_names_that_are_no_utf8_are_escaped(tmp_path):
    import os

    (tmp_path / "cat").mkdir()
    _picture(tmp_path / "cat" / "a.png", 1)
    os.rename(os.fsencode(tmp_path / "cat" / "a.png"), os.fsencode(tmp_path) + b"/cat/caf\xe9.png")
    dataset = ImageFolder(tmp_path)
    assert dataset.ids == ("cat/caf\\udce9.png",)
    assert dataset[0].id.encode() == b"cat/caf\\udce9.png"
