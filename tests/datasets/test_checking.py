"""`check` finds each format by itself, and names what is broken in it."""

import json

import numpy as np
import published
import pytest
from PIL import Image

from naspix.datasets import check
from naspix.errors import DatasetError


def _kinds(folder):
    found = check(folder)
    return found.kind, {part.name: part.n_items for part in found.parts}


def test_each_format_is_found(tmp_path):
    published.stl10(tmp_path / "stl10")
    published.cub(tmp_path / "cub")
    published.voc(tmp_path / "voc")
    published.coco(tmp_path / "coco", [])
    published.picture(tmp_path / "folder" / "cat" / "1.png")
    published.picture(tmp_path / "splits" / "train" / "cat" / "1.png")
    published.picture(tmp_path / "splits" / "val" / "cat" / "1.png")
    published.picture(tmp_path / "photos" / "1.png")
    assert _kinds(tmp_path / "stl10") == ("stl10", {"train": 12, "test": 12, "unlabeled": 12})
    assert _kinds(tmp_path / "cub") == ("cub", {"train": 1, "test": 2})
    assert _kinds(tmp_path / "voc") == ("voc", {"": 3})
    assert _kinds(tmp_path / "coco") == ("coco", {"": 2})
    assert _kinds(tmp_path / "folder") == ("folder", {"": 1})
    assert _kinds(tmp_path / "splits") == ("folder", {"train": 1, "val": 1})
    assert _kinds(tmp_path / "photos") == ("photos", {"": 1})
    (tmp_path / "nothing").mkdir()
    with pytest.raises(DatasetError, match=r"nothing in .* that is a data set"):
        check(tmp_path / "nothing")


def test_the_published_numbers_are_known(tmp_path):
    published.stl10(tmp_path)
    found = check(tmp_path)
    assert not found.broken
    assert found.remarks[0].sentence == "there are 12 pictures; as published there are 5000"


def test_one_corrupt_picture_among_many(tmp_path):
    for i in range(150):
        published.picture(tmp_path / f"class{i % 3}" / f"{i:03d}.png", size=(4, 5), seed=i)
    Image.fromarray(np.zeros((90, 90, 3), np.uint8)).save(tmp_path / "class1" / "040.png")
    whole = (tmp_path / "class1" / "040.png").read_bytes()
    (tmp_path / "class1" / "040.png").write_bytes(whole[:-60])
    (tmp_path / "stray.png").write_bytes(whole)
    told = []
    found = check(tmp_path, lambda done, total: told.append((done, total)))
    assert told == [(i, 150) for i in range(1, 151)]
    (broken,) = found.broken
    assert broken.id == "class1/040.png"
    assert "cannot be read as an image" in broken.sentence
    (part,) = found.parts
    assert (part.n_items, part.n_broken, part.n_classes, part.smallest_class) == (150, 1, 3, 50)
    assert [remark.sentence for remark in found.remarks] == ["1 picture lies outside of any class"]


def test_bad_boxes_are_remarks(tmp_path):
    published.voc(tmp_path, 4)
    published.voc_xml(tmp_path / "Annotations" / "000.xml", [("cat", 9, 9, 3, 12)])
    published.voc_xml(tmp_path / "Annotations" / "001.xml", [])
    published.voc_xml(tmp_path / "Annotations" / "002.xml", [("cat", 5, 5, 90, 9)])
    found = check(tmp_path)
    assert not found.broken
    assert [(one.id, one.sentence.split(") ")[-1]) for one in found.remarks[:2]] == [
        ("000", "has no area and is left out"),
        ("002", "reaches outside the picture of 30 x 20 and is cut"),
    ]
    assert found.remarks[2].sentence == "2 pictures have no box"
    assert found.parts[0].n_boxes == 2


def test_a_label_file_that_names_absent_pictures(tmp_path):
    file = published.coco(tmp_path, [])
    (tmp_path / "photos" / "2.png").unlink()
    found = check(tmp_path)
    assert found.broken[0].id == "2.png"
    assert "there is no image file '2.png'" in found.broken[0].sentence
    other = json.loads(file.read_text())
    (tmp_path / "other.json").write_text(json.dumps({**other, "annotations": [1]}))
    found = check(tmp_path)  # a damaged file beside a sound one
    assert [part.name for part in found.parts] == ["annotations/instances.json"]
    assert found.broken[0].part == "other.json"
    assert "must have image_id" in found.broken[0].sentence


def test_kangaroos(shared_data):
    found = check(shared_data / "kangaroo")
    assert found.kind == "voc"
    assert [one.id for one in found.broken] == ["00090"]  # which ends twenty bytes early
    assert (found.parts[0].n_items, found.parts[0].n_boxes) == (164, 263)
