"""Label maps and masks of others become segmentations by one call."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

import naspix
from naspix.errors import InputError
from naspix.segmentation import Segmentation

label_maps = npst.arrays(
    np.int32,
    st.tuples(st.integers(1, 2), st.integers(1, 6), st.integers(1, 6)),
    elements=st.integers(-2, 9),
)


@given(label_maps)
def test_labels_stay_together_and_are_numbered(labels: np.ndarray) -> None:
    seg = Segmentation.from_labels(labels, source="theirs")
    assert seg.source == "theirs"
    for one, theirs in zip(seg.superpixels.numpy(), labels, strict=True):
        assert sorted(np.unique(one)) == list(range(len(np.unique(theirs))))
        pairs = set(zip(one.ravel().tolist(), theirs.ravel().tolist(), strict=True))
        assert len(pairs) == len(np.unique(theirs))
    assert Segmentation.from_labels(torch.from_numpy(labels)) == seg
    assert Segmentation.from_labels(labels[0]) == seg[0]


@given(npst.arrays(np.bool_, st.tuples(st.integers(1, 4), st.integers(1, 5), st.integers(1, 5))))
def test_a_pixel_belongs_to_the_smallest_mask_it_lies_in(masks: np.ndarray) -> None:
    seg = Segmentation.from_masks(masks)
    areas = masks.sum((1, 2))
    pairs = set()
    for place in np.ndindex(masks.shape[1:]):
        inside = [n for n in range(len(masks)) if masks[(n, *place)]]
        smallest = min(inside, key=lambda n: (areas[n], -n), default=-1)
        pairs.add((smallest, int(seg.superpixels[(0, *place)])))
    assert len(pairs) == len({number for _, number in pairs}) == len({owner for owner, _ in pairs})
    assert sorted(number for _, number in pairs) == list(range(len(pairs)))


def test_sams_dictionaries_arrays_and_lists_are_the_same() -> None:
    masks = np.zeros((2, 4, 5), bool)
    masks[0, :, 1:], masks[1, 1:3, 2:4] = True, True
    seg = Segmentation.from_masks(masks)
    assert seg.n_superpixels.tolist() == [3]
    sams = [{"segmentation": mask, "area": int(mask.sum()), "bbox": [0, 0, 1, 1]} for mask in masks]
    for same in (sams, list(masks), torch.from_numpy(masks), list(masks.astype(np.uint8))):
        assert Segmentation.from_masks(same) == seg
    both = Segmentation.from_masks([sams, sams[:1]])
    assert len(both) == 2
    assert both[0] == seg
    assert both.n_superpixels.tolist() == [3, 2]
    images = torch.rand(1, 3, 4, 5)
    heat = naspix.superpixelify(images.mean(1), seg.superpixels)
    assert len(heat.unique()) == 3


@pytest.mark.parametrize(
    ("masks", "says"),
    [
        ([], "there are no masks"),
        ([[]], "an image has no masks|a mask has the shape"),
        (np.zeros((2, 3)), "a mask has the shape"),
        ([np.zeros((2, 3), bool), np.zeros((3, 2), bool)], r"shape \(3, 2\); give \(H, W\)"),
        ([[np.ones((2, 3), bool)], [np.ones((3, 3), bool)]], "of one size .* got 2x3 and 3x3"),
        (np.full((1, 2, 2), 7), "values other than 0 and 1"),
    ],
)
def test_what_is_no_masks_is_refused(masks: object, says: str) -> None:
    with pytest.raises(InputError, match=says):
        Segmentation.from_masks(masks)


@pytest.mark.parametrize("labels", [np.zeros((2, 2)), np.zeros(3, int), np.zeros((0, 2), int)])
def test_what_is_no_label_map_is_refused(labels: np.ndarray) -> None:
    with pytest.raises(InputError, match="give whole numbers"):
        Segmentation.from_labels(labels)
