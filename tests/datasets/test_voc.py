"""Pascal VOC's XML, in VOC's own folders and in others."""

from pathlib import Path
from xml.etree import ElementTree

import published
import pytest
import torchvision

from naspix.datasets import VOCBoxes
from naspix.errors import DatasetError, ImageError


@pytest.fixture
def root(tmp_path):
    published.voc(tmp_path)
    return tmp_path


def test_boxes_count_from_the_edges(root):
    dataset = VOCBoxes(root)
    assert dataset.ids == ("000", "001", "002")
    assert dataset.categories == ("cat", "dog")
    assert dataset.labels == (0, None, 0)  # the second holds a dog as well
    sample = dataset[1]
    assert sample.boxes.tolist() == [[0, 1, 10, 20], [4, 4, 30, 6]]
    assert sample.box_labels.tolist() == [0, 1]
    assert sample.image.shape == (3, 20, 30)
    assert not sample.problems
    assert VOCBoxes(root, first_pixel=0)[0].boxes.tolist() == [[1, 2, 10, 20]]


def test_categories_may_be_given(root):
    dataset = VOCBoxes(root, categories=("bird", "dog"))
    assert dataset.labels == (None, 1, None)
    assert dataset[1].boxes.tolist() == [[4, 4, 30, 6]]


def test_an_object_without_a_box_costs_itself_only(root):
    file = root / "Annotations" / "000.xml"
    whole = VOCBoxes(root)[0]
    bare = "<object><name>emu</name></object></annotation>"
    file.write_text(file.read_text().replace("</annotation>", bare))
    dataset = VOCBoxes(root)
    assert dataset.categories == ("cat", "dog")
    assert dataset[0].boxes.tolist() == whole.boxes.tolist()
    assert "'emu' is left out, since it has no <bndbox>" in dataset[0].problems[0]


def test_difficult_objects_may_be_left_out(root):
    published.voc_xml(root / "Annotations" / "000.xml", [("cat", 1, 1, 9, 9)], difficult=1)
    assert len(VOCBoxes(root)[0].boxes) == 1
    assert len(VOCBoxes(root, difficult=False)[0].boxes) == 0


def test_pictures_are_found_wherever_they_lie(tmp_path):
    for i, place in enumerate(("a/001.png", "b/001.png")):
        published.picture(tmp_path / place, size=(20 + i, 30))
        published.voc_xml(
            (tmp_path / place).with_suffix(".xml"), [("cat", 1, 1, 9, 9)], size=(0, 0)
        )
    assert [sample.image.shape[1] for sample in VOCBoxes(tmp_path)] == [20, 21]  # the one beside it
    published.voc_xml(
        tmp_path / "a" / "001.xml", [], file_name=r"C:\somewhere\b\001.png", size=(0, 0)
    )
    dataset = VOCBoxes(tmp_path)
    assert dataset.ids == ("a/001", "b/001")
    assert dataset[0].image.shape[1] == 21  # as the XML says, not the one beside it
    assert dataset[0].boxes.shape == (0, 4)  # no box at all
    assert dataset.labels[0] is None


def test_a_name_that_two_pictures_have_is_not_guessed_at(tmp_path):
    for place in ("a/001.png", "b/001.png"):
        published.picture(tmp_path / place)
    published.voc_xml(tmp_path / "xml" / "001.xml", [])
    with pytest.raises(ImageError, match="may be any of 2 image files"):
        VOCBoxes(tmp_path)[0]


def test_a_renamed_picture_is_found_by_the_xmls_own_name(root):
    published.voc_xml(root / "Annotations" / "000.xml", [], file_name="DSC_0815.JPG")
    assert VOCBoxes(root)[0].image.shape == (3, 20, 30)


def test_what_is_bad_is_named_and_the_rest_goes_on(root):
    annotations = root / "Annotations"
    (annotations / "000.xml").write_text("<annotation><object>")
    published.voc_xml(annotations / "003.xml", [("cat", 1, 1, 9, 9)])
    (root / "JPEGImages" / "002.png").write_bytes(b"no picture")
    dataset = VOCBoxes(root)
    assert len(dataset) == 4
    with pytest.raises(DatasetError, match=r"000\.xml' is damaged"):
        dataset[0]
    assert len(dataset[1].boxes) == 2
    with pytest.raises(ImageError, match=r"002\.png' is not an image"):
        dataset[2]
    with pytest.raises(ImageError, match=r"003\.xml' is about the image file '003\.png'"):
        dataset[3]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ('<!DOCTYPE a [<!ENTITY b "c">]><annotation>&b;</annotation>', "declares entities"),
        ("<html/>", "no annotation of Pascal VOC, but a <html>"),
    ],
)
def test_other_xml_is_refused(root, content, says):
    (root / "Annotations" / "000.xml").write_text(content)
    with pytest.raises(DatasetError, match=says):
        VOCBoxes(root)[0]


def test_a_folder_of_another_kind_is_refused(tmp_path):
    with pytest.raises(DatasetError, match="no XML file"):
        VOCBoxes(tmp_path)


def test_kangaroos(shared_data):
    dataset = VOCBoxes(shared_data / "kangaroo")
    assert len(dataset) == 164
    assert dataset.categories == ("kangaroo",)
    n_boxes = 0
    for index in range(0, 164, 20):
        sample = dataset[index]
        parsed = (shared_data / "kangaroo" / "annots" / f"{sample.id}.xml").read_text()
        voc = torchvision.datasets.VOCDetection.parse_voc_xml(ElementTree.fromstring(parsed))
        theirs = [one["bndbox"] for one in voc["annotation"]["object"]]
        expected = [
            [int(b["xmin"]) - 1, int(b["ymin"]) - 1, int(b["xmax"]), int(b["ymax"])] for b in theirs
        ]
        assert sample.boxes.tolist() == expected
        n_boxes += len(expected)
    assert n_boxes > 9


@pytest.mark.parametrize(
    ("encoding", "name"),
    [
        ("gb2312", "狗"),
        ("gbk", "狗"),
        ("big5", "狗"),
        ("euc-kr", "개"),
        ("shift_jis", "犬"),
        ("iso-8859-1", "chien à poil"),
        ("utf-8", "狗"),
        ("utf-16", "狗"),
    ],
)
def test_annotations_in_any_declared_encoding(tmp_path: Path, encoding: str, name: str) -> None:
    box = "<xmin>1</xmin><ymin>1</ymin><xmax>4</xmax><ymax>4</ymax>"
    text = (
        f'<?xml version="1.0" encoding="{encoding}"?>\n<annotation><filename>a.png</filename>'
        f"<object><name>{name}</name><bndbox>{box}</bndbox></object></annotation>"
    )
    (tmp_path / "a.xml").write_bytes(text.encode(encoding))
    assert VOCBoxes(tmp_path).categories == (name,)


@pytest.mark.parametrize("encoding", ["klingon", "gbk"])
def test_one_annotation_in_a_wrong_encoding_costs_itself(tmp_path: Path, encoding: str) -> None:
    start = f'<?xml version="1.0" encoding="{encoding}"?><annotation><filename>'
    (tmp_path / "a.xml").write_bytes(start.encode() + b"\xff\xff</filename></annotation>")
    (tmp_path / "b.xml").write_text("<annotation><filename>b.png</filename></annotation>")
    found = VOCBoxes(tmp_path)
    assert found.ids == ("a", "b")
    with pytest.raises(DatasetError, match=r"a\.xml.*encoding that it declares"):
        found[0]
