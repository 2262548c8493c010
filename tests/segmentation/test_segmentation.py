"""The result type: what it says of its label maps, and that it never changes."""

import copy
import pickle

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from skimage import segmentation as skseg

from naspix.clustering.components import superpixels_from_clusters
from naspix.clustering.features import UpsampledFeatures
from naspix.clustering.ward import ward
from naspix.errors import InputError
from naspix.segmentation import Segmentation

label_maps = npst.arrays(
    np.int64,
    st.tuples(st.integers(1, 2), st.integers(1, 8), st.integers(1, 8)),
    elements=st.integers(0, 3),
).map(torch.from_numpy)


@pytest.fixture
def seg():
    return Segmentation(torch.randint(0, 3, (2, 11, 14)), source="SLIC()")


@pytest.fixture
def ward_seg():
    features = UpsampledFeatures([torch.rand(2, 30, 4, 4)], (12, 10))
    tree = ward(features)
    clusters = torch.stack([each.cut(3) for each in tree])
    return Segmentation(clusters, source="NAS()", tree=tree)


def test_superpixels_are_the_components_and_computed_only_when_asked_for(seg):
    assert "superpixels" not in vars(seg)
    assert torch.equal(seg.superpixels, superpixels_from_clusters(seg.clusters))
    assert seg.superpixels is seg.superpixels


def test_connectivity_is_that_of_the_superpixels():
    clusters = torch.tensor([[[0, 1], [1, 0]]])
    assert Segmentation(clusters).n_superpixels.tolist() == [4]
    assert Segmentation.from_clusters(clusters, connectivity=8).n_superpixels.tolist() == [2]


def test_given_superpixels_are_kept():
    clusters = torch.tensor([[[0, 0, 1]]])
    merged = torch.tensor([[[0, 0, 0]]])
    assert Segmentation(clusters=clusters, superpixels=merged).superpixels is merged


@pytest.mark.parametrize(
    ("clusters", "message"),
    [
        (torch.zeros(4, 4, dtype=torch.int64), r"int64 of shape \(4, 4\)"),
        (torch.zeros(1, 4, 4), "float32"),
        (torch.zeros(1, 4, 4, dtype=torch.int32), "int32"),
        (torch.zeros(0, 4, 4, dtype=torch.int64), "at least one pixel"),
        (np.zeros((1, 4, 4), int), "are ndarray"),
    ],
)
def test_refuses_what_is_no_label_map(clusters, message):
    unchecked = getattr(Segmentation.__init__, "__wrapped__", Segmentation.__init__)
    with pytest.raises(InputError, match=message):
        unchecked(object.__new__(Segmentation), clusters)


@pytest.mark.parametrize(
    ("superpixels", "message"),
    [
        ([[[0, 1, 1, 2]]], "both must be the same"),
        ([[[0, 2, 2]]], "without gaps"),
        ([[[1, 2, 2]]], "without gaps"),
        ([[[0, -1, 1]]], "without gaps"),
    ],
)
def test_refuses_superpixels_that_do_not_fit(superpixels, message):
    with pytest.raises(InputError, match=message):
        Segmentation(torch.tensor([[[0, 0, 1]]]), torch.tensor(superpixels))


def test_refuses_trees_of_another_number_of_images(ward_seg):
    with pytest.raises(InputError, match="1 trees for 2 images"):
        Segmentation(ward_seg.clusters, tree=ward_seg.tree[:1])


@given(label_maps)
def test_counts_masks_areas_and_feature_mask_agree(clusters):
    seg = Segmentation(clusters)
    for b in range(len(seg)):
        masks, areas = seg.masks(b), seg.areas(b)
        assert len(masks) == len(areas) == seg.n_superpixels[b]
        assert (masks.sum(0) == 1).all(), "every pixel lies in one superpixel"
        assert torch.equal(masks.sum((1, 2)), areas)
        assert seg.n_clusters[b] == clusters[b].unique().numel()
    assert seg.feature_mask.shape == (len(seg), 1, *seg.size)
    assert torch.equal(seg.feature_mask[:, 0], seg.superpixels)


@given(label_maps)
def test_boundaries_part_exactly_the_superpixels(clusters):
    """Between two pixels side by side a boundary is marked on the upper or left one."""
    seg = Segmentation(clusters)
    ids, marked = seg.superpixels, seg.boundaries()
    down, right = ids[:, 1:] != ids[:, :-1], ids[:, :, 1:] != ids[:, :, :-1]
    assert marked[:, :-1][down].all()
    assert marked[:, :, :-1][right].all()
    expected = torch.zeros_like(marked)
    expected[:, :-1] |= down
    expected[:, :, :-1] |= right
    assert torch.equal(marked, expected)


def test_boundaries_are_thinner_than_scikit_images_thick_ones_and_lie_within_them(seg):
    for marked, ids in zip(seg.boundaries().numpy(), seg.superpixels.numpy(), strict=True):
        thick = skseg.find_boundaries(ids, mode="thick")
        assert (thick | ~marked).all()
        assert marked.sum() < thick.sum()


def test_adjacency_of_a_known_map():
    seg = Segmentation(torch.tensor([[[0, 0, 1], [2, 2, 1], [2, 2, 3]]]))
    assert seg.adjacency().tolist() == [[0, 1], [0, 2], [1, 2], [1, 3], [2, 3]]
    assert Segmentation(torch.zeros(1, 2, 2, dtype=torch.int64)).adjacency().shape == (0, 2)


