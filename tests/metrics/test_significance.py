"""Which scores differ from the best: against scipy, hand-made cases, and how often chance fools."""

import numpy as np
import pytest
import torch
from scipy.stats import wilcoxon

from naspix.errors import InputError
from naspix.metrics import compare
from naspix.metrics.significance import holm


def test_probabilities_are_scipys_and_corrected():
    generator = np.random.default_rng(0)
    scores = {
        name: generator.normal(shift, 1, 60)
        for name, shift in zip("abcd", (1, 0.9, 0.5, 0), strict=True)
    }
    found = compare(scores)
    best = max(scores, key=lambda name: scores[name].mean())
    assert found.best == best
    others = [each for each in found.contenders if each.name != best]
    plain = [
        wilcoxon(scores[each.name], scores[best], zero_method="pratt").pvalue for each in others
    ]
    np.testing.assert_allclose([each.p for each in others], plain)
    np.testing.assert_allclose([each.p_holm for each in others], holm(np.array(plain)))
    assert found.n_images == 60
    for each in others:
        differences = scores[each.name] - scores[best]
        assert each.difference == pytest.approx(differences.mean())
        assert each.cohens_d == pytest.approx(differences.mean() / differences.std(ddof=1))
        assert each.differs == (each.p_holm < 0.05)
    (itself,) = (each for each in found.contenders if each.name == best)
    assert (itself.p, itself.p_holm, itself.differs, itself.rank_biserial) == (1, 1, False, 0)


def test_holm_by_hand():
    # 0.01 x 4; 0.02 x 3; 0.025 x 2 is below the one before, so 0.06; 0.5 x 1
    np.testing.assert_allclose(holm(np.array([0.5, 0.01, 0.025, 0.02])), [0.5, 0.04, 0.06, 0.06])
    np.testing.assert_allclose(holm(np.array([0.9, 0.8])), [1, 1])


def test_effect_sizes_by_hand():
    best = np.array([5.0, 5, 5, 5])
    found = compare({"best": best, "other": best + np.array([-1, -2, 3, -4])})
    other = found.contenders[1]
    assert other.rank_biserial == pytest.approx((3 - 1 - 2 - 4) / 10)
    assert other.difference == -1
    low = compare({"best": best, "other": best + np.array([1, 2, -3, 4])}, higher_is_better=False)
    assert low.best == "best"
    assert low.contenders[1].rank_biserial == pytest.approx(-0.4)


def test_equal_scores_do_not_differ():
    scores = np.arange(9.0)
    found = compare({"a": scores, "b": scores.copy(), "c": scores - 1})
    assert found.as_good_as_best == ("a", "b")
    assert found.contenders[1].p == 1
    assert found.contenders[2].rank_biserial == -1


def test_chance_seldom_makes_a_difference():
    """Contenders that are alike, of which one has the best mean: few are called worse."""
    generator = np.random.default_rng(1)
    wrong = 0
    for _ in range(200):
        common = generator.normal(size=40)
        scores = {str(i): common + generator.normal(0, 0.5, 40) for i in range(2)}
        wrong += len(compare(scores).as_good_as_best) < 2
    assert wrong <= 20


def test_images_without_a_score_are_left_out_for_all():
    a, b = torch.linspace(0, 1, 30), torch.linspace(0, 1, 30) - 0.2
    b[4], a[7] = torch.nan, torch.nan
    found = compare({"a": a, "b": b})
    assert found.n_images == 28
    assert found.contenders[1].difference == pytest.approx(-0.2, abs=1e-6)


def test_what_cannot_be_compared_is_refused():
    scores = np.arange(5.0)
    for given, match in [
        ({"a": scores}, "at least two"),
        ({"a": scores, "b": scores[:4]}, "same images"),
        ({"a": scores, "b": scores * np.nan}, "no image"),
    ]:
        with pytest.raises(InputError, match=match):
            compare(given)
    single = compare({"a": scores[:1], "b": scores[1:2]})
    assert single.contenders[0].cohens_d == 0
