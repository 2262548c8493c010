"""LeRF and its relatives: closed forms, a literal loop, and laws."""

import functools
import sys
from pathlib import Path

import jaxtyping
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

import naspix
from naspix.errors import InputError, ModelError
from naspix.metrics import (
    PerturbationCurves,
    deletion,
    greedy_lerf,
    insertion,
    lerf,
    morf,
    optimal_lerf,
    srg,
)

sys.path.append(str(Path(__file__).parents[1] / "reference"))
import literal_lerf as literal

SIZE = (9, 11)
MEAN = [0.4, 0.5, 0.6]


@pytest.fixture
def model() -> naspix.Classifier:
    network = nn.Sequential(nn.Conv2d(3, 6, 3), nn.ReLU(), nn.Flatten(), nn.Linear(6 * 63, 5))
    return naspix.wrap_model(network.double(), mean=MEAN, std=[0.2, 0.3, 0.25], input_size=SIZE)


@pytest.fixture
def images() -> Tensor:
    return torch.rand(3, 3, *SIZE, dtype=torch.float64)


@pytest.fixture
def heat() -> Tensor:
    return torch.randperm(3 * 99).view(3, *SIZE).double() / 10 - 12


def blocks(n: int = 5) -> Tensor:
    """Superpixels of many sizes, another number in each image."""
    generator = torch.Generator().manual_seed(1)
    return torch.stack(
        [torch.randint(n + i, SIZE, generator=generator).square() // (n - 1 + i) for i in range(3)]
    )


def sums_pixels(images: Tensor) -> Tensor:
    """Two classes: the sum of all values, and its negative."""
    total = images.sum((1, 2, 3))
    return torch.stack([total, -total], 1)


blackened = functools.partial(lerf, sums_pixels, baseline="black")


def test_pixels_as_the_literal_loop(model, images, heat):
    targets = torch.tensor([0, 3, 4])
    curves = lerf(model, images, heat, targets, steps=7)
    for i in range(3):
        masks = literal.pixel_masks(heat[i].numpy(), 7)
        shares, scores = literal.curve(model, images[i], masks, targets[i], torch.tensor(MEAN))
        np.testing.assert_allclose(curves.fraction[i], shares, rtol=1e-12)
        np.testing.assert_allclose(curves.score[i], scores, atol=1e-6)
        assert curves.auc[i].item() == pytest.approx(literal.area(shares, scores), abs=1e-6)
    assert curves.n_left_out == 0


@pytest.mark.parametrize("batch_size", [1, 7, 64])
def test_superpixels_as_the_literal_loop(model, images, heat, batch_size):
    labels = blocks()
    curves = lerf(model, images, heat, superpixels=labels, batch_size=batch_size)
    backwards = morf(model, images, heat, superpixels=labels, batch_size=batch_size)
    predicted = model(images).argmax(1)
    for i in range(3):
        order = literal.order_by_mean(heat[i].numpy(), labels[i].numpy())
        for found, wanted in ((curves, order), (backwards, order[::-1])):
            masks = literal.superpixel_masks(labels[i].numpy(), wanted)
            shares, scores = literal.curve(
                model, images[i], masks, predicted[i], torch.tensor(MEAN)
            )
            np.testing.assert_allclose(found.fraction[i, : len(shares)], shares, rtol=1e-12)
            np.testing.assert_allclose(found.score[i, : len(shares)], scores, atol=1e-6)
            assert found.auc[i].item() == pytest.approx(literal.area(shares, scores), abs=1e-6)
            assert (found.fraction[i, len(shares) :] == 1).all()
    assert curves.target.tolist() == predicted.tolist()


def test_both_orders_at_once(model, images, heat):
    for labels in (None, blocks()):
        gain = srg(model, images, heat, superpixels=labels, steps=9)
        least = lerf(model, images, heat, superpixels=labels, steps=9)
        most = morf(model, images, heat, superpixels=labels, steps=9)
        torch.testing.assert_close(gain.lerf.score, least.score)
        torch.testing.assert_close(gain.morf.score, most.score)
        torch.testing.assert_close(gain.auc, least.auc - most.auc)


def test_nothing_is_asked_twice(images, heat):
    asked: list[Tensor] = []

    def model(batch: Tensor) -> Tensor:
        asked.extend(batch)
        return sums_pixels(batch)

    lerf(model, images, heat, steps=10, batch_size=8)
    assert len(asked) == 3 * 11
    asked.clear()
    srg(model, images, heat, steps=10, batch_size=8)
    assert len(asked) == 3 * (2 + 2 * 9)
    assert len({tuple(image.flatten().tolist()) for image in asked}) == len(asked)


def test_the_true_order_is_the_best_of_all_orders(images):
    """A model that sums pixels: what a pixel is worth is its sum, and no order beats that."""
    image = images[:1]
    truth = image.sum(1)
    best = blackened(image, truth, 0, steps=99).auc
    values, _ = truth.flatten().sort()
    shown = 1 - torch.cat([torch.zeros(1), values.cumsum(0) / values.sum()])
    assert best.item() == pytest.approx(np.trapezoid(shown, dx=1 / 99))
    assert morf(sums_pixels, image, truth, 0, steps=99, baseline="black").auc < 0.5 < best
    for _ in range(20):
        other = blackened(image, torch.rand(1, *SIZE), 0, steps=99)
        assert other.auc < best


@given(seed=st.integers(0, 99), scale=st.floats(1e-12, 1e12))
def test_scaling_a_map_and_renaming_labels_change_nothing(seed, scale):
    generator = torch.Generator().manual_seed(seed)
    images = torch.rand(2, 3, 6, 6, generator=generator)
    labels = torch.randint(6, (2, 6, 6), generator=generator)
    heat = naspix.superpixelify(torch.randint(3, (2, 6, 6), generator=generator).float(), labels)
    renamed = torch.randperm(6, generator=generator)[labels] * 7 - 5
    for ties in ("seed", "area"):
        first = blackened(images, heat, 0, superpixels=labels, ties=ties)
        scaled = lerf(
            sums_pixels,
            images,
            heat.double() * scale,
            0,
            superpixels=labels,
            ties=ties,
            baseline="black",
        )
        again = blackened(images, heat, 0, superpixels=renamed, ties=ties)
        assert torch.equal(first.auc, again.auc)
        assert torch.equal(first.auc, scaled.auc)


def test_the_score_does_not_depend_on_the_sort(images, monkeypatch):
    """Tied values are ordered by the seed, whatever the sort does with equal ones."""
    labels = blocks()
    heat = (labels % 2).double()

    def areas() -> list[Tensor]:
        return [
            blackened(images, heat, 0, superpixels=labels, ties="seed").auc,
            blackened(images, heat, 0, superpixels=labels, ties="area").auc,
            blackened(images, heat, 0, steps=9).auc,
        ]

    before = areas()
    lexsort = np.lexsort
    monkeypatch.setattr(
        np, "lexsort", lambda keys: len(keys[0]) - 1 - lexsort([key[::-1] for key in keys])
    )
    assert all(map(torch.equal, before, areas()))


def test_pixel_ties_are_drawn_by_the_seed(images):
    constant = torch.zeros(3, *SIZE)
    curves = [blackened(images, constant, 0, seed=s, steps=9) for s in (0, 0, 1)]
    assert torch.equal(curves[0].auc, curves[1].auc)
    assert not torch.equal(curves[0].auc, curves[2].auc)
    one = blackened(images[1:2], constant[1:2], 0, steps=9)
    assert torch.equal(one.auc, curves[0].auc[1:2])
    areas = [blackened(images[:1], constant[:1], 0, seed=seed, steps=9).auc for seed in range(40)]
    assert torch.cat(areas).mean().item() == pytest.approx(0.5, abs=0.02)


def test_smaller_superpixels_go_first_among_equals():
    labels = torch.tensor([[[5, 5, 5, 2, 9, 9]]])
    images = torch.rand(1, 3, 1, 6)
    curves = lerf(sums_pixels, images, torch.ones(1, 1, 6), superpixels=labels, ties="area")
    assert (6 * curves.fraction).round().tolist() == [[0, 1, 3, 6]]
    curves = morf(sums_pixels, images, torch.ones(1, 1, 6), superpixels=labels, ties="area")
    assert (6 * curves.fraction).round().tolist() == [[0, 3, 5, 6]]


def test_images_whose_ends_agree_are_left_out_and_counted(heat):
    images = torch.rand(3, 3, *SIZE)
    images[1] = 0.25
    curves = lerf(sums_pixels, images, heat, 0, steps=5, baseline=0.25)
    assert curves.n_left_out == 1
    assert curves.valid.tolist() == [True, False, True]
    assert curves.auc[1].isnan()
    assert curves.raw[1].tolist() == [pytest.approx(0.25 * 297)] * 6
    mean = curves.mean()
    assert mean.n_images == 2
    assert mean.auc == pytest.approx(curves.auc[[0, 2]].mean().item())
    with pytest.raises(InputError, match="all images are left out"):
        lerf(sums_pixels, images[1:2], heat[1:2], 0, steps=5, baseline=0.25).mean()


def test_curves_that_rise_are_named(images, heat):
    curves = lerf(sums_pixels, images, heat, torch.tensor([0, 1, 0]), baseline="black", steps=5)
    assert curves.rises.tolist() == [False, True, False]
    torch.testing.assert_close(curves.score[:, 0], torch.ones(3, dtype=torch.float64))
    assert not curves.score[:, -1].any()


def test_deletion_and_insertion(model, images, heat):
    down = deletion(model, images, heat, steps=9)
    up = insertion(model, images, heat, steps=9, baseline="black")
    least = lerf(model, images, heat, steps=9, baseline="black", score="probability", scaled=False)
    most = morf(model, images, heat, steps=9, score="probability", scaled=False)
    assert torch.equal(down.score, most.score)
    torch.testing.assert_close(up.auc, least.auc)
    torch.testing.assert_close(up.fraction, down.fraction)
    probabilities = model(images).softmax(1).amax(1).detach()
    torch.testing.assert_close(up.score[:, -1], probabilities)
    torch.testing.assert_close(down.score[:, 0], probabilities)
    assert (up.fraction[:, 0] == 0).all()
    assert (up.fraction[:, -1] == 1).all()


@pytest.mark.parametrize("score", ["logit", "probability"])
def test_greedy_as_the_literal_loop(model, images, score):
    labels = blocks()

    def asked(batch: Tensor) -> Tensor:
        return model(batch) if score == "logit" else model(batch).softmax(1)

    best = greedy_lerf(model, images, labels, 2, score=score, batch_size=5)
    for i in range(3):
        order = literal.greedy_order(asked, images[i], labels[i].numpy(), 2, torch.tensor(MEAN))
        assert best.order[i].tolist() == order
        masks = literal.superpixel_masks(labels[i].numpy(), order)
        shares, scores = literal.curve(asked, images[i], masks, 2, torch.tensor(MEAN))
        np.testing.assert_allclose(best.curves.score[i, : len(shares)], scores, atol=1e-6)
        assert best.auc[i].item() == pytest.approx(literal.area(shares, scores), abs=1e-6)
    counts = [len(order) for order in best.order]
    assert best.n_evaluated == sum(1 + n * (n + 1) // 2 for n in counts)


def test_the_exact_maximum_is_that_of_all_orders(model, images):
    labels = blocks(4)
    best = optimal_lerf(model, images, labels, 1)
    greedy = greedy_lerf(model, images, labels, 1)
    for i in range(3):
        wanted = literal.best_area(model, images[i], labels[i].numpy(), 1, torch.tensor(MEAN))
        assert best.auc[i].item() == pytest.approx(wanted, abs=1e-6)
        masks = literal.superpixel_masks(labels[i].numpy(), best.order[i].tolist())
        shares, scores = literal.curve(model, images[i], masks, 1, torch.tensor(MEAN))
        np.testing.assert_allclose(best.curves.score[i, : len(shares)], scores, atol=1e-6)
    assert (best.auc >= greedy.auc - 1e-9).all()
    assert best.n_evaluated == sum(2 ** len(order) for order in best.order)


def test_the_exact_maximum_is_refused_for_many(model, images):
    labels = torch.arange(99).view(1, *SIZE).expand(3, -1, -1) % 13
    with pytest.raises(InputError, match="at most 12 superpixels"):
        optimal_lerf(model, images, labels)


def test_curves_of_batches_are_those_of_one(model, images, heat):
    labels = blocks()
    whole = lerf(model, images, heat, superpixels=labels)
    parts = [
        lerf(model, images[i : i + 1], heat[i : i + 1], superpixels=labels[i : i + 1])
        for i in range(3)
    ]
    joined = PerturbationCurves.concatenated(parts)
    for name in ("fraction", "score", "auc", "raw", "target"):
        torch.testing.assert_close(getattr(joined, name), getattr(whole, name))
    with pytest.raises(InputError, match="no curves"):
        PerturbationCurves.concatenated([])


@pytest.fixture
def unchecked():
    """Without the checks of types that only tests make: what a user's wrong argument meets."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.mark.usefixtures("unchecked")
def test_bad_input_is_named(model, images, heat):
    broken = heat.clone()
    broken[1, 0, 0] = torch.nan
    for call, match in [
        (lambda: lerf(model, images, broken), "saliency map 1 of the batch"),
        (lambda: lerf(model, images, heat[:2]), "one for each image"),
        (lambda: lerf(model, images, heat, steps=100), "from 1 to the 99 pixels"),
        (lambda: lerf(model, images, heat, 5, steps=9), "there is no class 5"),
        (lambda: lerf(model, images, heat, 0.5, steps=9), "whole number"),
        (
            lambda: lerf(model, images, heat, torch.zeros(2).long(), steps=9),
            "each of the 3",
        ),
        (lambda: lerf(model, images, heat, superpixels=blocks()[:, :5]), "both must be the same"),
        (lambda: lerf(model, images, heat, superpixels=blocks(), ties="x"), "seed, area"),
        (lambda: lerf(model, images, heat, score="x", steps=9), "logit, probability"),
        (lambda: lerf(model, images, heat, batch_size=0, steps=9), "at least 1"),
        (lambda: lerf(model, images, heat, baseline="blured", steps=9), "did you mean 'blurred'"),
        (lambda: lerf(model, images, heat, baseline=torch.zeros(2), steps=9), "3 channels"),
        (lambda: lerf(model, 255 * images, heat), r"lie in \[0, 1\]"),
        (lambda: greedy_lerf(model, images, blocks()[:2]), "integers of shape"),
    ]:
        with pytest.raises(InputError, match=match):
            call()
    with pytest.raises(ModelError, match="not finite"):
        lerf(lambda x: x.mean((2, 3)) * torch.nan, images, heat, steps=9)
    with pytest.raises(ModelError, match="returns no logits"):
        lerf(lambda x: x.mean((1, 2, 3)), images, heat, steps=9)
    with pytest.raises(ModelError, match="returns no logits"):
        lerf(lambda x: [x], images, heat, steps=9)
