"""Example files: what is written is what the data sets read."""

import numpy as np
import pytest
from skimage import data

from naspix.datasets import ImageFolder, VOCBoxes, check, write_example
from naspix.errors import OutputError


def test_every_reader_takes_what_is_written(tmp_path):
    files = write_example(tmp_path / "new" / "folder")
    assert all(file.stat().st_size > 100 for file in files)
    root = tmp_path / "new" / "folder"
    assert not check(root / "boxes").broken
    boxes = VOCBoxes(root / "boxes")
    assert [boxes[i].id for i in range(3)] == ["cat", "cup", "rocket"]
    for i in range(3):
        (box,) = boxes[i].boxes.tolist()
        height, width = boxes[i].image.shape[1:]
        assert 0 <= box[0] < box[2] <= width
        assert 0 <= box[1] < box[3] <= height
    cat = boxes[0].image.permute(1, 2, 0).numpy()
    assert np.abs(cat - data.chelsea() / 255).mean() < 0.02  # JPEG's loss
    classes = ImageFolder(root / "classes")
    assert (classes.categories, len(classes)) == (("cat", "cup"), 6)


def test_nothing_is_overwritten(tmp_path):
    (tmp_path / "cup.jpg").write_text("mine")
    with pytest.raises(OutputError, match=r"cup.jpg' already; choose another folder"):
        write_example(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["cup.jpg"]
