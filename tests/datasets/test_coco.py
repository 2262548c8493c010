"""COCO's JSON, with pycocotools as the oracle for its masks."""

import json

import numpy as np
import published
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from pycocotools import mask as oracle

from naspix.datasets import COCOBoxes
from naspix.datasets.masks import union_mask
from naspix.errors import DatasetError, InputError, NaspixWarning
from naspix.segmentation.files import run_lengths

CAT = {"image_id": 10, "category_id": 17, "bbox": [1, 2, 8, 10]}
CAR = {"image_id": 20, "category_id": 3, "bbox": [0.5, 2, 8, 10.25]}


def test_boxes_and_classes(tmp_path):
    crowd = {**CAR, "image_id": 10, "iscrowd": 1}
    published.coco(tmp_path, [CAT, CAR, {**CAT, "image_id": 20}, crowd])
    dataset = COCOBoxes(tmp_path)
    assert dataset.ids == ("1.png", "2.png")
    assert dataset.categories == ("car", "cat")  # by number, whatever the order in the file
    assert dataset.labels == (1, None)
    assert dataset[0].boxes.tolist() == [[1, 2, 9, 12]]
    assert dataset[0].label == 1
    assert dataset[1].boxes.tolist() == [[0.5, 2, 8.5, 12.25], [1, 2, 9, 12]]
    assert dataset[1].box_labels.tolist() == [0, 1]
    assert dataset[0].mask is None


def test_the_file_itself_may_be_named(tmp_path):
    file = published.coco(tmp_path, [CAT])
    assert len(COCOBoxes(file)[0].boxes) == 1
    published.coco(tmp_path, [CAR], name="annotations/others.json")
    with pytest.raises(DatasetError, match=r"2 annotation files .*instances.json.*name one"):
        COCOBoxes(tmp_path)
    assert COCOBoxes(tmp_path, annotations="annotations/others.json").labels == (None, 0)
    with pytest.raises(DatasetError, match="there is no annotation file"):
        COCOBoxes(tmp_path, annotations="none.json")


def test_masks_of_all_objects_as_one(tmp_path):
    square = np.zeros((20, 30), bool)
    square[2:6, 3:9] = True
    code = oracle.encode(np.asfortranarray(square.astype(np.uint8)))
    code["counts"] = code["counts"].decode()
    polygon = {**CAT, "segmentation": [[20, 10, 25, 10, 25, 15, 20, 15]]}
    published.coco(tmp_path, [{**CAT, "segmentation": code}, polygon])
    square[10:15, 20:25] = True
    np.testing.assert_array_equal(COCOBoxes(tmp_path)[0].mask.numpy(), square)


def test_masks_go_with_the_pictures_scale(tmp_path):
    polygon = {**CAT, "segmentation": [[20, 10, 25, 10, 25, 15, 20, 15]]}
    published.coco(tmp_path, [polygon])
    published.picture(tmp_path / "photos" / "1.png", size=(40, 60))
    sample = COCOBoxes(tmp_path)[0]
    assert sample.boxes.tolist() == [[2, 4, 18, 24]]
    expected = np.zeros((40, 60), bool)
    expected[20:30, 40:50] = True
    np.testing.assert_array_equal(sample.mask.numpy(), expected)


def test_a_bad_mask_leaves_the_boxes(tmp_path):
    published.coco(tmp_path, [{**CAT, "segmentation": {"size": [5, 5], "counts": [25]}}])
    sample = COCOBoxes(tmp_path)[0]
    assert sample.mask is None
    assert len(sample.boxes) == 1
    assert "run lengths are of the size [5, 5]" in sample.problems[0]


@given(arrays.arrays(bool, st.tuples(st.integers(1, 40), st.integers(1, 40))))
def test_compressed_run_lengths_as_pycocotools_writes_them(mask):
    code = oracle.encode(np.asfortranarray(mask.astype(np.uint8)))
    np.testing.assert_array_equal(union_mask([code], mask.shape), mask)


