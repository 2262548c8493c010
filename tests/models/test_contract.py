"""Every architecture: the levels, what they put out, and that the network is left as it was."""

from typing import Any

import pytest
import torch
from networks import KNOWN, ConvNet
from torch import Tensor, nn

import naspix
from naspix.models import Classifier

_BUILT: dict[str, nn.Module] = {}


@pytest.fixture(params=list(KNOWN))
def case(request: pytest.FixtureRequest) -> tuple[nn.Module, int, tuple[str, ...] | None, str]:
    build, frame, levels, layout = KNOWN[request.param]
    if request.param not in _BUILT:
        _BUILT.clear()  # one at a time: some are large
        _BUILT[request.param] = build()
    return _BUILT[request.param], frame, levels, layout


def _literal(network: nn.Module, x: Tensor, names: tuple[str, ...]) -> dict[str, Tensor]:
    """What plain hooks see in eval mode, copied at once."""
    seen = {}

    def keep(name: str) -> Any:
        def hook(module: nn.Module, args: object, output: Any) -> None:
            seen[name] = (output[0] if isinstance(output, tuple) else output).detach().clone()

        return hook

    handles = [network.get_submodule(name).register_forward_hook(keep(name)) for name in names]
    modes = {module: module.training for module in network.modules()}
    network.eval()
    with torch.no_grad():
        network(x)
    for module, mode in modes.items():
        module.training = mode
    for handle in handles:
        handle.remove()
    return seen


def _as_map(output: Tensor, layout: str) -> Tensor:
    if layout == "tokens":  # one class token, a square grid
        tokens = output[:, 1:]
        side = round(tokens.shape[1] ** 0.5)
        return tokens.reshape(len(output), side, side, -1).permute(0, 3, 1, 2)
    return output.permute(0, 3, 1, 2) if layout == "last" else output


def _state(network: nn.Module) -> dict[str, Any]:
    """All of a network that asking it might change."""
    hooks = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    return {
        "hooks": [len(getattr(m, name)) for m in network.modules() for name in hooks],
        "modes": [module.training for module in network.modules()],
        "requires_grad": [p.requires_grad for p in network.parameters()],
        "grads": [None if p.grad is None else float(p.grad.sum()) for p in network.parameters()],
        "values": [float(t.double().sum()) for t in network.state_dict().values()],
        "versions": [t._version for t in network.state_dict().values()],
        "names": [name for name, _ in network.named_modules()],
        "random": torch.get_rng_state().tolist(),
    }


def test_levels_are_the_modules_of_the_protocol(case: Any) -> None:
    network, frame, levels, _ = case
    model = naspix.wrap_model(network, input_size=frame)
    assert len(model.levels) == 5
    if levels is not None:
        assert model.levels == levels


def test_activations_are_what_a_literal_hook_sees(case: Any) -> None:
    network, frame, _, layout = case
    model = naspix.wrap_model(network, input_size=frame, mean=[0.4, 0.5, 0.6], std=0.25)
    images = torch.rand(2, 3, frame, frame)
    seen = _literal(network, model.standardize(images), model.levels)
    maps = model.activations(images, range(5))
    sizes = [m.shape[-1] for m in maps]
    assert sizes == sorted(sizes, reverse=True)
    for name, found in zip(model.levels, maps, strict=True):
        assert found.dtype == torch.float32
        assert not found.requires_grad
        # the same operations on the same numbers: equal to the bit
        assert torch.equal(found, _as_map(seen[name], layout)), name


def test_the_network_is_left_as_it_was(case: Any) -> None:
    network, frame, _, _ = case
    network.train()
    for module in list(network.modules())[1::3]:
        module.training = False
    first = next(network.parameters())
    first.grad, first.requires_grad = torch.ones_like(first), False
    before = _state(network)
    try:
        model: Classifier = naspix.wrap_model(network, input_size=frame)
        images = torch.rand(2, 3, frame, frame)
        before["random"] = torch.get_rng_state().tolist()
        logits = model(images)
        pixels = images.clone().requires_grad_()
        again = model(pixels)
        torch.autograd.grad(again.sum(), pixels)
        model.activations(images, (1, 3))
        model.probabilities(images)
        model.resolve_target(images, None)
        repr(model)
        assert torch.equal(logits, again)  # in eval mode there is no chance in it
        assert _state(network) == before
    finally:
        first.grad, first.requires_grad = None, True


def test_one_by_one_is_the_batch(case: Any) -> None:
    network, frame, _, _ = case
    model = naspix.wrap_model(network, input_size=frame)
    images = torch.rand(2, 3, frame, frame)
    with torch.no_grad():
        logits = model(images)
        single = torch.cat([model(image[None]) for image in images])
    # convolutions may pick another algorithm for another batch: float32 rounding
    torch.testing.assert_close(logits, single, rtol=1e-3, atol=1e-4 * float(logits.abs().max()))


def test_a_failing_network_is_left_as_it_was_too() -> None:
    network = ConvNet().train()
    network.head = nn.Linear(3, 4)  # does not fit
    model = naspix.wrap_model(network, levels=["body.1"])
    before = _state(network)
    with pytest.raises(
        naspix.errors.ModelError, match="ConvNet fails on images of 1 x 3 x 32 x 32"
    ):
        model.activations(torch.rand(1, 3, 32, 32), "body.1")
    with pytest.raises(naspix.errors.ModelError):
        model(torch.rand(1, 3, 32, 32))
    after = _state(network)
    assert after == {**before, "random": after["random"]}
