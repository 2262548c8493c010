"""Hiding: numbers are those of the Python interface, changes can be undone, curves are LeRF's."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import naspix
from naspix.app.hiding import Hiding, hide
from naspix.errors import InputError


class _Weighted(nn.Module):
    """Two classes: a weighted sum of the pixels, and its negative."""

    def __init__(self) -> None:
        super().__init__()
        weight = torch.arange(12.0).view(3, 4)
        self.register_buffer("weight", weight)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        score = (images.mean(1) * self.weight).flatten(1).sum(1)
        return torch.stack([score, -score], 1)


@pytest.fixture(scope="module")
def linear() -> naspix.Classifier:
    return naspix.wrap_model(_Weighted(), mean=[0.25, 0.5, 0.75], std=0.5, input_size=(3, 4))


SUPERPIXELS = torch.tensor([[[0, 0, 1, 1], [0, 2, 2, 1], [3, 3, 2, 1]]])


def _hiding(model: naspix.Classifier) -> Hiding:
    images = torch.rand(1, 3, 3, 4, generator=torch.Generator().manual_seed(1))
    return Hiding(model, images, SUPERPIXELS, 0)


def test_hidden_is_the_mean_colour(linear):
    image = torch.rand(1, 3, 3, 4)
    hidden = hide(linear, image, SUPERPIXELS, [2])
    for y in range(3):
        for x in range(4):
            expected = (
                [0.25, 0.5, 0.75] if SUPERPIXELS[0, y, x] == 2 else image[0, :, y, x].tolist()
            )
            assert hidden[0, :, y, x].tolist() == pytest.approx(expected)
    assert torch.equal(linear.standardize(hidden)[0, :, 1, 1], torch.zeros(3))


def test_scores_are_those_of_the_network_on_the_hidden_photo(linear):
    hiding = _hiding(linear)
    hiding.toggle(1)
    hiding.toggle(3)
    expected = linear(hide(linear, hiding._images, SUPERPIXELS, [1, 3]))[0]
    torch.testing.assert_close(hiding.state()[2], expected)
    assert hiding.share(hiding.hidden) == pytest.approx(6 / 12)


@given(st.lists(st.sampled_from(["0", "1", "2", "3", "all", "none", "invert"]), max_size=12))
def test_every_change_can_be_undone(changes):
    hiding = _hiding(naspix.wrap_model(_Weighted(), mean=[0.5] * 3, input_size=(3, 4)))
    seen, expected = [hiding.hidden], frozenset()
    for change in changes:
        if change == "all":
            hiding.hide_all()
            expected = frozenset(range(4))
        elif change == "none":
            hiding.show_all()
            expected = frozenset()
        elif change == "invert":
            hiding.invert()
            expected = frozenset(range(4)) - expected
        else:
            hiding.toggle(int(change))
            expected = expected ^ {int(change)}
        assert hiding.hidden == expected
        if expected != seen[-1]:
            seen.append(expected)
    for state in reversed(seen[:-1]):
        hiding.undo()
        assert hiding.hidden == state
    assert not hiding.can_undo


def test_a_curve_is_the_literal_one(linear):
    hiding = _hiding(linear)
    saliency = np.array([0.3, 0.1, 0.4, 0.1])
    hiding.start_curve(saliency, "lerf")
    while hiding.step():
        pass
    curve = hiding.curve
    assert curve is not None
    assert curve.order == [1, 3, 0, 2]  # equal ones in the order of their numbers
    fractions, scores = [], []
    for k in range(5):
        view = hide(linear, hiding._images, SUPERPIXELS, curve.order[:k])
        scores.append(float(linear(view)[0, 0]))
        covered = sum(int((n == SUPERPIXELS).sum()) for n in curve.order[:k])
        fractions.append(covered / 12)
    scaled = [(s - scores[-1]) / (scores[0] - scores[-1]) for s in scores]
    assert curve.fraction == pytest.approx(fractions)
    assert curve.score == pytest.approx(scaled, abs=1e-5)
    assert curve.area == pytest.approx(np.trapezoid(scaled, fractions), abs=1e-5)


def test_morf_hides_the_most_relevant_first(linear):
    hiding = _hiding(linear)
    hiding.start_curve(np.array([0.3, 0.1, 0.4, 0.1]), "morf")
    assert hiding.step(2)
    assert hiding.hidden == {2, 0}
    assert not hiding.step(10)
    assert hiding.hidden == {0, 1, 2, 3}
    assert not hiding.step()


def test_undo_takes_a_step_of_the_curve_back(linear):
    hiding = _hiding(linear)
    hiding.start_curve(np.arange(4.0))
    hiding.step()
    hiding.step()
    hiding.undo()
    assert hiding.hidden == {0}
    assert hiding.curve is not None
    assert len(hiding.curve.fraction) == 2


def test_a_click_ends_the_curve(linear):
    hiding = _hiding(linear)
    hiding.start_curve(np.arange(4.0))
    hiding.step()
    hiding.toggle(3)
    assert hiding.curve is None
    with pytest.raises(InputError, match="start the curve"):
        hiding.step()


def test_each_hidden_alone(linear):
    hiding = _hiding(linear)
    alone = hiding.alone()
    for n in range(4):
        expected = linear(hide(linear, hiding._images, SUPERPIXELS, [n]))[0]
        torch.testing.assert_close(alone[n], expected)


class _Interrupted(_Weighted):
    """Something else happens while it is asked."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        meanwhile, self.meanwhile = self.meanwhile, lambda: None
        meanwhile()
        return super().forward(images)

    def meanwhile(self) -> None: ...


def test_what_is_remembered_may_be_dropped_amid_the_work():
    network = _Interrupted()
    network.weight = torch.arange(400.0).view(20, 20)
    model = naspix.wrap_model(network, mean=[0.5] * 3, input_size=(20, 20))
    hiding = Hiding(model, torch.rand(1, 3, 20, 20), torch.arange(400).view(1, 20, 20), 0)
    network.meanwhile = lambda: [hiding._logits([frozenset({a, a + 1})]) for a in range(300)]
    alone = hiding.alone()
    assert alone.shape == (400, 2)
    assert len(hiding._known) <= 202


def test_hidden_ones_and_scores_are_of_one_moment():
    network = _Interrupted()
    model = naspix.wrap_model(network, mean=[0.5] * 3, input_size=(3, 4))
    hiding = _hiding(model)
    hiding.toggle(0)
    network.meanwhile = lambda: hiding.toggle(1)
    hidden, _, logits = hiding.state()
    assert hidden == {0, 1}
    expected = model(hide(model, hiding._images, SUPERPIXELS, [0, 1]))[0]
    torch.testing.assert_close(logits, expected)


@pytest.mark.parametrize("number", [-1, 4, 10**12])
def test_no_such_superpixel(linear, number):
    with pytest.raises(InputError, match="no superpixel"):
        _hiding(linear).toggle(number)


def test_memory_is_bounded(linear):
    hiding = _hiding(linear)
    for k in range(1000):
        hiding.toggle(k % 4)
    assert len(hiding._past) == 200
    assert len(hiding._known) <= 202