@given(arrays.arrays(bool, st.tuples(st.integers(1, 20), st.integers(1, 20))))
def test_run_lengths_as_segmentation_writes_them(mask):
    codes = run_lengths(mask.astype(np.int64))
    np.testing.assert_array_equal(union_mask(codes[1:], mask.shape), mask)


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # theirs
@given(st.integers(0, 10_000))
def test_polygons_differ_from_pycocotools_at_the_rim_only(seed):
    random = np.random.default_rng(seed)
    angles = np.sort(random.uniform(0, 2 * np.pi, 7))
    radii = random.uniform(20, 45, 7)
    points = np.stack([50 + radii * np.cos(angles), 50 + radii * np.sin(angles)], 1)
    polygon = points.ravel().tolist()
    ours = union_mask([[polygon]], (100, 100))
    theirs = oracle.decode(oracle.frPyObjects([polygon], 100, 100))[..., 0].astype(bool)
    length = np.linalg.norm(points - np.roll(points, 1, 0), axis=1).sum()
    assert (ours != theirs).sum() <= 0.5 * length


@pytest.mark.parametrize(
    ("shape", "says"),
    [
        ("polygon", "no polygons and no run lengths"),
        ([[1, 2, 3, 4]], "fewer than three points"),
        ([["a"] * 6], "fewer than three points"),
        ({"size": [4, 4], "counts": [17]}, "do not add up"),
        ({"size": [4, 4], "counts": [-1, 17]}, "do not add up"),
        ({"size": [4, 4], "counts": "Q"}, "end within a number"),
        ({"size": [4, 4]}, "run lengths are of the size"),
    ],
)
def test_bad_shapes_are_refused(shape, says):
    with pytest.raises(InputError, match=says):
        union_mask([shape], (4, 4))


def _with(content, **parts):
    return json.dumps({**content, **parts})


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda c: "{", "damaged, or no JSON"),
        (lambda c: "[]", "no list 'images'"),
        (lambda c: _with(c, images=[{"id": 1}]), "entry 0 of 'images' .* must have id, file_name"),
        (lambda c: _with(c, categories=[]), "has the category 17, which is not listed"),
        (lambda c: _with(c, images=[*c["images"], c["images"][0]]), "twice under the same id"),
        (lambda c: _with(c, annotations=[{**CAT, "bbox": [1, 2]}]), "must be four numbers"),
    ],
)
def test_damage_is_named(tmp_path, change, says):
    file = published.coco(tmp_path, [CAT])
    file.write_text(change(json.loads(file.read_text())))
    with pytest.raises(DatasetError, match=says):
        COCOBoxes(file)


def test_annotations_of_unlisted_pictures_are_left_out(tmp_path):
    file = published.coco(tmp_path, [CAT])
    whole = COCOBoxes(file)
    strange = {**CAT, "image_id": 5, "category_id": 99}
    file.write_text(_with(json.loads(file.read_text()), annotations=[strange, CAT]))
    with pytest.warns(NaspixWarning, match="1 of 2 annotations .* it does not list, such as 5"):
        left = COCOBoxes(file)
    assert left.labels == whole.labels
    assert left[0].boxes.tolist() == whole[0].boxes.tolist()


def test_a_bad_annotation_costs_itself_only(tmp_path):
    bare = {"image_id": 10, "category_id": 17}
    drawn = {
        **bare,
        "bbox": [],
        "segmentation": [[20, 10, 25, 10, 25, 15], [20, 18, 22, 18, 22, 9]],
    }
    published.coco(tmp_path, [bare, {**bare, "bbox": []}, {**CAT, "category_id": 99}, CAT, drawn])
    with pytest.warns(
        NaspixWarning,
        match="3 of 5 annotations .* left out.* bbox of 0 .* bbox of 1 .*; 2 has the category 99",
    ):
        dataset = COCOBoxes(tmp_path)
    assert dataset.labels == (1, None)
    assert dataset[0].boxes.tolist() == [[1, 2, 9, 12], [20, 9, 25, 18]]


def test_a_folder_of_another_kind_is_refused(tmp_path):
    (tmp_path / "other.json").write_text('{"images": []}')
    with pytest.raises(DatasetError, match="no JSON file with"):
        COCOBoxes(tmp_path)
