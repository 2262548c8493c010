"""The audit: closed forms, and a network that learnt a planted mark."""

import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

import naspix
from naspix.errors import InputError
from naspix.metrics import ClusterSaliency, clever_hans_audit, cluster_saliency, outside_shares


def measured(means: list[list[float]], area: list[list[float]]) -> ClusterSaliency:
    """One superpixel a cluster, where its area is not zero."""
    areas = torch.tensor(area, dtype=torch.float64)
    weights = (areas > 0).double()
    sums = torch.tensor(means, dtype=torch.float64) * weights
    blank = torch.zeros(len(areas), 1, dtype=torch.bool)
    return ClusterSaliency(("cam",), sums[:, None], weights, areas, blank)


def test_a_salient_cluster_of_a_minority_comes_first():
    suspects = clever_hans_audit(
        measured(
            [[0.8, 0.1, 0.9], [0.8, 0.1, 0.9], [0.8, 0.1, 0], [0.8, 0.1, 0]],
            [[0.5, 0.4, 0.1]] * 2 + [[0.5, 0.5, 0.0]] * 2,
        )
    )
    first = suspects[0]
    assert (first.cluster, first.n_images, first.rarity) == (2, 2, 0.5)
    assert first.contrast == pytest.approx(0.9 - 0.45)
    assert first.score == pytest.approx(0.5 * 0.45)
    # the most salient cluster of every image is no suspect where nothing says it is outside
    assert [one.cluster for one in suspects if one.score > 0] == [2]


def test_outside_the_object_even_a_common_cluster_is_suspect():
    values = measured([[0.8, 0.6, 0.1]] * 5, [[0.3, 0.3, 0.4]] * 5)
    outside = torch.tensor([[0.0, 1.0, 0.9]] * 5, dtype=torch.float64)
    first, second, _ = clever_hans_audit(values, outside=outside)
    assert (first.cluster, first.outside) == (1, 1.0)
    assert second.score == 0


def test_one_image_proves_nothing():
    values = measured([[0.2, 1.0], [0.2, 0.0], [0.3, 0.0]], [[0.9, 0.1], [1.0, 0.0], [1.0, 0.0]])
    (one,) = (suspect for suspect in clever_hans_audit(values) if suspect.cluster == 1)
    assert one.contrast == pytest.approx(0.8)
    assert one.contrast_bound == -math.inf
    assert one.score == 0


def test_a_wavering_contrast_counts_for_less_than_a_sure_one():
    values = measured(
        [[0.5, 0.9 if b % 2 else 0.3, 0.6] for b in range(8)] + [[0.5, 0, 0]] * 8,
        [[0.5, 0.3, 0.2]] * 8 + [[1.0, 0.0, 0.0]] * 8,
    )
    ranked = {one.cluster: one for one in clever_hans_audit(values)}
    assert ranked[1].contrast == pytest.approx(0.05, abs=0.01)
    assert ranked[1].score == 0  # not surely above the rest
    assert ranked[1].contrast_bound < 0 < ranked[1].contrast


def test_a_cluster_that_no_image_has_comes_last():
    suspects = clever_hans_audit(measured([[0.5, 0.4, 0.0]] * 3, [[0.5, 0.5, 0.0]] * 3))
    assert suspects[-1].cluster == 2
    assert math.isnan(suspects[-1].contrast)
    assert suspects[-1].n_images == 0


def test_outside_shares():
    clusters = torch.tensor([[[0, 0, 1, 1]], [[0, 0, 0, 0]]])
    objects = torch.tensor([[[True, False, True, True]], [[False] * 4]])
    shares = outside_shares(clusters, objects, n_clusters=2)
    assert shares[0].tolist() == [0.5, 0.0]
    assert shares[1].isnan().all()  # nothing is marked: nothing is known


def test_what_does_not_fit_is_refused_in_a_sentence():
    values = measured([[0.5, 0.4]], [[0.5, 0.5]])
    with pytest.raises(InputError, match="nothing was measured by 'lrp'"):
        clever_hans_audit(values, method="lrp")
    with pytest.raises(InputError, match="1 images and 2 clusters"):
        clever_hans_audit(values, outside=torch.zeros(1, 3))


