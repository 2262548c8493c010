"""UpsampledFeatures against Algorithm 1's dense matrix, built with torch's own upsampling."""

import itertools
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from naspix.clustering import UpsampledFeatures
from naspix.errors import ActivationError, InputError

sys.path.insert(0, str(Path(__file__).parents[1] / "reference"))
from algorithm_1 import literal_features

# name -> shapes (C, h, w) of the levels
LEVELS = {
    "resnet-like": [(64, 12, 12), (96, 6, 6), (128, 3, 3)],
    "odd": [(40, 7, 11), (48, 5, 3)],
    "one channel": [(1, 6, 7), (40, 3, 3)],
    "one cell": [(33, 1, 1), (48, 4, 4)],
    "tokens": [(48, 6, 6), (48, 6, 6)],
    "large": [(36, 40, 30)],
}
SIZES = [(48, 48), (37, 53), (20, 9), (1, 1)]  # "large" and the last are scaled down


def activations_of(kind: str, dtype: torch.dtype, n_images: int = 2) -> list[Tensor]:
    generator = torch.Generator().manual_seed(len(kind))
    return [
        torch.randn(n_images, *shape, generator=generator, dtype=dtype) for shape in LEVELS[kind]
    ]


def relative_error(got: Tensor, wanted: Tensor) -> float:
    return float((got - wanted).norm() / wanted.norm().clamp_min(1e-30))


# float32 is held to the 1e-5; float64 shows that what is left is rounding alone
@pytest.mark.parametrize(("dtype", "bound"), [(torch.float32, 1e-5), (torch.float64, 1e-11)])
@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("kind", LEVELS)
@pytest.mark.parametrize(
    "lines", [(True, True), (False, True), (True, False), (False, False)], ids=str
)
def test_every_operation_equals_the_dense_one(kind, size, dtype, bound, lines):
    activations = activations_of(kind, dtype)
    normalize, weight = lines
    features = UpsampledFeatures(activations, size, normalize=normalize, weight=weight)
    dense = literal_features(activations, size, normalize=normalize, weight=weight)
    n_pixels = size[0] * size[1]
    centers = torch.randn(2, 3, features.n_dims, dtype=dtype)
    membership = torch.rand(2, 3, *size, dtype=dtype)
    pixels = torch.randint(n_pixels, (2, 4))

    assert relative_error(features.dense(), dense) < bound
    products = torch.einsum("bkd,bdhw->bkhw", centers, dense)
    assert relative_error(features.inner_products(centers), products) < bound
    sums = torch.einsum("bkhw,bdhw->bkd", membership, dense)
    assert relative_error(features.cluster_sums(membership), sums) < bound
    chosen = dense.flatten(2).gather(2, pixels[:, None].expand(-1, features.n_dims, -1)).mT
    assert relative_error(features.at(pixels), chosen) < bound
    norms = dense.square().sum(1)
    assert relative_error(features.squared_norms(), norms) < bound
    distances = (dense[:, None] - centers[..., None, None]).square().sum(2)
    assert relative_error(features.squared_distances(centers), distances) < bound
    if n_pixels <= 500:
        pairs = dense.flatten(2).mT @ dense.flatten(2)
        assert relative_error(features.pixel_products(), pairs) < bound


def test_zero_activations_give_zero_features_and_no_nan():
    activations = activations_of("resnet-like", torch.float32)
    activations[0][:, :, :5, :7] = 0  # a corner
    activations[1][0] = 0  # a level of one image
    features = UpsampledFeatures(activations, (48, 48))
    dense = literal_features(activations, (48, 48))
    assert not features.dense().isnan().any()
    assert relative_error(features.dense(), dense) < 1e-5
    assert relative_error(features.squared_norms(), dense.square().sum(1)) < 1e-6
    everything_zero = UpsampledFeatures([torch.zeros(1, 40, 4, 4)], (8, 8))
    assert everything_zero.dense().abs().max() == 0
    assert everything_zero.squared_norms().max() == 0


@given(st.integers(0, 2**31), st.sampled_from([2.0**-20, 3.7, 1e6]))
def test_the_scale_and_the_order_of_channels_do_not_matter(seed, factor):
    generator = torch.Generator().manual_seed(seed)
    activation = torch.randn(1, 40, 5, 4, generator=generator)
    order = torch.randperm(40, generator=generator)
    plain = UpsampledFeatures([activation], (13, 17)).pixel_products()
    changed = UpsampledFeatures([activation[:, order] * factor], (13, 17)).pixel_products()
    # inner products are at most 1 / 41^2 here; float32 keeps some six digits of that
    torch.testing.assert_close(changed, plain, rtol=1e-4, atol=1e-8)


