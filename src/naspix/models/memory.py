"""How much memory tensors take inside a block, on any device.

Counts the storage of every tensor that comes into being, forward and backward, until it is freed.
What a kernel takes for itself meanwhile (cuDNN's workspace, say) is not seen, nor is what was there
before.
"""

import weakref
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class measuring_memory(TorchDispatchMode):
    """Watch the storage of tensors made inside the ``with`` block; ``peak`` is its maximum, bytes.

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
