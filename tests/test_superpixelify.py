"""Pooling over superpixels: SciPy's numbers, and the laws that pooling obeys."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from naspix.errors import InputError
from naspix.superpixelify import rank_superpixels, superpixelify, variance_kept


def _case(seed: int, maps: int = 2, labels: int = 9) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    heat = torch.randn(3, maps, 11, 7, generator=generator)
    regions = torch.randint(0, labels, (3, 11, 7), generator=generator)
    return heat, regions


@pytest.mark.parametrize(
    ("reduce", "scipy_reduce"),
    [
        ("mean", ndimage.mean),
        ("sum", ndimage.sum_labels),
        ("max", ndimage.maximum),
        ("median", ndimage.median),
    ],
)
def test_equals_scipy(reduce, scipy_reduce):
    heat, labels = _case(0)
    labels = labels * 5 - 12  # neither consecutive nor positive
    pooled = superpixelify(heat, labels, reduce=reduce)
    for image in range(3):
        regions = labels[image].numpy()
        names = np.unique(regions)
        for number in range(2):
            values = scipy_reduce(heat[image, number].double().numpy(), regions, names)
            expected = np.asarray(values)[np.searchsorted(names, regions)]
            # float32 results of float64 sums: one rounding
            np.testing.assert_allclose(pooled[image, number], expected, rtol=2e-7, atol=1e-7)


@pytest.mark.parametrize("reduce", ["mean", "sum"])
@pytest.mark.parametrize("scale", [1, -(2**50)])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_long_runs_of_one_label_are_added_up_as_pixels_are(reduce, scale, dtype):
    """Superpixels take another way than labels without neighbours; with gradients they do not."""
    generator = torch.Generator().manual_seed(4)
    heat = torch.randn(2, 3, 12, 40, generator=generator).to(dtype)
    small = torch.randint(0, 5, (2, 3, 4), generator=generator) * scale
    labels = small.repeat_interleave(4, 1).repeat_interleave(10, 2)
    pooled = superpixelify(heat, labels, reduce=reduce)
    assert pooled.dtype == dtype
    pixel_by_pixel = superpixelify(heat.clone().requires_grad_(), labels, reduce=reduce)
    assert pixel_by_pixel.requires_grad
    # one step of the type at most, where two orders of the sum round apart
    near = {"rtol": torch.finfo(dtype).eps, "atol": 1e-12}
    torch.testing.assert_close(pooled, pixel_by_pixel.detach(), **near)
    for image in range(2):
        values = getattr(ndimage, {"mean": "mean", "sum": "sum_labels"}[reduce])(
            heat[image, 1].double().numpy(),
            labels[image].numpy(),
            names := np.unique(labels[image].numpy()),
        )
        expected = np.asarray(values)[np.searchsorted(names, labels[image].numpy())]
        np.testing.assert_allclose(pooled[image, 1].double(), expected, **near)
    heat[1, 2, 5, 7] = torch.nan
    with pytest.raises(InputError, match="finite"):
        superpixelify(heat, labels, reduce=reduce)


def test_images_do_not_share_superpixels():
    heat = torch.tensor([[[1.0, 3.0]], [[10.0, 30.0]]])
    labels = torch.zeros(2, 1, 2, dtype=torch.int64)
    assert superpixelify(heat, labels).tolist() == [[[2, 2]], [[20, 20]]]


def test_scattered_label_numbers_need_no_memory():
    heat = torch.tensor([[[1.0, 3.0, 8.0]]])
    labels = torch.tensor([[[-(2**60), -(2**60), 2**60]]])
    assert superpixelify(heat, labels).tolist() == [[[2, 2, 8]]]


@given(seed=st.integers(0, 2**16), labels=st.integers(1, 40))
def test_keeps_sums_and_is_idempotent(seed, labels):
    heat, regions = _case(seed, labels=labels)
    pooled = superpixelify(heat, regions)
    torch.testing.assert_close(pooled.sum((2, 3)), heat.sum((2, 3)), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(superpixelify(pooled, regions), pooled, rtol=1e-6, atol=1e-6)


@given(seed=st.integers(0, 2**16))
def test_renaming_labels_changes_nothing(seed):
    heat, regions = _case(seed)
    renamed = torch.randperm(9, generator=torch.Generator().manual_seed(seed))[regions] + 100
    torch.testing.assert_close(superpixelify(heat, renamed), superpixelify(heat, regions))


def test_labels_of_another_size_are_resized_by_nearest_neighbour():
    labels = torch.tensor([[[0, 1], [2, 3]]])
    heat = torch.rand(1, 6, 8)
    large = labels.repeat_interleave(3, 1).repeat_interleave(4, 2)
    torch.testing.assert_close(superpixelify(heat, labels), superpixelify(heat, large))
    # and as torch's own nearest, of the kind that pixel centres decide
    odd = torch.randint(0, 9, (1, 7, 5))
    expected = torch.nn.functional.interpolate(odd[:, None].float(), (6, 8), mode="nearest-exact")
    torch.testing.assert_close(superpixelify(heat, odd), superpixelify(heat, expected[:, 0].long()))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_keeps_shape_and_dtype(dtype):
    heat, labels = _case(1)
    for maps in (heat, heat[:, 0]):
        pooled = superpixelify(maps.to(dtype), labels)
        assert pooled.dtype == dtype
        assert pooled.shape == maps.shape


def test_small_differences_survive_many_pixels():
    # 10^6 float32 ones and one 2: summed in float32 one by one, the sum stops counting at 2^24
    heat = torch.full((1, 5000, 5000), 1.0)
    heat[0, 0, 0] = 2.0
    pooled = superpixelify(heat, torch.zeros(1, 1, 1, dtype=torch.int64), reduce="sum")
    assert pooled[0, 0, 0] == 5000 * 5000 + 1 or pooled[0, 0, 0] == 25_000_002  # float32's grid


@pytest.mark.parametrize(
    ("heat", "labels", "says"),
    [
        (torch.tensor([[[1.0, torch.nan]]]), torch.zeros(1, 1, 2, dtype=torch.int64), "finite"),
        (torch.tensor([[[1.0, torch.inf]]]), torch.zeros(1, 1, 2, dtype=torch.int64), "finite"),
        (torch.rand(2, 3, 3), torch.zeros(1, 3, 3, dtype=torch.int64), "2 images but labels of 1"),
        (torch.rand(3, 3), torch.zeros(1, 3, 3, dtype=torch.int64), "saliency is a floating"),
        (
            torch.ones(1, 3, 3, dtype=torch.int64),
            torch.zeros(1, 3, 3).long(),
            "saliency is a float",
        ),
        (torch.rand(1, 3, 3), torch.zeros(1, 3, 3), "labels are an integer"),
        (torch.rand(1, 3, 3), torch.zeros(3, 3).long(), "labels are an integer"),
        (torch.rand(0, 3, 3), torch.zeros(0, 3, 3).long(), "no pixels"),
    ],
)
def test_bad_input_gets_one_sentence(heat, labels, says):
    with pytest.raises(InputError, match=says):
        superpixelify(heat, labels)


def test_unknown_reduction():
    # the annotation refuses it too where types are checked, which is while tests run
    function = getattr(superpixelify, "__wrapped__", superpixelify)
    with pytest.raises(Exception, match="mean"):
        function(torch.rand(1, 2, 2), torch.zeros(1, 2, 2).long(), reduce="mode")


def test_ranking():
    heat = torch.tensor([[3.0, 1.0, 1.0], [0.0, 5.0, 5.0]])
    labels = torch.tensor([[4, 4, 4], [2, 9, 9]])
    first, second, third = rank_superpixels(heat, labels)
    assert (first.rank, first.label, first.area, first.saliency) == (1, 9, 2, 5.0)
    assert first.box == (1, 1, 3, 2)
    assert (second.label, second.box) == (4, (0, 0, 3, 1))
    assert second.saliency == pytest.approx(5 / 3)
    assert (third.rank, third.label) == (3, 2)


def test_ranking_breaks_ties_by_label():
    labels = torch.tensor([[3, 1, 2]])
    assert [one.label for one in rank_superpixels(torch.ones(1, 3), labels)] == [1, 2, 3]


def test_labels_of_another_size_serve_several_maps_and_every_reduction():
    heat, _ = _case(2)
    small = torch.randint(0, 4, (3, 4, 3), generator=torch.Generator().manual_seed(3))
    large = torch.nn.functional.interpolate(small[:, None].float(), (11, 7), mode="nearest-exact")
    for reduce in ("mean", "sum", "max", "median"):
        pooled = superpixelify(heat, small, reduce=reduce)
        torch.testing.assert_close(
            pooled, superpixelify(heat, large[:, 0].long(), reduce=reduce), rtol=0, atol=0
        )
        for number in range(2):  # several maps at once are each map alone
            alone = superpixelify(heat[:, number], small, reduce=reduce)
            torch.testing.assert_close(pooled[:, number], alone, rtol=0, atol=0)


@pytest.mark.parametrize("reduce", ["sum", "max", "median"])
def test_every_reduction_refuses_what_is_not_finite(reduce):
    heat = torch.tensor([[[1.0, torch.nan]]])
    with pytest.raises(InputError, match="finite"):
        superpixelify(heat, torch.zeros(1, 1, 2, dtype=torch.int64), reduce=reduce)


@given(seed=st.integers(0, 2**16), labels=st.integers(1, 40))
def test_variance_between_and_within_superpixels_is_all_there_is(seed, labels):
    heat, regions = _case(seed, labels=labels)
    kept = variance_kept(heat, regions)
    within = (heat.double() - superpixelify(heat.double(), regions)).square().mean((2, 3))
    total = heat.double().flatten(2).var(-1, correction=0)
    torch.testing.assert_close(kept, 1 - within / total)


def test_variance_kept_at_its_ends():
    labels = torch.tensor([[[0, 0, 1, 1]]])
    assert variance_kept(torch.tensor([[[1.0, 1.0, 5.0, 5.0]]]), labels).tolist() == [1.0]
    assert variance_kept(torch.tensor([[[1.0, 5.0, 5.0, 1.0]]]), labels).tolist() == [0.0]
    assert variance_kept(torch.full((1, 1, 4), 0.1), labels).isnan().all()
