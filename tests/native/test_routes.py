"""The compiled part and the torch code give the same; without the one, the other does it all."""

import os
import subprocess
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from skimage.measure import label
from torch import Tensor

import naspix
from naspix import native
from naspix.clustering import UpsampledFeatures, kmeans, superpixels_from_clusters
from naspix.clustering.upsampling import Upsampling
from naspix.errors import ActivationError, InputError, NaspixWarning

compiled = pytest.mark.skipif(native.why_not() is not None, reason=f"{native.why_not()}")


def smooth(seed: int, shapes: list[tuple[int, int, int]], n_images: int = 1) -> list[Tensor]:
    """Activations like a network's: not negative, smooth over the image, sparse in channels."""
    generator = torch.Generator().manual_seed(seed)
    maps = []
    for n_channels, *cells in shapes:
        coarse = torch.randn(n_images, n_channels, 4, 4, generator=generator)
        maps.append(torch.nn.functional.interpolate(coarse, size=cells, mode="bilinear").relu())
    return maps


RESNET18 = [(128, 12, 12), (256, 6, 6), (512, 3, 3)]


def inertia(features: UpsampledFeatures, labels: Tensor) -> float:
    points = features.dense()[0].flatten(1).double().T
    total = 0.0
    for cluster in labels.unique():
        own = points[labels.flatten() == cluster]
        total += float((own - own.mean(0)).square().sum())
    return total


def both(monkeypatch: pytest.MonkeyPatch, compute):
    """What a function returns by the compiled part, and by torch."""
    found = []
    for setting in ("on", "off"):
        monkeypatch.setenv("NASPIX_KERNEL", setting)
        found.append(compute())
    return found


@compiled
@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize(
    ("shapes", "size"),
    [
        (RESNET18, (96, 96)),
        ([(64, 28, 28), (40, 14, 14), (24, 7, 7)], (224, 224)),  # few channels, many cells
        ([(48, 5, 9), (33, 1, 1), (16, 2, 3)], (33, 57)),  # fewer than four cells
        ([(40, 40, 30)], (17, 23)),  # a frame smaller than the activation
        ([(36, 3, 50)], (2, 211)),
    ],
    ids=str,
)
def test_scales_are_torchs(monkeypatch, shapes, size, normalize) -> None:
    activations = smooth(0, shapes, n_images=3)
    activations[0][1, :, 0, 0] = 0
    ours, theirs = both(
        monkeypatch,
        lambda: UpsampledFeatures(activations, size, normalize=normalize).scales,
    )
    for mine, other in zip(ours, theirs, strict=True):
        # |X u|^2 is a sum of some 28 products in float32, in another order: a few units in 1e-7;
        # where it nearly cancels its own rounding is larger, so pixels near zero are compared less
        torch.testing.assert_close(mine, other, rtol=2e-4, atol=1e-7)
        assert ((mine - other).abs() <= 5e-6 * other.abs()).float().mean() > 0.99


@compiled
@pytest.mark.parametrize("n_clusters", [1, 2, 5, 6, 13])
@pytest.mark.parametrize(
    ("shapes", "size"),
    [(RESNET18, (96, 96)), ([(64, 28, 28), (128, 14, 14)], (224, 200)), (RESNET18, (61, 75))],
    ids=str,
)
def test_labels_are_torchs(monkeypatch, shapes, size, n_clusters) -> None:
    activations = smooth(1, shapes, n_images=2)
    features = UpsampledFeatures(activations, size)
    ours, theirs = both(monkeypatch, lambda: kmeans(features, n_clusters))
    # starts are drawn by the same numbers from sums in another order; a draw that falls on the
    # edge of two tiles may go the other way, which costs or gains a little inertia
    for image in range(2):
        one = features.image(image)
        assert inertia(one, ours[image]) <= 1.005 * inertia(one, theirs[image])
    assert (ours == theirs).float().mean() > 0.99


@compiled
@pytest.mark.parametrize("seed", range(6))
def test_fixed_points_from_the_same_centres_are_torchs(monkeypatch, seed) -> None:
    activations = smooth(seed, RESNET18)
    features = UpsampledFeatures(activations, (96, 96))
    init = features.at(torch.tensor([[0, 700, 2500, 4700, 9000]]))
    ours, theirs = both(monkeypatch, lambda: kmeans(features, 5, tol=0, init=init, max_iter=1000))
    assert (ours == theirs).float().mean() >= 0.999  # pixels on a boundary fall to either side
    assert inertia(features, ours[0]) == pytest.approx(inertia(features, theirs[0]), rel=1e-5)


