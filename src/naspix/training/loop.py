"""One epoch after the other: forward, backward, step; then the validation split.

Lightning Fabric places the network, spreads batches over processes and scales mixed precision; what
is computed is here.
"""

import math
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, Subset, TensorDataset

from naspix.errors import DeviceError, ModelError, WeightsError
from naspix.models.answers import pick_logits
from naspix.models.recipes import Description, Transferred
from naspix.training.pictures import Pictures, epoch_batches, seed_of
from naspix.training.run_folder import Epoch, read_state, save_state
from naspix.training.settings import Finetuning
from naspix.training.splits import View

if TYPE_CHECKING:
    from lightning.fabric import Fabric

_WARM_UP = 0.05  # of all steps
_WEIGHTS, _OPTIMIZER = "weights/", "optimizer/"  # how names in a saved state begin


class Standardized(nn.Module):
    """A network that takes images in [0, 1] and gives logits, in whatever mode it is.

    Args:
        network: Takes standardised images.
        description: Has mean and standard deviation.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, network: nn.Module, description: Description) -> None:
        super().__init__()
        self.network = network
        for name, values in (("mean", description.mean), ("std", description.std)):
            self.register_buffer(name, torch.tensor(values)[:, None, None], persistent=False)

    def forward(self, images: Float[Tensor, "B C H W"]) -> Float[Tensor, "B n_classes"]:
        """Logits."""
        answer = self.network((images - self.mean) / self.std)
        return pick_logits(answer, None, batch=len(images), name="the network")


class Loop:
    """A network while it learns.

    Args:
        fabric: Launched.
        made: The network and its head.
        description: How it wants its images.
        settings: How it learns, nothing left open.
        step: Told what is being done, how much of it, and of how much.
    """

    def __init__(
        self,
        fabric: "Fabric",
        made: Transferred,
        description: Description,
        settings: Finetuning,
        step: Callable[[str, int, int], None],
    ) -> None:
        assert settings.lr is not None
        assert settings.epochs is not None
        assert settings.workers is not None
        self.network = made.network
        self._fabric, self._settings, self._description = fabric, settings, description
        self._lr, self.n_epochs, self._n_workers = settings.lr, settings.epochs, settings.workers
        self._head, self._step = made.head, step
        self._features: dict[View, TensorDataset] = {}
        for name, parameter in self.network.named_parameters():
            parameter.requires_grad_(not settings.freeze or name in made.head)
        loose = [p for p in self.network.parameters() if p.requires_grad]
        optimizer = torch.optim.AdamW(loose, lr=self._lr, weight_decay=settings.weight_decay)
        self._whole = Standardized(self.network, description).to(fabric.device)
        once = settings.freeze and not settings.augment
        self._last = _linear_head(self.network, made.head) if once else None
        wrapped = fabric.setup(self._last or self._whole, optimizer)
        self._module, self._optimizer = wrapped[0], wrapped[1]

    def save(self, folder: Path, history: tuple[Epoch, ...]) -> None:
        """Write where the network stands: weights, optimizer, loss scale and the epochs so far."""
        tensors = {_WEIGHTS + name: value for name, value in self.network.state_dict().items()}
        for place, part in self._optimizer.optimizer.state_dict()["state"].items():
            tensors |= {f"{_OPTIMIZER}{place}/{key}": value for key, value in part.items()}
        save_state(folder, tensors, history, self._fabric.strategy.precision.state_dict())

    def restore(self, folder: Path) -> tuple[Epoch, ...]:
        """Take up what `save` wrote, if it did; the epochs so far.

        Raises:
            WeightsError: If it is damaged, or of another network.
        """
        found = read_state(folder)
        if found is None:
            return ()
        tensors, history, scale = found
        weights: dict[str, Tensor] = {}
        state: dict[int, dict[str, Tensor]] = {}
        for name, tensor in tensors.items():
            if name.startswith(_WEIGHTS):
                weights[name.removeprefix(_WEIGHTS)] = tensor
            else:
                place, _, key = name.removeprefix(_OPTIMIZER).partition("/")
                state.setdefault(int(place), {})[key] = tensor
        try:
            self.network.load_state_dict(weights)
        except RuntimeError:
            raise WeightsError(
                f"the checkpoint in {str(folder)!r} is of another network or other classes; give "
                "another --output"
            ) from None
        optimizer = self._optimizer.optimizer
        optimizer.load_state_dict({**optimizer.state_dict(), "state": state})
        if scale:
            self._fabric.strategy.precision.load_state_dict(scale)
        return history

    def learn(self, view: View, epoch: int) -> tuple[float, float, float]:
        """Go through the pictures once.

        Args:
            view: What to learn from.
            epoch: From 0.

        Returns:
            Mean loss, share that was right, and the last learning rate.

        Raises:
            ModelError: If the loss is not finite.
            DeviceError: If memory runs out.
        """
        fabric, how = self._fabric, self._settings
        batches = epoch_batches(
            len(view),
            how.batch_size,
            seed=how.seed,
            epoch=epoch,
            rank=fabric.global_rank,
            world=fabric.world_size,
        )
        drawn = (how.seed, epoch) if how.augment else None
        loader = self._loader(self._pictures(view, drawn), batch_sampler=batches)
        self._set_mode()
        torch.manual_seed(seed_of(how.seed, epoch, -2 - fabric.global_rank))  # for dropout
        sums, lr = torch.zeros(3, dtype=torch.float64), 0.0
        for i, (images, labels) in enumerate(loader):
            done, total = epoch * len(batches) + i, self.n_epochs * len(batches)
            lr = learning_rate(done, total, self._lr)
            for group in self._optimizer.param_groups:
                group["lr"] = lr
            self._optimizer.zero_grad()
            loss, counted = self._loss(images, labels, how.label_smoothing)
            fabric.backward(loss)
            self._optimizer.step()
            sums += counted
            if not math.isfinite(float(sums[0])):
                raise ModelError(
                    f"the loss is not finite in epoch {epoch + 1}; learn at a smaller rate than "
                    f"{self._lr:g} (--lr)"
                )
            self._step("learning", done + 1, total)
        return (*self._means(sums), lr)

    def validate(self, view: View) -> tuple[float, float]:
        """Mean loss, and share that is right."""
        fabric = self._fabric
        mine = range(fabric.global_rank, len(view), fabric.world_size)
        batch_size = max(self._settings.batch_size // fabric.world_size, 1)
        pictures = Subset(self._pictures(view), list(mine))
        self._module.eval()
        sums = torch.zeros(3, dtype=torch.float64)
        with torch.no_grad():
            for images, labels in self._loader(pictures, batch_size=batch_size):
                sums += self._loss(images, labels, 0.0)[1]
        return self._means(sums)

    def _pictures(self, view: View, drawn: tuple[int, int] | None = None) -> "Dataset[Any]":
        """The pictures, or what the head sees of them if it alone learns, and always sees the same.

        Args:
            view: Which pictures.
            drawn: As for `Pictures`.
        """
        if self._last is None:
            return Pictures(view, self._description, drawn)
        if view not in self._features:
            self._features[view] = self._seen_by(self._last, view)
        return self._features[view]

    def _seen_by(self, head: nn.Linear, view: View) -> TensorDataset:
        """What enters the last layer, and the classes; on the CPU."""
        self._whole.eval()
        loader = self._loader(
            Pictures(view, self._description), batch_size=self._settings.batch_size
        )
        seen: list[Tensor] = []
        hook = head.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].detach()))
        parts: list[Tensor] = []
        try:
            with torch.no_grad():
                for images, _ in loader:
                    seen.clear()
                    logits = self._guarded(self._whole, images)
                    if len(seen) != 1 or not _is_last(head, seen[0], logits):
                        raise ModelError(
                            "the last layer of this network cannot be learned alone without random "
                            "crops; let it augment"
                        )
                    parts.append(seen[0].float().cpu())
                    self._step("reading", sum(map(len, parts)), len(view))
        finally:
            hook.remove()
        return TensorDataset(torch.cat(parts), torch.tensor(view.labels))

    def _guarded(self, module: nn.Module, images: Tensor) -> Tensor:
        """Ask a module, with a word for memory that runs out."""
        device = self._fabric.device
        try:
            with self._fabric.autocast():
                answer: Tensor = module(images.to(device))
        except torch.OutOfMemoryError:
            raise DeviceError(
                f"memory of {device} ran out on a batch of {len(images)}; give a smaller "
                "--batch-size"
            ) from None
        return answer

    def _loss(self, images: Tensor, labels: Tensor, smoothing: float) -> tuple[Tensor, Tensor]:
        """Mean loss of a batch; and its loss in sum, how many are right, and how many there are."""
        logits = self._guarded(self._module, images).float()
        labels = labels.to(logits.device)
        loss = nn.functional.cross_entropy(logits, labels, label_smoothing=smoothing)
        n_right = int((logits.argmax(1) == labels).sum())
        counted = (float(loss.detach()) * len(labels), n_right, len(labels))
        return loss, torch.tensor(counted, dtype=torch.float64)

    def _means(self, sums: Tensor) -> tuple[float, float]:
        """Loss and share that is right, over all processes."""
        if self._fabric.world_size > 1:
            reduced = self._fabric.all_reduce(sums.to(self._fabric.device), reduce_op="sum")
            assert isinstance(reduced, Tensor)  # as it was given
            sums = reduced
        loss, n_right, n = sums.tolist()
        return loss / n, n_right / n

    def _set_mode(self) -> None:
        """Training mode; of a frozen network for the head only, so that its statistics stay."""
        self._module.train(not self._settings.freeze)
        if self._settings.freeze:
            for name in self._head:
                self.network.get_submodule(name.rpartition(".")[0]).train()

    def _loader(self, pictures: "Dataset[Any]", **batches: Any) -> "DataLoader[Any]":
        return DataLoader(
            pictures,
            num_workers=self._n_workers,
            pin_memory=self._fabric.device.type == "cuda",
            generator=torch.Generator(),  # the global one is not drawn from
            **batches,
        )


def learning_rate(step: int, total: int, highest: float) -> float:
    """Up in a straight line over the first twentieth, down along a cosine.

    Example:
        >>> [round(learning_rate(step, 100, 1.0), 3) for step in (0, 4, 5, 52, 99)]
        [0.2, 1.0, 1.0, 0.508, 0.0]
    """
    warm_up = max(round(_WARM_UP * total), 1)
    if step < warm_up:
        return highest * (step + 1) / warm_up
    return highest * 0.5 * (1 + math.cos(math.pi * (step - warm_up) / max(total - warm_up, 1)))


def _linear_head(network: nn.Module, head: frozenset[str]) -> nn.Linear | None:
    """The linear layer that all parameters of the head belong to, if there is one."""
    owners = {name.rpartition(".")[0] for name in head}
    module = network.get_submodule(owners.pop()) if len(owners) == 1 else None
    return module if isinstance(module, nn.Linear) else None


def _is_last(head: nn.Linear, entering: Tensor, logits: Tensor) -> bool:
    """Whether the network does no more to what enters its head than the head."""
    if entering.ndim != 2:
        return False
    bias = None if head.bias is None else head.bias.to(entering.dtype)
    own = nn.functional.linear(entering, head.weight.to(entering.dtype), bias)
    return own.shape == logits.shape and torch.allclose(own, logits, atol=1e-2, rtol=1e-2)
