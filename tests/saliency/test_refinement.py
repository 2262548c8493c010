"""Path integrals with steps where they are missing: closed forms."""

import pytest
import torch

from naspix.saliency.integrated import refined_integral


class _Path:
    """A score along a path of one pixel, and where it was asked for."""

    def __init__(self, score, slope) -> None:
        self.score, self.slope = score, slope
        self.asked: list[torch.Tensor] = []

    def __call__(self, places):
        self.asked.append(places)
        return self.score(places), self.slope(places).float().reshape(-1, 1, 1, 1)


def _bent(at: float) -> _Path:
    """Flat up to a bend, then steep."""
    return _Path(lambda p: 100 * (p - at).clamp(min=0), lambda p: 100 * (p > at).double())


ONE = torch.ones(1, 1, 1)


def test_a_straight_path_takes_no_further_place():
    path = _Path(lambda p: 3 * p, lambda p: torch.full_like(p, 3))
    found = refined_integral(path, ONE, allowed=1e-9, max_places=1000, batch_size=64)
    assert found.n_places == 33
    torch.testing.assert_close(found.values, 3 * ONE)


@pytest.mark.parametrize("at", [0.1, 0.77])
def test_places_gather_at_the_bend(at):
    path = _bent(at)
    found = refined_integral(path, ONE, allowed=1e-3, max_places=1000, batch_size=1)
    assert found.missing <= 1e-3
    torch.testing.assert_close(float(found.values), 100 * (1 - at), rtol=0, atol=2e-3)
    added = torch.cat(path.asked[33:])  # the first 33 came one by one
    assert ((added - at).abs() < 1 / 32).all()
    # halves: 100 / 32 / 2**n is below 1e-3 after twelve
    assert found.n_places <= 33 + 12


def test_a_curve_like_scipys_quadrature():
    from scipy.integrate import quad

    def slope(place):
        return 1 / (1e-3 + (place - 0.3) ** 2)

    total, _ = quad(slope, 0, 1, points=[0.3])
    exact = torch.tensor(total, dtype=torch.float64)

    def score(places):
        width = 1e-3**0.5
        return ((places - 0.3) / width).atan() / width

    found = refined_integral(
        _Path(score, slope), ONE, allowed=1e-3 * total, max_places=2000, batch_size=16
    )
    torch.testing.assert_close(found.values[0, 0, 0].double(), exact, rtol=1e-3, atol=0)
    assert found.n_places < 200


@pytest.mark.parametrize(("max_places", "batch_size"), [(3, 16), (34, 16), (100, 7), (50, 1)])
def test_never_asks_for_more_than_allowed(max_places, batch_size):
    path = _bent(0.123)
    found = refined_integral(path, ONE, allowed=0, max_places=max_places, batch_size=batch_size)
    assert found.n_places == max_places == sum(map(len, path.asked))
    assert max(map(len, path.asked)) <= batch_size


def test_each_pixel_has_its_own_integral():
    way = torch.tensor([1.0, -2.0, 0.0]).reshape(1, 1, 3)

    def ask(places):
        gradients = torch.stack([places, places**2, places**3], 1).float()
        scores = places**2 / 2 - 2 * places**3 / 3
        return scores, gradients.reshape(-1, 1, 1, 3)

    found = refined_integral(ask, way, allowed=1e-7, max_places=3000, batch_size=500)
    expected = torch.tensor([1 / 2, -2 / 3, 0]).reshape(1, 1, 3)
    torch.testing.assert_close(found.values, expected, rtol=0, atol=1e-5)
