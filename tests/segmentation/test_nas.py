"""NAS from images to superpixels: against Algorithm 1 literally, and with networks of all kinds."""

import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

import naspix
from naspix.clustering import canonical_order
from naspix.errors import ActivationError, InputError, UnknownNameError

sys.path.insert(0, str(Path(__file__).parents[1] / "reference"))
from algorithm_1 import inertia, literal_features, literal_kmeans, points_of


class TwoLevels(nn.Module):
    """A small network with two resolutions, and a switch that overflows the deeper one."""

    def __init__(self, *, symmetric: bool = False, overflows: bool = False) -> None:
        super().__init__()
        self.shallow = nn.Conv2d(3, 40, 3, padding=1)
        self.deep = nn.Conv2d(40, 48, 3, padding=1)
        self.head = nn.Linear(48, 4)
        self.overflows = overflows
        if symmetric:  # its maps of a mirrored image are the mirrored maps
            for convolution in (self.shallow, self.deep):
                weight = convolution.weight.data
                convolution.weight.data = (weight + weight.flip(3)) / 2

    def forward(self, images: Tensor) -> Tensor:
        maps = nn.functional.max_pool2d(self.shallow(images).relu(), 2)
        maps = self.deep(maps / 0 if self.overflows else maps).relu()
        return self.head(maps.mean((2, 3)))


def small_model(**settings: bool) -> naspix.Classifier:
    torch.manual_seed(0)
    return naspix.wrap_model(TwoLevels(**settings), input_size=(32, 32), levels=["shallow", "deep"])


@pytest.fixture(scope="module")
def images() -> Tensor:
    generator = torch.Generator().manual_seed(1)
    coarse = torch.rand(3, 3, 6, 6, generator=generator)
    return nn.functional.interpolate(coarse, size=(32, 32), mode="bilinear")


def test_it_is_algorithm_1(images):
    model = small_model()
    activations = model.activations(images[:1], (0, 1))
    points = points_of(literal_features(activations, (32, 32)))
    clusters = naspix.NAS(model, levels=(0, 1), n_clusters=4, tol=0)(images[:1]).clusters
    labels = clusters.flatten().numpy()
    # the fixed point it stops at is one of Lloyd's on the dense matrix: scikit-learn stays there
    means = torch.stack([torch.from_numpy(points[labels == k].mean(0)) for k in range(4)])
    theirs = literal_kmeans(points.astype("float64"), means.double().numpy())
    wanted = canonical_order(torch.from_numpy(theirs.labels_).long().view(1, 32, 32))
    # float32 against float64: a pixel or two on a boundary
    assert (clusters == wanted).float().mean() > 0.998
    assert inertia(points, labels) == pytest.approx(theirs.inertia_, rel=1e-4)


def test_from_activations_at_hand_it_is_the_same(images):
    model = small_model()
    nas = naspix.NAS(model, n_clusters=4)
    seg = nas(images)
    assert nas.segment(model.activations(images, nas.levels), (32, 32)) == seg
    assert seg.clusters.dtype == seg.superpixels.dtype == torch.int64
    assert seg.source.startswith("NAS(model=")
    assert seg.n_superpixels.shape == (3,)


@pytest.mark.parametrize("algorithm", ["kmeans", "ward"])
def test_autocast_is_for_the_network_not_for_the_clustering(images, algorithm):
    model = small_model()
    nas = naspix.NAS(model, n_clusters=4, algorithm=algorithm)
    activations = model.activations(images, nas.levels)
    plain = nas.segment(activations, (32, 32))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert nas.segment(activations, (32, 32)) == plain
        assert nas(images).clusters.shape == (3, 32, 32)


@given(st.integers(0, 10_000))
def test_flipping_the_image_flips_the_segmentation(seed):
    """With a network that is flip-equivariant, and to the fixed point of the same partition."""
    model = small_model(symmetric=True).double()
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(1, 3, 5, 5, generator=generator, dtype=torch.float64)
    image = nn.functional.interpolate(coarse, size=(32, 32), mode="bilinear")
    plain = [maps.flip(3) for maps in model.activations(image, (0, 1))]
    mirrored = model.activations(image.flip(3), (0, 1))
    for ours, theirs in zip(plain, mirrored, strict=True):
        torch.testing.assert_close(ours, theirs)
    ward = naspix.NAS(model, n_clusters=5, algorithm="ward")  # which draws nothing
    flipped = canonical_order(ward(image.flip(3)).clusters.flip(2))
    assert torch.equal(flipped, ward(image).clusters)


def test_ward_can_be_cut_into_other_numbers_of_clusters(images):
    seg = naspix.NAS(small_model(), n_clusters=6, algorithm="ward")(images)
    assert seg.n_clusters.tolist() == [6, 6, 6]
    finer = seg.cut(12)
    pairs = torch.stack([finer.clusters, seg.clusters], dim=3).flatten(1, 2)
    for image in pairs:
        assert len(image.unique(dim=0)) == 12  # each fine cluster lies in one coarse cluster


def test_the_default_levels_are_the_last_three_the_model_has(images):
    assert naspix.NAS(small_model()).levels == (0, 1)
    resnet = naspix.load_model("resnet18", weights=None)
    assert naspix.NAS(resnet).levels == (2, 3, 4)
    assert naspix.NAS(naspix.load_model()).levels == (3, 4)  # level 2 would drown the others
    by_name = naspix.NAS(resnet, levels=["layer2", "layer3", "layer4"])
    assert by_name(images) == naspix.NAS(resnet)(images)


def test_size_chooses_the_frame(images):
    model = small_model()
    assert naspix.NAS(model, size=(50, 21))(images).clusters.shape == (3, 50, 21)
    activations = model.activations(images, (0, 1))
    assert naspix.NAS(model).segment(activations, (9, 40)).size == (9, 40)
    with pytest.raises(InputError, match=r"give size=\(H, W\)"):
        naspix.NAS(model).segment(activations)


def test_min_size_merges_fragments(images):
    seg = naspix.NAS(small_model(), n_clusters=8, min_size=12)(images)
    assert min(int(seg.areas(index).min()) for index in range(3)) >= 12


def test_lines_10_and_11_can_be_left_out(images):
    model = small_model()
    with_both = naspix.NAS(model, n_clusters=5)(images)
    without = naspix.NAS(model, n_clusters=5, normalize=False, weight=False)(images)
    assert with_both != without


def test_a_level_that_overflows_is_named(images):
    with pytest.raises(ActivationError, match="level deep holds NaN or infinite values"):
        naspix.NAS(small_model(overflows=True))(images)


@pytest.mark.parametrize(
    ("settings", "error", "complaint"),
    [
        ({"levels": (0, 7)}, UnknownNameError, "there is no level 7"),
        ({"levels": ("shalow",)}, UnknownNameError, "did you mean 'shallow'"),
        ({"n_clusters": 0}, InputError, "needs a whole number from 1 up"),
    ],
)
def test_arguments_out_of_range_are_refused_at_once(settings, error, complaint):
    with pytest.raises(error, match=complaint):
        naspix.NAS(small_model(), **settings)


def test_too_many_clusters_and_too_few_activations(images):
    model = small_model()
    with pytest.raises(InputError, match="choose 1 to 1024"):
        naspix.NAS(model, n_clusters=1025)(images)
    with pytest.raises(InputError, match="1 activations were given for the 2 levels"):
        naspix.NAS(model).segment(model.activations(images, [0]), (32, 32))
