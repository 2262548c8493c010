"""The table of agreement: SciPy's Spearman, variances by hand, images without a value left out."""

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr

from naspix.report import Agreement, agreement
from naspix.superpixelify import superpixelify


@pytest.fixture
def maps() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {name: torch.randn(3, 12, 10, generator=generator) for name in ("one", "two", "three")}


@pytest.fixture
def labels() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return {
        "coarse": torch.randint(0, 6, (3, 12, 10), generator=generator),
        "fine": torch.randint(0, 30, (3, 12, 10), generator=generator),
    }


def test_equals_scipy(maps, labels):
    table = agreement(maps, labels)
    assert table.rank_correlation.shape == (3, 2, 3, 3)
    for place, numbers in enumerate(labels.values()):
        for image in range(3):
            means = [
                [heat[image][numbers[image] == one].mean() for one in numbers[image].unique()]
                for heat in maps.values()
            ]
            expected = spearmanr(np.array(means), axis=1).statistic
            np.testing.assert_allclose(table.rank_correlation[image, place], expected, atol=1e-6)
            kept = [
                superpixelify(heat, numbers)[image].var() / heat[image].var()
                for heat in maps.values()
            ]
            np.testing.assert_allclose(table.variance_kept[image, place], kept, rtol=1e-5)


def test_images_without_a_value_do_not_count(maps, labels):
    maps["flat"] = torch.zeros(3, 12, 10)
    maps["flat"][0] = maps["one"][0]
    table = agreement(maps, labels)
    assert np.isnan(table.rank_correlation[1, 0, 3]).all()
    assert np.isnan(table.variance_kept[1, 0, 3])
    assert table.mean_rank_correlation[0, 3, 0] == pytest.approx(1)
    np.testing.assert_allclose(table.mean_variance_kept[0, 3], table.variance_kept[0, 0, 0])
    alone = agreement({"flat": torch.zeros(1, 12, 10)}, {"coarse": labels["coarse"][:1]})
    assert " -" in repr(alone)
    assert "nan" not in repr(alone) + alone.to_html()


def test_tables_of_photos_join(maps, labels):
    whole = agreement(maps, labels)
    parts = [
        agreement(
            {name: heat[i : i + 1] for name, heat in maps.items()},
            {name: one[i : i + 1] for name, one in labels.items()},
        )
        for i in range(3)
    ]
    joined = Agreement.joined(parts)
    assert len(joined) == 3
    np.testing.assert_allclose(joined.mean_rank_correlation, whole.mean_rank_correlation)
    assert repr(joined) == repr(whole)


def test_looks(maps, labels):
    table = agreement(maps, labels).titled({"one": "O<n>e", "fine": "Fine & small"})
    assert repr(table).splitlines()[0] == (
        "over coarse: rank correlation of the superpixels, variance kept, mean of 3 images"
    )
    lines = repr(table).splitlines()[1:5]
    assert len({len(line) for line in lines}) == 1  # the columns stand below each other
    html = table.to_html()
    assert html == table._repr_html_()
    assert html.count("<table") == 2
    assert "O&lt;n&gt;e" in html
    assert "Fine &amp; small" in html
    assert html.count("rgba(0,114,178,0.55)") == 6  # the diagonals
    assert "rgba(213,94,0" in html  # orders that are opposed


def test_what_rounds_to_zero_has_no_sign():
    correlations = np.array([[[[1.0, -0.001], [-0.001, 1.0]]]])
    told = Agreement(("a", "b"), ("nas",), correlations, np.ones((1, 1, 2)))
    assert "0.00" in repr(told)
    assert "-0.00" not in repr(told) + told.to_html()
