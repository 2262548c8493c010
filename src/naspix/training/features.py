"""What the last layer of a frozen network sees: computed once, since only that layer learns."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.data import Dataset

from naspix.training.splits import View


@dataclass(frozen=True, eq=False)
class Features(Dataset[tuple[Tensor, int]]):
    """Features in the place of pictures, by the same indices.

    Attributes:
        values: `(n, n_features)`, on the CPU.
        view: What they were computed of.
    """

    values: Float[Tensor, "n n_features"]
    view: View

    def __len__(self) -> int:
        return len(self.view)

    def __getitem__(self, place: int | tuple[int, int]) -> tuple[Float[Tensor, " n_features"], int]:
        index = place[1] if isinstance(place, tuple) else place
        return self.values[index], self.view.labels[index]


def linear_head(network: nn.Module, head: Iterable[str]) -> nn.Linear | None:
    """The linear layer that all parameters of the head belong to, if there is one.

    Args:
        network: The module.
        head: Names of parameters.
    """
    owners = {name.rpartition(".")[0] for name in head}
    module = network.get_submodule(owners.pop()) if len(owners) == 1 else None
    return module if isinstance(module, nn.Linear) else None


def features_of(
    view: View,
    batches: Iterable[tuple[Tensor, Tensor]],
    ask: Callable[[Tensor], Tensor],
    head: nn.Linear,
    step: Callable[[int], None],
) -> Features | None:
    """What enters the head; None if the network does more to it than the head.

    Args:
        view: The pictures.
        batches: Of them, in order.
        ask: The network, in eval mode.
        head: Its last layer.
        step: Told how many pictures are done.
    """
    seen: list[Tensor] = []
    hook = head.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0].detach()))
    parts = []
    try:
        with torch.no_grad():
            for images, _ in batches:
                seen.clear()
                logits = ask(images)
                if len(seen) != 1 or seen[0].ndim != 2 or not _is_last(head, seen[0], logits):
                    return None
                parts.append(seen[0].float().cpu())
                step(sum(map(len, parts)))
    finally:
        hook.remove()
    return Features(torch.cat(parts), view)


def _is_last(head: nn.Linear, entering: Tensor, logits: Tensor) -> bool:
    own = nn.functional.linear(entering, head.weight.to(entering.dtype), _bias(head, entering))
    return own.shape == logits.shape and torch.allclose(own, logits, atol=1e-2, rtol=1e-2)


def _bias(head: nn.Linear, like: Tensor) -> Tensor | None:
    return None if head.bias is None else head.bias.to(like.dtype)
