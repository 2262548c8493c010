"""Under `torch.set_default_dtype(torch.float64)` metrics and segmenters give what they give else.

The saliency methods have the same test in their contract suite (`tests/saliency/test_contract.py`).
"""

import dataclasses
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import naspix
from naspix import metrics
from naspix.registry import SEGMENTERS

SIDE = 24


@contextmanager
def _default_type(dtype: torch.dtype) -> Iterator[None]:
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)


@pytest.fixture(scope="module")
def model() -> naspix.Classifier:
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(3, 8, 3, 2, 1), nn.ReLU(), nn.Conv2d(8, 12, 3, 2, 1), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(12, 4),
    )  # fmt: skip
    return naspix.wrap_model(
        network, mean=[0.5] * 3, std=[0.3] * 3, input_size=SIDE, levels=["0", "2"]
    )


IMAGES = torch.rand(3, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(1))
HEAT = torch.rand(3, SIDE, SIDE, generator=torch.Generator().manual_seed(2))
OTHER = torch.rand(3, SIDE, SIDE, generator=torch.Generator().manual_seed(3))
REGIONS = torch.arange(SIDE * SIDE).view(SIDE, SIDE).div(96, rounding_mode="floor").repeat(3, 1, 1)
CLUSTERS = REGIONS % 3
BOXES = [
    torch.tensor(boxes)
    for boxes in ([[2, 3, 15, 17]], [[5, 5, 20, 20], [0, 0, 4, 4]], [[1, 8, 22, 20]])
]
MEASURED = metrics.cluster_saliency(
    {"heat": HEAT, "other": OTHER}, CLUSTERS, REGIONS, n_clusters=3, weigh="area"
)


def _computed(metric: object, *update: object) -> object:
    metric.update(*update)
    return metric.compute()


METRICS: dict[str, Callable[[naspix.Classifier], object]] = {
    "Blurred": lambda m: metrics.lerf(m, IMAGES, HEAT, steps=6, baseline=metrics.Blurred(kernel=3)),
    "Inpainted": lambda m: metrics.lerf(m, IMAGES, HEAT, steps=6, baseline=metrics.Inpainted()),
    "MaxBoxAcc": lambda m: _computed(metrics.MaxBoxAcc(), HEAT, BOXES),
    "MaxBoxAccV2": lambda m: _computed(metrics.MaxBoxAccV2(), HEAT, BOXES),
    "PxAP": lambda m: _computed(metrics.PxAP(), HEAT, OTHER > 0.5),
    "clever_hans_audit": lambda m: metrics.clever_hans_audit(MEASURED),
    "cluster_saliency": lambda m: metrics.cluster_saliency(
        {"heat": HEAT, "other": OTHER}, CLUSTERS, REGIONS, n_clusters=3
    ),
    "compare": lambda m: metrics.compare({"a": HEAT[0, 0], "b": HEAT[1, 0], "c": OTHER[0, 0]}),
    "deletion": lambda m: metrics.deletion(m, IMAGES, HEAT, steps=6),
    "insertion": lambda m: metrics.insertion(m, IMAGES, HEAT, steps=6),
    "energy_inside": lambda m: metrics.energy_inside(HEAT, BOXES),
    "greedy_lerf": lambda m: metrics.greedy_lerf(m, IMAGES, REGIONS),
    "lerf": lambda m: metrics.lerf(m, IMAGES, HEAT, steps=6),
    "lerf by superpixels": lambda m: metrics.lerf(m, IMAGES, HEAT, superpixels=REGIONS),
    "morf": lambda m: metrics.morf(m, IMAGES, HEAT, steps=6),
    "mean curve": lambda m: metrics.lerf(m, IMAGES, HEAT, steps=6).mean(),
    "optimal_lerf": lambda m: metrics.optimal_lerf(m, IMAGES, CLUSTERS),
    "outside_shares": lambda m: metrics.outside_shares(CLUSTERS, HEAT > 0.4, n_clusters=3),
    "overlaps": lambda m: metrics.overlaps(HEAT, BOXES),
    "pointing_game": lambda m: metrics.pointing_game(HEAT, BOXES),
    "random_segmentation": lambda m: metrics.random_segmentation(REGIONS, seed=3),
    "saliency_agreement": lambda m: metrics.saliency_agreement(
        torch.stack([HEAT, OTHER], 1), REGIONS
    ),
    "saliency_by_cluster": lambda m: metrics.saliency_by_cluster(
        MEASURED, torch.tensor([True, False, True]), n_resamples=50
    ),
    "scale_boxes": lambda m: metrics.scale_boxes(BOXES[1], (50, 40), (SIDE, SIDE)),
    "segmentation_agreement": lambda m: metrics.segmentation_agreement(
        torch.stack([REGIONS[0], CLUSTERS[0]])
    ),
    "srg": lambda m: metrics.srg(m, IMAGES, HEAT, steps=6),
}


def _values(found: object) -> list[object]:
    """The numbers of a result, whatever holds them."""
    if dataclasses.is_dataclass(found) and not isinstance(found, type):
        return [
            value
            for each in dataclasses.fields(found)
            for value in _values(getattr(found, each.name))
        ]
    if isinstance(found, dict):
        return [value for each in found.values() for value in _values(each)]
    if isinstance(found, list | tuple):
        return [value for each in found for value in _values(each)]
    return [found]


def _same(found: object, expected: object) -> None:
    found, expected = _values(found), _values(expected)
    assert len(found) == len(expected)
    assert any(isinstance(each, Tensor | np.ndarray | float) for each in expected)
    for one, other in zip(found, expected, strict=True):
        if isinstance(other, Tensor):
            assert one.dtype == other.dtype
        if isinstance(other, Tensor | np.ndarray | float):
            torch.testing.assert_close(one, other, equal_nan=True)
        else:
            assert one == other


@pytest.mark.parametrize("name", METRICS)
def test_metrics(model, name):
    expected = METRICS[name](model)
    with _default_type(torch.float64):
        found = METRICS[name](model)
    _same(found, expected)


@pytest.mark.parametrize("name", SEGMENTERS)
def test_segmenters(model, name):
    kind = SEGMENTERS[name]
    make = (lambda: kind(model)) if "model" in kind.__dataclass_fields__ else kind
    expected = make()(IMAGES)
    with _default_type(torch.float64):
        found = make()(IMAGES)
    with torch.device("meta"):  # another default device: what is made there has no memory
        elsewhere = make()(IMAGES)
    for other in (found, elsewhere):
        assert torch.equal(other.clusters, expected.clusters)
        assert torch.equal(other.superpixels, expected.superpixels)


def test_ward(model):
    nas = naspix.NAS(model, levels=(0, 1), n_clusters=3, algorithm="ward")
    expected = nas(IMAGES)
    with _default_type(torch.float64):
        found = nas(IMAGES)
    assert torch.equal(found.clusters, expected.clusters)


def test_class_clusters(model):
    def fitted() -> naspix.Segmentation:
        clustering = naspix.ClassClustering(model, levels=(0, 1), n_clusters=3, n_samples=200)
        return clustering.fit(IMAGES)(IMAGES)

    expected = fitted()
    with _default_type(torch.float64):
        found = fitted()
    assert torch.equal(found.clusters, expected.clusters)


def test_pooling():
    expected = naspix.superpixelify(HEAT, REGIONS)
    with _default_type(torch.float64):
        found = naspix.superpixelify(HEAT, REGIONS)
    _same(found, expected)