@compiled
def test_one_step_assigns_by_the_scores(monkeypatch) -> None:
    features = UpsampledFeatures(smooth(3, RESNET18), (96, 96))
    init = features.at(torch.tensor([[0, 700, 2500, 4700, 9000]]))
    labels = kmeans(features, 5, init=init, max_iter=1)
    scores = features.inner_products(init) - init.square().sum(2)[:, :, None, None] / 2
    best, second = scores.topk(2, dim=1).values.unbind(1)
    clear = best - second > 1e-5 * best.abs().max()
    assert clear.float().mean() > 0.95
    winners = scores.argmax(1)
    pairs = {(int(a), int(b)) for a, b in zip(winners[clear], labels[clear], strict=True)}
    assert len(pairs) == 5, "a renaming of the clusters and nothing else"


@compiled
@given(
    st.lists(
        st.tuples(st.integers(1, 40), st.integers(1, 9), st.integers(1, 9)), min_size=1, max_size=4
    ),
    st.tuples(st.integers(1, 40), st.integers(1, 40)),
    st.integers(1, 12),
    st.booleans(),
)
def test_any_shapes_give_clusters_of_the_same_quality(shapes, size, n_clusters, constant) -> None:
    n_clusters = min(n_clusters, size[0] * size[1])
    activations = smooth(5, shapes)
    if constant:
        activations = [torch.ones_like(maps) for maps in activations]
    features = UpsampledFeatures(activations, size)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NaspixWarning)  # fewer distinct features than clusters
        ours = kmeans(features, n_clusters)
        previous = os.environ.get("NASPIX_KERNEL")
        os.environ["NASPIX_KERNEL"] = "off"
        try:
            theirs = kmeans(features, n_clusters)
        finally:
            os.environ.pop("NASPIX_KERNEL")
            if previous is not None:
                os.environ["NASPIX_KERNEL"] = previous
    assert ours.shape == theirs.shape == (1, *size)
    assert int(ours.min()) == 0
    sizes = ours.flatten().bincount().tolist()
    assert all(a >= b for a, b in pairwise(sizes)), "in canonical order"
    noise = 1e-5 * float(features.squared_norms().sum())  # both round in float32
    assert inertia(features, ours[0]) <= 1.3 * inertia(features, theirs[0]) + noise


@compiled
def test_more_clusters_than_cells_and_than_pixels_of_a_group(monkeypatch) -> None:
    features = UpsampledFeatures(smooth(2, [(64, 6, 6), (96, 3, 3)]), (40, 40))
    ours, theirs = both(monkeypatch, lambda: kmeans(features, 300))
    assert len(ours.unique()) == len(theirs.unique()) == 300
    assert inertia(features, ours[0]) <= 1.05 * inertia(features, theirs[0])


@compiled
def test_batches_and_threads_change_nothing(monkeypatch) -> None:
    activations = smooth(4, RESNET18, n_images=8)
    features = UpsampledFeatures(activations, (96, 96))
    whole = kmeans(features, 5)
    for image in range(8):
        assert torch.equal(kmeans(features.image(image), 5), whole[image : image + 1])
    with ThreadPoolExecutor(8) as pool:
        for again in pool.map(lambda _: kmeans(features, 5), range(8)):
            assert torch.equal(again, whole)


@compiled
@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e30])
def test_values_that_are_not_finite_are_refused(value) -> None:
    activations = smooth(0, RESNET18)
    activations[1][0, 3, 2, 2] = value
    with pytest.raises(ActivationError, match=r"level 1"):
        UpsampledFeatures(activations, (96, 96))


@compiled
@pytest.mark.parametrize("connectivity", [4, 8])
@pytest.mark.parametrize("shape", [(1, 1), (1, 40), (40, 1), (37, 53), (96, 96)], ids=str)
@pytest.mark.parametrize("n_labels", [1, 2, 5])
def test_components_are_scikit_images(shape, n_labels, connectivity) -> None:
    generator = torch.Generator().manual_seed(n_labels)
    clusters = torch.randint(n_labels, (3, *shape), generator=generator)
    ours = superpixels_from_clusters(clusters, connectivity=connectivity)
    for image, found in zip(clusters.numpy(), ours.numpy(), strict=True):
        theirs = label(image, background=-1, connectivity=1 if connectivity == 4 else 2) - 1
        np.testing.assert_array_equal(found, theirs)


@compiled
@compiled
@given(
    st.integers(0, 2**31), st.integers(1, 3), st.integers(1, 4),
    st.tuples(st.integers(1, 40), st.integers(1, 40)), st.integers(1, 60),
    st.sampled_from([0, -7, 2**40]), st.sampled_from(["mean", "sum"]),
)  # fmt: skip
def test_pooled_maps_are_torchs(seed, n_images, n_maps, size, n_labels, shift, reduce) -> None:
    generator = torch.Generator().manual_seed(seed)
    maps = torch.randn(n_images, n_maps, *size, generator=generator)
    labels = torch.randint(n_labels, (n_images, *size), generator=generator) + shift
    with pytest.MonkeyPatch.context() as monkeypatch:
        found, expected = both(
            monkeypatch, lambda: naspix.superpixelify(maps, labels, reduce=reduce)
        )
    torch.testing.assert_close(found, expected)


