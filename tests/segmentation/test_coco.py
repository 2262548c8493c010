"""COCO's format against a literal decoder, and against its description."""

import json

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from naspix.errors import InputError
from naspix.segmentation import Segmentation

label_maps = npst.arrays(
    np.int64,
    st.tuples(st.integers(1, 2), st.integers(1, 8), st.integers(1, 8)),
    elements=st.integers(0, 3),
).map(torch.from_numpy)


def decode(code):
    """Fill columns run by run, outside first, as cocodataset.org describes it."""
    height, width = code["size"]
    pixels, inside = [], False
    for count in code["counts"]:
        pixels += [inside] * count
        inside = not inside
    return np.array(pixels).reshape(width, height).T


@given(label_maps)
def test_run_lengths_decode_to_the_masks(clusters):
    seg = Segmentation(clusters)
    for b in range(len(seg)):
        codes = seg.to_rle(b)
        for code, mask in zip(codes, seg.masks(b).numpy(), strict=True):
            np.testing.assert_array_equal(decode(code), mask)
            assert all(count > 0 for count in code["counts"][1:]), "runs must not be empty"


@given(label_maps)
def test_instances_describe_every_superpixel(clusters):
    seg = Segmentation(clusters)
    coco = json.loads(json.dumps(seg.to_coco()))  # plain numbers only
    assert [image["id"] for image in coco["images"]] == list(range(1, len(seg) + 1))
    annotations = coco["annotations"]
    assert [each["id"] for each in annotations] == list(range(1, len(annotations) + 1))
    names = {category["id"]: category["name"] for category in coco["categories"]}
    for each in annotations:
        mask = decode(each["segmentation"])
        assert each["area"] == mask.sum()
        x, y, width, height = (int(side) for side in each["bbox"])
        inside = mask[y : y + height, x : x + width]
        assert inside.sum() == mask.sum()
        assert inside[0].any() and inside[-1].any()  # noqa: PT018  (the box is tight)
        assert inside[:, 0].any() and inside[:, -1].any()  # noqa: PT018
        (cluster,) = clusters[each["image_id"] - 1][torch.from_numpy(mask)].unique().tolist()
        assert names[each["category_id"]] == f"cluster {cluster}"


def test_ids_names_and_source_are_taken_over():
    seg = Segmentation(torch.zeros(2, 3, 4, dtype=torch.int64), source="Grid(n_segments=1)")
    coco = seg.to_coco([7, 9], file_names=["a.jpg", "b.jpg"])
    assert coco["images"][1] == {"id": 9, "height": 3, "width": 4, "file_name": "b.jpg"}
    assert [each["image_id"] for each in coco["annotations"]] == [7, 9]
    assert "Grid(n_segments=1)" in coco["info"]["contributor"]


def test_a_merged_superpixel_has_the_category_of_most_of_its_pixels():
    clusters = torch.tensor([[[0, 1, 1]]])
    coco = Segmentation(clusters, torch.zeros_like(clusters)).to_coco()
    assert [each["category_id"] for each in coco["annotations"]] == [2]


@pytest.mark.parametrize(
    "arguments",
    [{"image_ids": [1]}, {"image_ids": [4, 4]}, {"file_names": ["a.jpg"]}],
)
def test_refuses_ids_or_names_that_do_not_fit(arguments):
    with pytest.raises(InputError, match="2 images need 2"):
        Segmentation(torch.zeros(2, 3, 4, dtype=torch.int64)).to_coco(**arguments)
