"""Each rule of LRP against its formula written out with loops, in float64."""

from functools import partial

import pytest
import torch

from naspix.saliency.lrp import rules as lrp_rules
from naspix.saliency.lrp.rules import Layer

EPSILON = 1e-6


def _divided(a: float, z: float) -> float:
    return a / (z + (-EPSILON if z < 0 else EPSILON))


def _literal(name: str, x, weight, bias, relevance, low, high) -> torch.Tensor:
    """One output after the other, one input after the other, as the papers print it."""
    received = torch.zeros_like(x)
    n_out, n_in = weight.shape
    for j in range(n_out):
        w, b, r = weight[j].tolist(), float(bias[j]), float(relevance[j])
        values = x.tolist()
        terms = [v * k for v, k in zip(values, w, strict=True)]
        if name == "epsilon":
            shares = [_divided(t, sum(terms) + b) for t in terms]
        elif name in ("plus", "alpha_beta"):
            z = sum(max(t, 0) for t in terms) + max(b, 0)
            shares = [_divided(max(t, 0), z) for t in terms]
            if name == "alpha_beta":
                z = sum(min(t, 0) for t in terms) + min(b, 0)
                shares = [
                    2 * s - _divided(min(t, 0), z) for s, t in zip(shares, terms, strict=True)
                ]
        elif name == "gamma":
            sign = 1 if sum(terms) + b > 0 else -1
            more = [t + 0.25 * (t if t * sign > 0 else 0) for t in terms]
            z = sum(more) + b + 0.25 * (b if b * sign > 0 else 0)
            shares = [_divided(t, z) for t in more]
        elif name == "flat":
            shares = [_divided(1.0, n_in)] * n_in
        else:
            distances = [
                t - float(low[i]) * max(k, 0) - float(high[i]) * min(k, 0)
                for i, (t, k) in enumerate(zip(terms, w, strict=True))
            ]
            shares = [_divided(d, sum(distances)) for d in distances]
        received += r * torch.tensor(shares, dtype=torch.float64)
    return received


@pytest.mark.parametrize("inputs", ["positive", "mixed"])
@pytest.mark.parametrize("name", ["epsilon", "plus", "alpha_beta", "gamma", "flat", "box"])
def test_rule_is_its_formula(name, inputs):
    x = torch.rand(5, dtype=torch.float64) - (0.5 if inputs == "mixed" else 0)
    weight, bias, relevance = (
        torch.randn(*size, dtype=torch.float64) for size in ((4, 5), (4,), (4,))
    )
    low, high = torch.full((5,), -0.6, dtype=torch.float64), torch.full((5,), 1.1).double()
    rule = {
        "epsilon": lrp_rules.epsilon_rule,
        "plus": lrp_rules.z_plus_rule,
        "alpha_beta": lrp_rules.alpha2_beta1_rule,
        "gamma": partial(lrp_rules.gamma_rule, gamma=0.25),
        "flat": lrp_rules.flat_rule,
        "box": partial(lrp_rules.z_box_rule, low=low, high=high),
    }[name]
    layer = Layer(torch.nn.functional.linear, weight, bias)
    received, kept = rule(layer, x[None], relevance[None], epsilon=EPSILON)
    expected = _literal(name, x, weight, bias, relevance, low, high)
    torch.testing.assert_close(received[0], expected, rtol=1e-9, atol=1e-10)
    # what the inputs get and what the bias keeps is what came
    total = received.sum() + (0 if kept is None else kept.sum())
    assert float(total) == pytest.approx(float(relevance.sum()), rel=1e-4)


def test_without_a_bias_nothing_is_kept():
    layer = Layer(torch.nn.functional.linear, torch.randn(4, 5))
    for rule in (
        lrp_rules.epsilon_rule,
        lrp_rules.z_plus_rule,
        lrp_rules.alpha2_beta1_rule,
        partial(lrp_rules.gamma_rule, gamma=0.25),
    ):
        _, kept = rule(layer, torch.randn(2, 5), torch.ones(2, 4), epsilon=1e-6)
        assert kept is None