@compiled
def test_label_numbers_far_apart_and_at_the_ends_of_their_range(monkeypatch) -> None:
    maps = torch.rand(1, 4, 5)
    ends = torch.tensor([-(2**63), 2**63 - 1, 0, 7])
    labels = ends[torch.randint(4, (1, 4, 5), generator=torch.Generator().manual_seed(0))]
    found, expected = both(monkeypatch, lambda: naspix.superpixelify(maps, labels))
    torch.testing.assert_close(found, expected)


@compiled
@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_maps_that_are_not_finite_are_refused(value) -> None:
    maps = torch.rand(2, 3, 9, 9)
    maps[1, 2, 8, 8] = value
    with pytest.raises(InputError, match="not finite"):
        naspix.superpixelify(maps, torch.zeros(2, 9, 9, dtype=torch.int64))


def test_what_goes_to_the_compiled_part(monkeypatch) -> None:
    right = torch.zeros(1, 2, 3, 4)
    assert native.route(right)
    assert not native.route(right.double())
    assert not native.route(right.half())
    assert not native.route(right.mT)  # not contiguous
    assert not native.route(right.to("meta"))
    assert not native.route(right, torch.zeros(2, requires_grad=True))
    assert not native.route(right[:0])
    monkeypatch.setenv("NASPIX_KERNEL", "off")
    assert not native.route(right)
    assert "NASPIX_KERNEL" in (native.why_not() or "")
    assert native.describe_route().startswith("torch")


@compiled
def test_an_empty_cluster_goes_the_torch_way(monkeypatch) -> None:
    features = UpsampledFeatures(smooth(0, RESNET18), (24, 24))
    far = features.at(torch.tensor([[0, 100, 300]]))
    far[0, 2] = 1e3  # no pixel is near this centre, so that its cluster is given another
    ours, theirs = both(monkeypatch, lambda: kmeans(features, 3, init=far))
    assert torch.equal(ours, theirs)
    assert len(ours.unique()) == 3


@compiled
def test_wrong_sizes_are_refused_before_anything_is_read() -> None:
    axes = Upsampling.between((3, 4), (12, 16), torch.float32, torch.device("cpu")).axes
    with pytest.raises(ValueError, match="cells"):
        native.compute_scales(torch.zeros(1, 5, 4, 3), axes, line_11=1.0, normalize=True)
    level = native.Level(torch.ones(1, 5, 3, 4), torch.ones(1, 12, 15), [axes])
    options = {"tol": 0, "tile_tol": 0, "max_iter": 1, "tile_max_iter": 1, "long_stride": 1}
    with pytest.raises(ValueError, match="axes lead"):
        native.cluster_images(
            [level], 2, tiles=(0, 0), draws=None, init=torch.zeros(1, 2, 5), **options
        )
    level = native.Level(torch.ones(1, 5, 3, 4), torch.ones(1, 12, 16), [axes])
    for init in (torch.zeros(1, 2, 4), torch.zeros(2, 2, 5), None):
        with pytest.raises(ValueError, match="centres"):
            native.cluster_images([level], 2, tiles=(0, 0), draws=None, init=init, **options)
    with pytest.raises(ValueError, match="labels"):
        native.label_components(torch.zeros(1, 2, 3, dtype=torch.int64).mT, corners=False)
    maps = torch.zeros(2, 1, 9)
    with pytest.raises(ValueError, match="labels of"):
        native.pool_regions(maps, torch.zeros(9, 2, dtype=torch.int64).mT, mean=True)


def test_without_it_torch_does_the_same() -> None:
    code = (
        "import torch, naspix; from naspix import native;"
        "from naspix.clustering import UpsampledFeatures, kmeans;"
        "maps = [torch.rand(1, 40, 6, 6, generator=torch.Generator().manual_seed(0))];"
        "labels = kmeans(UpsampledFeatures(maps, (24, 24)), 3);"
        "print(native.describe_route(), labels.unique().tolist())"
    )
    environment = {**os.environ, "NASPIX_KERNEL": "off"}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("torch (the environment variable NASPIX_KERNEL is off) [0, 1, 2]")


def test_the_doctor_and_records_say_which_it_was() -> None:
    diagnosis = naspix.check(naspix.load_model("efficientnet_lite0"), torch.rand(1, 3, 64, 64))
    assert native.describe_route() in repr(diagnosis)
    assert diagnosis.to_dict()["clustering"] == native.describe_route()