# A planted watermark. Class 1 has coarser texture than class 0, weakly; half of its images carry a
# mark in a corner, which is much easier to learn.


def planted(n: int, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Images, classes, and where the mark is."""
    generator = torch.Generator().manual_seed(seed)
    classes = torch.arange(n) % 2
    fine = torch.rand(n, 3, 48, 48, generator=generator)
    coarse = functional.interpolate(torch.rand(n, 3, 6, 6, generator=generator), 48, mode="bicubic")
    share = torch.where(classes == 1, 0.505, 0.495).view(-1, 1, 1, 1)
    images = (share * coarse + (1 - share) * fine).clamp(0, 1)
    mark = torch.zeros(n, 48, 48, dtype=torch.bool)
    mark[1::4, 36:46, 36:46] = True  # every second image of class 1
    pattern = (torch.arange(48) // 2 % 2).float().expand(48, 48)
    return torch.where(mark[:, None], pattern, images), classes, mark


@pytest.fixture(scope="module")
def deceived() -> naspix.Classifier:
    torch.manual_seed(0)

    def stage(n_in: int, n_out: int) -> nn.Sequential:
        convolution = nn.Conv2d(n_in, n_out, 3, padding=1)
        return nn.Sequential(convolution, nn.BatchNorm2d(n_out), nn.ReLU(), nn.MaxPool2d(2))

    network = nn.Sequential(
        stage(3, 16), stage(16, 24), stage(24, 32), nn.AdaptiveMaxPool2d(1), nn.Flatten(),
        nn.Linear(32, 2),
    )  # fmt: skip
    images, classes, _ = planted(256, seed=1)
    optimizer = torch.optim.Adam(network.parameters(), lr=3e-3)
    for _ in range(8):
        for part in torch.randperm(len(images)).split(32):
            optimizer.zero_grad()
            functional.cross_entropy(network(images[part] * 4 - 2), classes[part]).backward()
            optimizer.step()
    network.eval()
    return naspix.wrap_model(
        network, mean=(0.5,) * 3, std=(0.25,) * 3, input_size=(48, 48), levels=("0", "1", "2")
    )


def test_the_network_did_learn_the_mark(deceived):
    images, classes, mark = planted(128, seed=2)
    marked = mark.flatten(1).any(1)
    moved = images[classes == 0].clone()
    moved[:, :, 36:46, 36:46] = images[marked][:1, :, 36:46, 36:46]
    with torch.no_grad():
        assert (deceived(images).argmax(1) == classes)[marked].float().mean() > 0.95
        assert deceived(moved).argmax(1).float().mean() > 0.9  # the mark alone makes class 1


@pytest.mark.parametrize("boxes", [False, True])
def test_the_marks_cluster_comes_first(deceived, boxes: bool):
    images, classes, mark = planted(160, seed=3)
    of_class, where = images[classes == 1], mark[classes == 1]
    clusters = naspix.ClassClustering(deceived, levels=(1, 2), n_clusters=8).fit(of_class)
    seg = clusters(of_class)
    saliency = {
        "input_x_gradient": naspix.saliency.InputXGradient(deceived)(of_class, 1).abs(),
        "grad_cam_plus_plus": naspix.saliency.GradCAMPlusPlus(deceived)(of_class, 1),
    }
    values = cluster_saliency(saliency, seg.clusters, seg.superpixels, n_clusters=8)
    objects = torch.zeros_like(where)
    objects[:, 4:34, 4:34] = True
    outside = outside_shares(seg.clusters, objects, n_clusters=8) if boxes else None
    first, second, *_ = clever_hans_audit(values, outside=outside)
    inside_mark = seg.clusters[where].bincount(minlength=8) / where.sum()
    assert inside_mark[first.cluster] > 0.5  # most of the mark is this cluster
    near = functional.max_pool2d(where[:, None].float(), 11, 1, 5)[:, 0] > 0  # fields overlap
    found = seg.clusters == first.cluster
    assert (found & near).sum() / found.sum() > 0.8  # and most of this cluster is the mark
    assert first.score > 1.5 * second.score
    assert first.rarity == pytest.approx(0.5, abs=0.15)
