"""What metrics return says in a line what it is, and draws itself."""

import pytest
import torch

import naspix
from naspix import metrics
from naspix.errors import InputError, UnknownNameError

IMAGES = torch.rand(3, 3, 16, 16, generator=torch.Generator().manual_seed(0))
HEAT = IMAGES.mean(1)
LABELS = (torch.arange(16)[:, None] // 8 * 2 + torch.arange(16) // 8).expand(3, 16, 16).contiguous()
RIGHT = torch.tensor([True, False, True])
BOXES = [torch.tensor([[2, 2, 9, 9]])] * 3


def model(images: torch.Tensor) -> torch.Tensor:
    return images.mean((2, 3))


def _localized() -> object:
    metric = metrics.MaxBoxAccV2()
    metric.update(HEAT, BOXES)
    return metric.curve()


def _measured() -> metrics.ClusterSaliency:
    return metrics.cluster_saliency({"a": HEAT, "b": 1 - HEAT}, LABELS, LABELS, n_clusters=4)


RESULTS = {
    "PerturbationCurves(3 images, 5 points, mean area": lambda: metrics.lerf(
        model, IMAGES, HEAT, steps=4, baseline="black"
    ),
    "MeanCurve(3 images, area": lambda: metrics.lerf(
        model, IMAGES, HEAT, steps=4, baseline="black"
    ).mean(),
    "RelevanceGain(3 images, mean": lambda: metrics.srg(
        model, IMAGES, HEAT, steps=4, baseline="black"
    ),
    "BestOrder(PerturbationCurves(3 images, 5 points": lambda: metrics.greedy_lerf(
        model, IMAGES, LABELS, baseline="black"
    ),
    "LocalizationCurve(best": _localized,
    "Overlaps(": lambda: metrics.overlaps(HEAT, BOXES)[0],
    "ClusterSaliency(3 images, 4 clusters, a, b)": _measured,
    "SaliencyByCluster(a: cluster": lambda: metrics.saliency_by_cluster(_measured(), RIGHT),
    "SegmentationAgreement(3 segmentations, means: ari": lambda: metrics.segmentation_agreement(
        LABELS
    ),
    "Comparison(best: b, not told from it: a, b; 2 contenders on 3 images)": lambda: (
        metrics.compare({"a": torch.tensor([0.1, 0.2, 0.3]), "b": torch.tensor([0.2, 0.3, 0.4])})
    ),
}


@pytest.mark.parametrize("begins", RESULTS)
def test_a_result_has_a_short_repr_and_a_plot(begins: str) -> None:
    from matplotlib.figure import Figure

    result = RESULTS[begins]()
    assert repr(result).startswith(begins)
    assert len(repr(result)) < 200
    assert "tensor" not in repr(result)
    axes = Figure().subplots()
    assert result.plot(axes) is axes
    assert axes.lines or axes.patches or axes.images
    assert result.plot().figure is not None


def test_single_and_missing_curves() -> None:
    one = metrics.lerf(model, IMAGES[:1], HEAT[:1], steps=4, baseline="black")
    assert repr(one).startswith("PerturbationCurves(1 image, 5 points, mean area")
    assert len(one.plot().lines) == 1
    assert len(metrics.lerf(model, IMAGES, HEAT, steps=4, baseline="black").plot().lines) == 4
    flat = metrics.lerf(
        lambda images: torch.ones(len(images), 2), IMAGES, HEAT, steps=4, baseline="black"
    )
    assert repr(flat) == "PerturbationCurves(3 images, 5 points, mean area nan, 3 left out)"
    with pytest.raises(InputError, match="there is no curve to average"):
        flat.plot()


def test_agreement_of_methods_is_drawn() -> None:
    net = torch.nn.Sequential(
        torch.nn.Conv2d(3, 4, 3), torch.nn.ReLU(), torch.nn.AdaptiveAvgPool2d(1),
        torch.nn.Flatten(), torch.nn.Linear(4, 3),
    )  # fmt: skip
    wrapped = naspix.wrap_model(net, mean=0.5, std=0.5, input_size=16)
    methods = ["vanilla_gradient", "input_x_gradient"]
    table = naspix.explain(wrapped, IMAGES, method=methods, segmenter="grid").agreement()
    assert len(table.plot().texts) == 4
    with pytest.raises(UnknownNameError):
        table.plot("NAZ")
