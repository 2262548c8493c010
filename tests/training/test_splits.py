"""Which pictures are learned from, and which folders are refused."""

import numpy as np
import published
import pytest
from painted import paint
from PIL import Image

from naspix.errors import DatasetError, InputError, UnknownNameError
from naspix.training import open_splits
from naspix.training.splits import broken_ids, parts_of


def test_a_share_of_each_class_is_set_aside(colours):
    splits = open_splits("folder", colours, val_share=0.3)
    assert splits.categories == ("blue", "green", "red")
    assert np.bincount(splits.train.labels).tolist() == [7, 7, 7]
    assert np.bincount(splits.val.labels).tolist() == [3, 3, 3]
    assert not set(splits.train.ids) & set(splits.val.ids)
    assert splits.test is None
    assert splits.train.ids == open_splits("folder", colours, val_share=0.3).train.ids
    assert splits.train.ids != open_splits("folder", colours, val_share=0.3, seed=1).train.ids
    assert splits.train[0].label == splits.train.labels[0]


def test_splits_that_lie_there_are_taken(tmp_path):
    paint(tmp_path / "train", 2)
    paint(tmp_path / "validation", 1)
    paint(tmp_path / "test", 3)
    splits = open_splits("folder", tmp_path)
    assert [len(splits.train), len(splits.val), len(splits.test)] == [6, 3, 9]
    assert not splits.notes


def test_a_class_may_be_called_train(tmp_path):
    paint(tmp_path, 3)
    (tmp_path / "red").rename(tmp_path / "train")
    assert open_splits("folder", tmp_path).categories == ("blue", "green", "train")


def test_stl10(tmp_path):
    published.stl10(tmp_path, 40)
    splits = open_splits("stl10", tmp_path)
    assert [len(splits.train), len(splits.val), len(splits.test)] == [30, 10, 40]
    assert splits.categories[9] == "truck"


def test_cub_validates_with_cubv2_where_its_pictures_are(tmp_path):
    published.cub(tmp_path)
    train, val, test, notes = parts_of("cub", tmp_path)
    assert (len(train), val, len(test)) == (1, None, 2)
    assert notes == ("CUBv2's validation split is not there",)
    published.cub_lists(tmp_path)
    train, val, test, notes = parts_of("cub", tmp_path)
    assert (len(train), len(val), len(test), notes) == (1, 1, 2, ())
    (tmp_path / "CUBV2" / "002.Wren" / "99,1.png").unlink()  # the lists alone will not do
    assert parts_of("cub", tmp_path)[1] is None
    with pytest.raises(DatasetError, match="and so have 199 other classes too few"):
        open_splits("cub", tmp_path)


def test_too_few_pictures_of_a_class(tmp_path):
    paint(tmp_path, 2)
    (tmp_path / "green" / "00.png").unlink()
    with pytest.raises(DatasetError, match=r"'green' has 1 picture to learn from; at least 2"):
        open_splits("folder", tmp_path)


def test_folders_of_another_kind(tmp_path, colours):
    published.voc(tmp_path / "voc")
    with pytest.raises(DatasetError, match="looks like Pascal VOC's XML"):
        open_splits("stl10", tmp_path / "voc")
    with pytest.raises(
        DatasetError, match=r"has one class, 'JPEGImages', .* like Pascal VOC's XML"
    ):
        open_splits("folder", tmp_path / "voc")
    with pytest.raises(DatasetError, match=r"a folder for each class; --dataset folder reads it"):
        open_splits("cub", colours)
    with pytest.raises(DatasetError, match="there is no STL-10"):
        open_splits("stl10", tmp_path)
    published.cub(tmp_path / "birds")
    with pytest.raises(DatasetError, match=r"no folder .* CUB-200-2011.*; --dataset cub reads it"):
        open_splits("folder", tmp_path / "birds")  # whose folders are no classes
    with pytest.raises(UnknownNameError, match="no data set to learn from 'voc'"):
        open_splits("voc", tmp_path)
    with pytest.raises(InputError, match="between 0 and 1"):
        open_splits("folder", colours, val_share=1.0)


def test_a_validation_split_with_other_classes(tmp_path):
    paint(tmp_path / "train", 2)
    paint(tmp_path / "val", 1)
    (tmp_path / "val" / "red").rename(tmp_path / "val" / "pink")
    with pytest.raises(DatasetError, match=r"'pink' in .* is none of the 3 classes"):
        open_splits("folder", tmp_path)


def test_what_cannot_be_read_is_found(tmp_path):
    paint(tmp_path, 5)
    (tmp_path / "red" / "03.png").write_bytes(b"nothing")
    splits = open_splits("folder", tmp_path)
    found = broken_ids(splits)
    assert list(found) == ["red/03.png"]
    assert "is not an image" in found["red/03.png"]
    left = splits.without(frozenset(found))
    assert len(left.train) + len(left.val) == 14


def test_grey_pictures_are_read_in_colour(tmp_path):
    paint(tmp_path, 2)
    Image.new("L", (30, 30)).save(tmp_path / "red" / "00.png")
    assert open_splits("folder", tmp_path).train[0].image.shape[0] == 3