def test_a_tile_is_the_mean_vector_times_the_mean_scale():
    activations = activations_of("odd", torch.float64)
    features = UpsampledFeatures(activations, (37, 53))
    tiles = features.tiles(5)
    assert tiles.size == (8, 11)
    raw = literal_features(activations, (37, 53), normalize=False, weight=False)
    ends = itertools.accumulate(activation.shape[1] for activation in activations)
    for activation, scale, end in zip(activations, features.scales, ends, strict=True):
        channels = slice(end - activation.shape[1], end)
        for row, column in [(0, 0), (3, 7), (7, 10)]:  # the last has 2 x 3 pixels
            pixels = (
                slice(None),
                slice(5 * row, 5 * row + 5),
                slice(5 * column, 5 * column + 5),
            )
            vectors = raw[:, channels][:, *pixels].flatten(2)
            expected = vectors.mean(2) * scale[pixels].flatten(1).mean(1)[:, None]
            tile = tiles.dense()[:, channels, row, column]
            assert relative_error(tile, expected) < 1e-12
    assert features.tiles(5)._levels[0].upsampling is tiles._levels[0].upsampling  # kept


def test_what_is_kept_for_reuse_is_an_ordinary_tensor():
    size = (31, 29)  # of no other test, so that nothing is kept yet
    with torch.inference_mode():
        features = UpsampledFeatures([torch.rand(1, 40, 5, 4)], size)
        features.tiles(3).pixel_products()
        features.collect(features.expand(torch.rand(1, 2, 20)))
    upsampling = features._levels[0].upsampling
    kept = [
        value
        for each in (upsampling, upsampling.tiles(3))
        for value in vars(each).values()
        if isinstance(value, torch.Tensor)
    ]
    assert len(kept) > 6
    assert not any(tensor.is_inference() for tensor in kept)


def test_parts_of_a_batch_and_other_frames():
    activations = activations_of("resnet-like", torch.float64, n_images=3)
    features = UpsampledFeatures(activations, (24, 24))
    assert features.images(0, 3) is features
    torch.testing.assert_close(features.image(1).dense(), features.dense()[1:2])
    torch.testing.assert_close(
        features.resized((9, 14)).dense(), literal_features(activations, (9, 14))
    )
    assert features.batch_size == 3
    assert features.n_dims == 64 + 96 + 128
    assert features.n_pixels == 24 * 24
    assert [tuple(level.shape) for level in features.levels] == [
        tuple(a.shape) for a in activations
    ]
    assert all(scale.shape == (3, 24, 24) for scale in features.scales)
    assert repr(features) == (
        "UpsampledFeatures(batch_size=3, size=(24, 24), levels=[64x12x12, 96x6x6, 128x3x3])"
    )


def test_half_precision_is_taken_as_float32():
    activation = torch.randn(1, 40, 4, 4).half()
    features = UpsampledFeatures([activation], (9, 9))
    assert features.dense().dtype == torch.float32
    assert relative_error(features.dense(), literal_features([activation.float()], (9, 9))) < 1e-5


@pytest.mark.parametrize(
    ("activations", "size", "complaint"),
    [
        ([], (8, 8), "no activations were given"),
        ([torch.rand(1, 4, 2, 2)], (0, 8), "needs at least 1 x 1"),
        ([torch.rand(4, 2, 2)], (8, 8), r"activation 0 is torch.float32 of shape \(4, 2, 2\)"),
        ([torch.ones(1, 4, 2, 2).long()], (8, 8), "give a floating-point tensor"),
        ([torch.rand(1, 4, 2, 2), torch.rand(2, 4, 2, 2)], (8, 8), "all levels of the same batch"),
    ],
)
def test_activations_that_do_not_fit_are_refused(activations, size, complaint):
    with pytest.raises(InputError, match=complaint):
        UpsampledFeatures(activations, size)


@pytest.mark.parametrize("n_channels", [4, 40])  # both ways to the norm
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_values_that_are_not_finite_name_their_level(n_channels, value):
    activation = torch.rand(1, n_channels, 3, 3)
    activation[0, 1, 2, 2] = value
    with pytest.raises(ActivationError, match="level layer4 holds NaN or infinite values"):
        UpsampledFeatures([activation], (9, 9), names=["layer4"])


def test_values_whose_squares_overflow_are_told_from_nan():
    with pytest.raises(ActivationError, match=r"level 0 has values up to 1e\+30"):
        UpsampledFeatures([torch.full((1, 40, 3, 3), 1e30)], (9, 9))


def test_centres_of_another_length_are_refused():
    features = UpsampledFeatures([torch.rand(1, 4, 3, 3)], (9, 9))
    with pytest.raises(InputError, match=r"give \(B, K, D\) with B = 1 images and D = 4"):
        features.inner_products(torch.rand(1, 2, 5))
