"""Components against SciPy's labelling, merging against a literal loop."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from scipy import ndimage

from naspix.clustering.components import superpixels_from_clusters, touching_pairs
from naspix.clustering.features import UpsampledFeatures
from naspix.errors import InputError

label_maps = npst.arrays(
    np.int64,
    st.tuples(st.integers(1, 3), st.integers(1, 9), st.integers(1, 9)),
    elements=st.integers(0, 3),
)
CROSS = ndimage.generate_binary_structure(2, 1)
SQUARE = ndimage.generate_binary_structure(2, 2)


def literal_components(clusters, structure):
    """Label cluster by cluster, then number by first pixel in raster order."""
    labels = np.zeros(clusters.shape, np.int64)
    for cluster in np.unique(clusters):
        components, _ = ndimage.label(clusters == cluster, structure)
        labels[components > 0] = components[components > 0] + labels.max()
    return by_first_pixel(labels)


def by_first_pixel(labels):
    numbers = {}
    return np.array(
        [[numbers.setdefault(label, len(numbers)) for label in row] for row in labels.tolist()]
    )


@given(label_maps, st.sampled_from([(4, CROSS), (8, SQUARE)]))
def test_equals_scipy_cluster_by_cluster(clusters, way):
    connectivity, structure = way
    found = superpixels_from_clusters(torch.from_numpy(clusters), connectivity=connectivity)
    assert found.dtype == torch.int64
    for image, ids in zip(clusters, found.numpy(), strict=True):
        np.testing.assert_array_equal(ids, literal_components(image, structure))


@given(label_maps)
def test_names_of_clusters_do_not_matter(clusters):
    renamed = torch.from_numpy(np.array([7, 2, 0, 900])[clusters])
    expected = superpixels_from_clusters(torch.from_numpy(clusters))
    assert torch.equal(superpixels_from_clusters(renamed), expected)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int32, torch.int16])
def test_takes_any_integer(dtype):
    clusters = torch.randint(0, 4, (2, 13, 9))
    found = superpixels_from_clusters(clusters.to(dtype))
    assert torch.equal(found, superpixels_from_clusters(clusters))


def test_takes_a_view_that_is_not_contiguous():
    clusters = torch.randint(0, 3, (2, 10, 12))
    flipped = clusters.transpose(1, 2)
    assert torch.equal(
        superpixels_from_clusters(flipped), superpixels_from_clusters(flipped.contiguous())
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"connectivity": 6}, "connectivity is 6"),
        ({"min_size": -1}, "min_size is -1"),
        ({"min_size": 2}, "pass features="),
    ],
)
def test_refuses_what_makes_no_sense(arguments, message):
    # the bare function: the type checker of the test run would see connectivity=6 first
    unchecked = getattr(superpixels_from_clusters, "__wrapped__", superpixels_from_clusters)
    with pytest.raises(InputError, match=message):
        unchecked(torch.zeros(1, 4, 4, dtype=torch.int64), **arguments)


def test_refuses_negative_labels():
    with pytest.raises(InputError, match="label -1"):
        superpixels_from_clusters(torch.tensor([[[0, -1]]]))


def test_refuses_features_of_another_frame():
    features = pixel_features(torch.rand(1, 2, 4, 5))
    with pytest.raises(InputError, match="both must be the same"):
        superpixels_from_clusters(
            torch.zeros(1, 5, 4, dtype=torch.int64), min_size=2, features=features
        )


@given(
    npst.arrays(
        np.int64, st.tuples(st.integers(1, 7), st.integers(1, 7)), elements=st.integers(0, 4)
    )
)
def test_touching_pairs_are_those_that_share_a_side(labels):
    expected = set()
    for y, x in np.ndindex(labels.shape):
        for other in labels[y + 1 : y + 2, x].tolist() + labels[y, x + 1 : x + 2].tolist():
            if other != labels[y, x]:
                expected.add(tuple(sorted((int(labels[y, x]), other))))
    assert [tuple(pair) for pair in touching_pairs(labels).tolist()] == sorted(expected)


# --------------------------------------------------------------------------- merging


def pixel_features(values):
    """Features that are the given values: bicubic at its own size changes nothing."""
    return UpsampledFeatures(
        [values.double()], tuple(values.shape[2:]), normalize=False, weight=False
    )


def literal_merge(ids, min_size, values):
    """Merge one fragment at a time, everything computed anew from the pixels."""
    ids = ids.copy()
    while True:
        names, sizes = np.unique(ids, return_counts=True)
        if len(names) == 1 or sizes.min() >= min_size:
            return by_first_pixel(ids)
        fragment = names[sizes.argmin()]
        pairs = touching_pairs(ids)
        near = np.unique(pairs[(pairs == fragment).any(1)])
        near = near[near != fragment]
        means = np.array([values[:, ids == name].mean(1) for name in near])
        own = values[:, ids == fragment].mean(1)
        ids[ids == fragment] = near[np.linalg.norm(means - own, axis=1).argmin()]


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("min_size", [2, 5, 400])
def test_merging_equals_the_literal_loop(seed, min_size):
    generator = torch.Generator().manual_seed(seed)
    clusters = torch.randint(0, 3, (2, 12, 9), generator=generator)
    values = torch.rand(2, 4, 12, 9, generator=generator)
    merged = superpixels_from_clusters(clusters, min_size=min_size, features=pixel_features(values))
    plain = superpixels_from_clusters(clusters).numpy()
    for b in range(2):
        expected = literal_merge(plain[b], min_size, values[b].double().numpy())
        np.testing.assert_array_equal(merged[b].numpy(), expected)


def test_nothing_is_merged_where_nothing_is_small():
    clusters = torch.tensor([[[0, 0, 1, 1], [0, 0, 1, 1]]])
    features = pixel_features(torch.rand(1, 2, 2, 4))
    merged = superpixels_from_clusters(clusters, min_size=4, features=features)
    assert torch.equal(merged, clusters)


def test_a_fragment_joins_the_neighbour_of_nearest_feature_not_the_largest():
    clusters = torch.tensor([[[0, 0, 0, 0, 1, 2, 2]]])
    values = torch.tensor([0.0, 0, 0, 0, 0.9, 1, 1]).view(1, 1, 1, 7)
    merged = superpixels_from_clusters(clusters, min_size=2, features=pixel_features(values))
    assert merged.tolist() == [[[0, 0, 0, 0, 1, 1, 1]]]


def test_many_superpixels_are_summed_in_several_strips():
    clusters = (torch.arange(16)[:, None] + torch.arange(16)).remainder(2)[None]  # a chessboard
    values = torch.rand(1, 3, 16, 16)
    merged = superpixels_from_clusters(clusters, min_size=3, features=pixel_features(values))
    expected = literal_merge(np.arange(256).reshape(16, 16), 3, values[0].double().numpy())
    np.testing.assert_array_equal(merged[0].numpy(), expected)
