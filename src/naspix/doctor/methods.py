"""Which saliency methods serve a network: each kind of need is tried once, memory measured.

A method needs scores alone, gradients, guided gradients, relevance (LRP), a layer's map or
attention. What serves one method of a kind serves all of it. A method says itself what it needs and
costs; a test holds both to what it really does.
"""

import warnings
import weakref
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from naspix.errors import NaspixError, NaspixWarning
from naspix.models import Classifier
from naspix.models.batches import batch_size_on
from naspix.registry import SALIENCY
from naspix.saliency import LRP, AttentionRollout, GradCAM, GuidedBackprop, VanillaGradient
from naspix.saliency.base import Need


@dataclass(frozen=True)
class MethodDiagnosis:
    """Whether one method serves the network, and what it costs with its default settings.

    Attributes:
        method: Its name in the registry.
        title: As people write it.
        needs: What it asks of the network.
        serves: Whether the network gives it that.
        why: Why not; empty where it does.
        forwards: For one photo, without the one that predicts a class that is not given.
        backwards: For one photo.
        memory: Bytes of tensors at a time for one photo, estimated: those of one pass, measured,
            times the passes that the method's ``batch_size`` puts together. 0 where it does not
            serve.
    """

    method: str
    title: str
    needs: Need
    serves: bool
    why: str
    forwards: int
    backwards: int
    memory: int


def try_methods(model: Classifier, images: Float[Tensor, "1 C H W"]) -> tuple[MethodDiagnosis, ...]:
    """Try what methods need on one image; the registry's order."""
    trials: dict[Need, tuple[str, int]] = {}
    found = []
    for name, kind in SALIENCY.items():
        if kind.needs not in trials:
            trials[kind.needs] = _try(model, kind.needs, images)
        why, bytes_each = trials[kind.needs]
        method = kind(model)
        forwards, backwards = method.passes(images.shape[1:])
        at_once = min(
            forwards, batch_size_on(model.device, method.batch_size, backwards=backwards > 0)
        )
        found.append(
            MethodDiagnosis(
                method=name,
                title=kind.title,
                needs=kind.needs,
                serves=not why,
                why=why,
                forwards=forwards,
                backwards=backwards,
                memory=0 if why else bytes_each * at_once,
            )
        )
    return tuple(found)


def _try(model: Classifier, needs: Need, images: Float[Tensor, "1 C H W"]) -> tuple[str, int]:
    """Why a need is not met (empty where it is), and the memory of one pass."""
    ways: Mapping[Need, Callable[[Tensor, int], Tensor]] = {
        "scores": torch.no_grad()(lambda images, _: model.probabilities(images)),
        "gradients": VanillaGradient(model),
        "guided gradients": GuidedBackprop(model),
        "relevance": LRP(model),
        "a layer's map": GradCAM(model),
        "attention": AttentionRollout(model),
    }
    method = ways[needs]
    try:
        with warnings.catch_warnings(), measuring_memory() as memory:
            warnings.simplefilter("error", NaspixWarning)  # a map that is zero serves nobody
            method(images, 0)
    except NaspixWarning as warning:
        return str(warning).removeprefix(f"{type(method).__name__}: "), 0
    except NaspixError as error:
        return str(error).removeprefix(f"{type(method).__name__}: "), 0
    return "", memory.peak


class measuring_memory(TorchDispatchMode):
    """Watch the storage of tensors made inside the ``with`` block; ``peak`` is its maximum, bytes.

    Counts the storage of every tensor that comes into being, forward and backward, until it is
    freed, on any device. What a kernel takes for itself meanwhile (cuDNN's workspace, say) is not
    seen, nor is what was there before.

    Example:
        >>> with measuring_memory() as memory:
        ...     for _ in range(3):
        ...         _ = torch.zeros(1000) + 1
        >>> memory.peak  # two tensors of 4000 bytes at a time
        8000
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.peak = 0
        self._live = 0
        self._seen: dict[int, weakref.ref[torch.UntypedStorage]] = {}

    def __torch_dispatch__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        for given in tree_leaves((args, kwargs)):
            self._meet(given, new=False)
        result = func(*args, **(kwargs or {}))
        for made in tree_leaves(result):
            self._meet(made, new=True)
        return result

    def _meet(self, value: object, *, new: bool) -> None:
        if not isinstance(value, Tensor) or value.layout != torch.strided:
            return
        storage = value.untyped_storage()
        key = id(storage)
        if key in self._seen:
            return
        size = storage.nbytes() if new else 0  # what was there before is not counted

        def freed(_: object) -> None:
            self._seen.pop(key, None)
            self._live -= size

        self._seen[key] = weakref.ref(storage, freed)
        self._live += size
        self.peak = max(self.peak, self._live)
