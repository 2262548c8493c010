"""One contract for every segmenter there is a name for, NAS with its algorithms among them."""

import dataclasses

import numpy as np
import pytest
import skimage.data
import torch
from scipy import ndimage

import naspix
from naspix.errors import InputError
from naspix.registry import SEGMENTERS
from naspix.segmentation import NAS, Segmentation

# parameters that suit small pictures; a new name in the registry is tested with its defaults
SMALL = {
    "slic": {"n_segments": 12},
    "watershed": {"n_segments": 12},
    "normalized_cut": {"n_regions": 30},
    "grid": {"n_segments": 12},
}
NAMES = [name for name in SEGMENTERS if name != "nas"] + ["nas k-means", "nas ward"]
ALGORITHMS = {"nas k-means": "kmeans", "nas ward": "ward"}
SIZE = (48, 64)


@pytest.fixture(scope="module")
def model():
    return naspix.load_model("efficientnet_lite0")


@pytest.fixture(scope="module")
def images():
    photos = [skimage.data.chelsea(), skimage.data.coffee()]
    cut = [photo[40:232:4, 60:316:4] / np.float32(255) for photo in photos]
    return torch.from_numpy(np.stack(cut)).float().permute(0, 3, 1, 2).contiguous()


@pytest.fixture(scope="module", params=NAMES)
def segmenter(request, model):
    if request.param in ALGORITHMS:
        return NAS(model, n_clusters=4, algorithm=ALGORITHMS[request.param])
    return SEGMENTERS[request.param](**SMALL.get(request.param, {}))


@pytest.fixture(scope="module")
def seg(segmenter, images):
    return segmenter(images)


def test_gives_two_label_maps_of_the_images_frame(seg, images):
    assert isinstance(seg, Segmentation)
    for labels in (seg.clusters, seg.superpixels):
        assert labels.shape == (len(images), *SIZE)
        assert labels.dtype == torch.int64
        assert labels.device == images.device


def test_finds_more_than_one_region(seg):
    assert (seg.n_superpixels > 1).all()


def test_clusters_count_from_zero_without_gaps(seg):
    for labels in seg.clusters:
        assert labels.unique().tolist() == list(range(int(labels.max()) + 1))


def test_superpixel_ids_count_from_zero_in_raster_order(seg):
    for ids in seg.superpixels:
        names, first = np.unique(ids.numpy(), return_index=True)
        assert names.tolist() == list(range(len(names)))
        assert (np.diff(first) > 0).all()


def test_each_superpixel_is_connected_and_of_one_cluster(seg):
    for ids, clusters in zip(seg.superpixels.numpy(), seg.clusters.numpy(), strict=True):
        for label in range(ids.max() + 1):
            mask = ids == label
            assert ndimage.label(mask)[1] == 1
            assert np.unique(clusters[mask]).size == 1


def test_superpixels_that_touch_are_of_different_clusters(seg):
    for b in range(len(seg)):
        cluster_of = torch.zeros(int(seg.n_superpixels[b]), dtype=torch.int64)
        cluster_of[seg.superpixels[b].flatten()] = seg.clusters[b].flatten()
        left, right = cluster_of[seg.adjacency(b)].unbind(1)
        assert (left != right).all()


def test_again_gives_the_same(segmenter, images, seg):
    assert segmenter(images) == seg


def test_a_batch_equals_its_images_one_by_one(segmenter, images, seg):
    for b in range(len(images)):
        assert segmenter(images[b : b + 1]) == seg[b]


def test_leaves_images_and_random_state_alone(segmenter, images):
    before, state = images.clone(), torch.get_rng_state()
    numpy_state = np.random.get_state()[1].copy()  # noqa: NPY002  (the global state is meant)
    segmenter(images)
    assert torch.equal(images, before)
    assert torch.equal(torch.get_rng_state(), state)
    assert (np.random.get_state()[1] == numpy_state).all()  # noqa: NPY002


def test_takes_images_that_need_gradients_and_are_not_contiguous(segmenter, images, seg):
    strided = images.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2).requires_grad_()
    # the network may add in another order, so a few pixels may change cluster: at most one percent
    same = segmenter(strided).clusters == seg.clusters
    assert same.float().mean() > 0.99


def test_is_a_frozen_dataclass_whose_repr_is_the_source(segmenter, seg):
    assert seg.source == repr(segmenter)
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(segmenter, dataclasses.fields(segmenter)[0].name, None)


@pytest.mark.parametrize("size", [(33, 47), (64, 32), (32, 80)])
def test_takes_any_frame(segmenter, size):
    assert segmenter(torch.rand(1, 3, *size)).size == size


def test_takes_one_channel_where_the_model_does_not_forbid_it(segmenter, images):
    grey = images.mean(1, keepdim=True)
    if isinstance(segmenter, NAS):
        with pytest.raises(InputError, match="channel"):
            segmenter(grey)
    else:
        assert segmenter(grey).size == SIZE


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda images: images.where(images > 0.1, torch.nan), "NaN"),
        (lambda images: images * torch.inf, "infinite|NaN"),
        (lambda images: images * 255, "255"),
        (lambda images: images[0], "B, C, H, W"),
    ],
    ids=["NaN", "infinite", "0 to 255", "no batch"],
)
def test_refuses_what_is_no_image(segmenter, images, spoil, message):
    call = getattr(type(segmenter).__call__, "__wrapped__", type(segmenter).__call__)
    with pytest.raises(InputError, match=message):
        call(segmenter, spoil(images))


def test_a_flat_image_is_no_accident(segmenter):
    seg = segmenter(torch.full((1, 3, 32, 32), 0.5))
    assert (seg.n_superpixels >= 1).all()