def test_one_image_of_a_batch(ward_seg):
    last = ward_seg[-1]
    assert len(last) == 1
    assert torch.equal(last.superpixels[0], ward_seg.superpixels[1])
    assert last.tree == ward_seg.tree[1:]
    assert [len(each) for each in ward_seg] == [1, 1]
    with pytest.raises(IndexError):
        ward_seg[2]


def test_two_are_equal_when_both_maps_are(seg):
    assert seg == Segmentation(seg.clusters.clone())
    assert seg != Segmentation(seg.clusters, torch.zeros_like(seg.clusters))
    assert seg != Segmentation(1 - seg.clusters.clamp(max=1))
    assert seg != "a segmentation"
    with pytest.raises(TypeError, match="unhashable"):
        hash(seg)


def test_never_changes(seg):
    with pytest.raises(AttributeError, match="never changes"):
        seg.clusters = seg.clusters + 1
    with pytest.raises(AttributeError, match="never changes"):
        seg.superpixels = seg.clusters


@pytest.mark.parametrize("asked_before", [False, True])
def test_survives_pickle_and_copy(ward_seg, asked_before):
    if asked_before:
        ward_seg.superpixels  # noqa: B018  (computes them)
    for twin in (pickle.loads(pickle.dumps(ward_seg)), copy.deepcopy(ward_seg)):
        assert twin == ward_seg
        assert twin.source == ward_seg.source
        assert twin.cut(6) == ward_seg.cut(6)


def test_repr_is_one_line_with_counts_and_source(seg):
    text = repr(seg)
    assert text.startswith("Segmentation(2 images of 11x14, 3 clusters, ")
    assert text.endswith("superpixels, by SLIC())")
    assert "\n" not in text
    one = Segmentation(torch.zeros(1, 2, 3, dtype=torch.int64))
    assert repr(one) == "Segmentation(1 image of 2x3, 1 cluster, 1 superpixel)"


# --------------------------------------------------------------------------- cut


def test_cut_gives_another_segmentation_of_the_same_tree(ward_seg):
    finer = ward_seg.cut(7)
    assert finer.n_clusters.tolist() == [7, 7]
    assert finer.source == "NAS().cut(7)"
    assert finer.cut(3) == ward_seg
    assert finer.cut(3).source == "NAS().cut(3)"


def test_each_cut_refines_those_into_fewer(ward_seg):
    coarse, fine = ward_seg.cut(4), ward_seg.cut(9)
    for a, b in ((coarse.clusters, fine.clusters), (coarse.superpixels, fine.superpixels)):
        for image in range(2):
            pairs = torch.stack([a[image].flatten(), b[image].flatten()]).unique(dim=1)
            assert pairs.shape[1] == b[image].unique().numel()


def test_cut_without_a_tree_says_what_makes_one(seg):
    with pytest.raises(InputError, match="algorithm='ward'"):
        seg.cut(4)


def test_cut_into_more_than_the_pixels_is_refused(ward_seg):
    with pytest.raises(InputError, match="1 to 120"):
        ward_seg.cut(121)


# --------------------------------------------------------------------------- resize


@given(label_maps, st.integers(1, 3), st.integers(1, 3))
def test_enlarging_by_whole_factors_repeats_pixels(clusters, down, right):
    seg = Segmentation(clusters)
    height, width = seg.size
    larger = seg.resize((down * height, right * width))

    def repeated(labels):
        return labels.repeat_interleave(down, 1).repeat_interleave(right, 2)

    assert torch.equal(larger.clusters, repeated(seg.clusters))
    assert torch.equal(larger.superpixels, repeated(seg.superpixels))


@given(label_maps, st.integers(1, 9), st.integers(1, 9))
def test_at_any_size_superpixels_are_whole_connected_and_numbered(clusters, height, width):
    resized = Segmentation(clusters).resize((height, width))
    assert resized.size == (height, width)
    again = superpixels_from_clusters(resized.superpixels)
    assert torch.equal(again, resized.superpixels)


def test_resize_takes_the_tree_along(ward_seg):
    larger = ward_seg.resize((24, 20))
    assert larger.cut(6) == ward_seg.cut(6).resize((24, 20))
    assert larger.source == ward_seg.source


@pytest.mark.parametrize("size", [(0, 4), (4, -1)])
def test_refuses_an_empty_frame(seg, size):
    with pytest.raises(InputError, match="at least 1 pixel"):
        seg.resize(size)


# --------------------------------------------------------------------------- devices


def test_to_a_device_keeps_everything(ward_seg):
    moved = ward_seg.to("cpu")
    assert moved == ward_seg
    assert moved.device.type == "cpu"
    assert Segmentation(ward_seg.clusters).to("cpu").tree is None


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_on_a_gpu_all_label_maps_stay_there(ward_seg):
    there = ward_seg.to("cuda")
    assert there.cut(5).superpixels.is_cuda
    assert there.resize((5, 5)).superpixels.is_cuda
    assert there.boundaries().is_cuda
    assert there.masks().is_cuda
    assert there.cut(5).to("cpu") == ward_seg.cut(5)
