"""Integrated Gradients: closed forms, captum's own result, completeness, no traces."""

import captum.attr
import pytest
import torch
from torch import nn

import naspix
from naspix.errors import InputError, ModelError, NaspixWarning
from naspix.saliency import IntegratedGradients, reduce_channels


def _linear(n_classes: int = 4) -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 3, 1), nn.Flatten(), nn.Linear(3 * 6 * 5, n_classes))


def _wrapped(network: nn.Module) -> naspix.Classifier:
    return naspix.wrap_model(
        network, mean=[0.4, 0.5, 0.6], std=[0.2, 0.3, 0.25], input_size=(6, 5), levels=["0"]
    )


def _curved() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1),
        nn.GELU(),
        nn.Conv2d(8, 8, 3, padding=1),
        nn.GELU(),
        nn.Flatten(),
        nn.Linear(8 * 6 * 5, 4),
    )


@pytest.fixture
def images() -> torch.Tensor:
    return torch.rand(3, 3, 6, 5)


@pytest.mark.parametrize("baseline", ["mean", "black", "white", torch.full((3, 1, 1), 0.3)])
def test_linear_network_is_weight_times_difference(images, baseline):
    model = _wrapped(_linear())
    start = (
        {
            "mean": model.mean,
            "black": torch.zeros(1, 3, 1, 1),
            "white": torch.ones(1, 3, 1, 1),
        }[baseline]
        if isinstance(baseline, str)
        else baseline
    )
    zero = torch.zeros(1, 3, 6, 5, requires_grad=True)
    (weight,) = torch.autograd.grad(model(zero)[0, 2], zero)
    heat = IntegratedGradients(model, baseline=baseline, n_steps=3)(images, 2)
    expected = (weight * (images - start)).sum(1)
    torch.testing.assert_close(heat, expected, rtol=1e-4, atol=1e-5)


def test_equals_captum(images):
    model = _wrapped(_curved())
    target = torch.tensor([0, 3, 1])
    method = IntegratedGradients(model, n_steps=20, max_steps=20, tolerance=1.0, baseline="black")
    oracle = captum.attr.IntegratedGradients(model)
    expected = oracle.attribute(images, baselines=0.0, target=target, n_steps=20)
    found = method.attributions(images, target).values
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)


def test_steps_are_added_until_complete(images):
    torch.manual_seed(1)
    model = _wrapped(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(48, 4)))
    method = IntegratedGradients(model, n_steps=2, tolerance=0.002)
    result = method.attributions(images, 1)
    assert result.completeness_error.max() <= 0.002
    assert result.n_steps.max() > 2
    with torch.no_grad():
        difference = (model(images) - model(model.mean.expand_as(images)))[:, 1]
    torch.testing.assert_close(result.values.sum((1, 2, 3)), difference, rtol=0.003, atol=1e-4)


def test_says_so_when_steps_do_not_suffice(images):
    model = _wrapped(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(48, 4)))
    with pytest.warns(NaspixWarning, match="after 8 steps; raise max_steps"):
        IntegratedGradients(model, n_steps=2, max_steps=8, tolerance=1e-9)(images)


def test_too_few_steps_left_to_refine_leave_the_plain_integral(images):
    model = _wrapped(_curved())
    plain = IntegratedGradients(model, n_steps=3, tolerance=1.0)(images, 1)
    with pytest.warns(NaspixWarning, match="after 3 steps"):
        found = IntegratedGradients(model, n_steps=3, max_steps=5, tolerance=1e-9)(images, 1)
    assert torch.equal(found, plain)


def test_refined_attributions_are_those_of_many_steps(images):
    """ReLUs bend the path; captum's three thousand steps see all bends."""
    torch.manual_seed(1)
    model = _wrapped(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(48, 4)))
    start = model.mean.expand_as(images)
    oracle = captum.attr.IntegratedGradients(model)
    expected = oracle.attribute(images, start, 1, n_steps=3000, method="riemann_middle")
    method = IntegratedGradients(model, n_steps=2, max_steps=300, tolerance=1e-4)
    found = method.attributions(images, 1)
    assert found.n_steps.max() > 2
    # both are off by at most a step beside each bend, of which each hidden unit has one
    torch.testing.assert_close(found.values, expected, rtol=0.01, atol=1e-3)


def test_default_network_on_a_photo():
    skimage_data = pytest.importorskip("skimage.data")
    model = naspix.load_model("efficientnet_lite0")
    # at a third of its size: the sum over steps is what is tested, not the photo
    images = model.load_images(skimage_data.chelsea()[:, 70:370])[:, :, ::3, ::3]
    result = IntegratedGradients(model).attributions(images, 282)
    assert result.completeness_error.max() < 0.01


def test_batch_equals_one_by_one(images):
    model = _wrapped(_curved())
    method = IntegratedGradients(model, batch_size=7)
    together = method(images)
    alone = torch.cat([method(image[None]) for image in images])
    torch.testing.assert_close(together, alone, rtol=1e-5, atol=1e-6)


def test_several_baselines_are_averaged(images):
    model = _wrapped(_curved())
    both = IntegratedGradients(model, baseline=("black", "white"))(images, 0)
    each = [IntegratedGradients(model, baseline=name)(images, 0) for name in ("black", "white")]
    torch.testing.assert_close(both, (each[0] + each[1]) / 2, rtol=1e-4, atol=1e-6)


def test_blur_keeps_the_colours_and_loses_the_shapes():
    model = _wrapped(_curved())
    image = torch.zeros(1, 3, 64, 64)
    image[..., ::2, :] = 1  # stripes
    method = IntegratedGradients(model)

    blurred = method._start("blur", image)
    assert (blurred - 0.5).abs().max() < 0.05


@pytest.mark.parametrize(
    ("rule", "expected"),
    [("sum", -1.0), ("abs_sum", 1.0), ("sum_abs", 5.0), ("max_abs", 3.0), ("max", 2.0)],
)
def test_channels(rule, expected):
    values = torch.tensor([2.0, -3.0, 0.0]).view(1, 3, 1, 1)
    assert reduce_channels(values, rule).item() == expected


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"baseline": torch.zeros(2, 3, 6, 5)}, "does not fit images"),
        ({"baseline": ()}, "tuple of baselines is empty"),
        ({"n_steps": 0}, "n_steps is at least 1"),
        ({"batch_size": 0}, "batch_size is at least 1"),
    ],
)
def test_bad_settings(images, change, says):
    with pytest.raises(InputError, match=says):
        IntegratedGradients(_wrapped(_linear()), **change)(images)


def test_overflowing_gradients_are_refused(images):
    class Overflow(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = nn.Conv2d(3, 4, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            # finite in value, infinite in slope
            return self.first(x).mean((2, 3)) + (x.mean((1, 2, 3)) * 0).sqrt()[:, None]

    model = naspix.wrap_model(Overflow(), input_size=(6, 5), levels=["first"])
    with pytest.raises(ModelError, match=r"IntegratedGradients: .* not finite"):
        IntegratedGradients(model)(images)
