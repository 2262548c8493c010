"""One epoch after the other: forward, backward, step; then the validation split.

Lightning Fabric places the network, spreads batches over processes and scales mixed precision; what
is computed is here, and nothing is written.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.data import DataLoader, Subset

from naspix.errors import DeviceError, ModelError
from naspix.models.recipes import Description, Transferred
from naspix.models.scores import pick_logits
from naspix.training.checkpoint import Checkpoint, Epoch, optimizer_tensors
from naspix.training.features import Features, features_of, linear_head
from naspix.training.feeding import Augmented, EpochBatches, Fitted, seed_of
from naspix.training.splits import View

if TYPE_CHECKING:
    from lightning.fabric import Fabric

Step = Callable[[str, int, int], None]

_WARM_UP = 0.05  # of all steps


@dataclass(frozen=True)
class Learning:
    """How the weights are moved.

    Attributes:
        epochs: At most so many.
        batch_size: Of all processes together.
        lr: At its highest.
        weight_decay: Of AdamW.
        label_smoothing: Share of the target that goes to all classes alike.
        freeze: Only the head learns.
        augment: Random crops and mirroring.
        seed: Of everything random.
        workers: Processes that read pictures, beside each that learns.
    """

    epochs: int
    batch_size: int
    lr: float
    weight_decay: float
    label_smoothing: float
    freeze: bool
    augment: bool
    seed: int
    workers: int


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
        learning: How it learns.
        step: Told what is being done, how much of it, and of how much.
    """

    def __init__(
        self,
        fabric: "Fabric",
        made: Transferred,
        description: Description,
        learning: Learning,
        step: Step,
    ) -> None:
        self.network = made.network
        self._fabric, self._learning, self._description = fabric, learning, description
        self._head, self._step = made.head, step
        self._features: dict[View, Features] = {}
        for name, parameter in self.network.named_parameters():
            parameter.requires_grad_(not learning.freeze or name in made.head)
        loose = [p for p in self.network.parameters() if p.requires_grad]
        optimizer = torch.optim.AdamW(loose, lr=learning.lr, weight_decay=learning.weight_decay)
        self._whole = Standardized(self.network, description).to(fabric.device)
        once = learning.freeze and not learning.augment
        self._last = linear_head(self.network, made.head) if once else None
        wrapped = fabric.setup(self._last or self._whole, optimizer)
        self._module, self._optimizer = wrapped[0], wrapped[1]

    def continue_from(self, checkpoint: Checkpoint, folder: Any) -> None:
        """Take up weights, optimizer and loss scale."""
        checkpoint.restore(self.network, self._optimizer.optimizer, folder)
        if checkpoint.scale:
            self._fabric.strategy.precision.load_state_dict(dict(checkpoint.scale))

    def checkpoint(self, history: tuple[Epoch, ...]) -> Checkpoint:
        """Where the network stands."""
        return Checkpoint(
            weights=self.network.state_dict(),
            optimizer=optimizer_tensors(self._optimizer.optimizer),
            history=history,
            scale=self._fabric.strategy.precision.state_dict(),
        )

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
        fabric, how = self._fabric, self._learning
        batches = EpochBatches(
            len(view), how.batch_size, how.seed, fabric.global_rank, fabric.world_size
        )
        batches.epoch = epoch
        pictures = self._features_of(view) or Augmented(
            view, self._description, how.seed, how.augment
        )
        loader = self._loader(pictures, batch_sampler=batches)
        self._set_mode()
        torch.manual_seed(seed_of(how.seed, epoch, -2 - fabric.global_rank))  # for dropout
        sums, lr = torch.zeros(3, dtype=torch.float64), 0.0
        for i, (images, labels) in enumerate(loader):
            done, total = epoch * len(batches) + i, how.epochs * len(batches)
            lr = learning_rate(done, total, how.lr)
            for group in self._optimizer.param_groups:
                group["lr"] = lr
            self._optimizer.zero_grad()
            loss, right = self._loss(images, labels, how.label_smoothing)
            fabric.backward(loss)
            self._optimizer.step()
            sums += torch.stack([loss.detach().double().cpu() * len(labels), right, _n(labels)])
            if not math.isfinite(float(sums[0])):
                raise ModelError(
                    f"the loss is not finite in epoch {epoch + 1}; learn at a smaller rate than "
                    f"{how.lr:g} (--lr)"
                )
            self._step("learning", done + 1, total)
        total_sums = self._over_processes(sums)
        return float(total_sums[0] / total_sums[2]), float(total_sums[1] / total_sums[2]), lr

    def validate(self, view: View) -> tuple[float, float]:
        """Mean loss, and share that is right."""
        fabric = self._fabric
        mine = range(fabric.global_rank, len(view), fabric.world_size)
        pictures = self._features_of(view) or Fitted(view, self._description)
        batch_size = max(self._learning.batch_size // fabric.world_size, 1)
        loader = self._loader(Subset(pictures, list(mine)), batch_size=batch_size)
        self._module.eval()
        sums = torch.zeros(3, dtype=torch.float64)
        with torch.no_grad():
            for images, labels in loader:
                loss, right = self._loss(images, labels, 0.0)
                sums += torch.stack([loss.double().cpu() * len(labels), right, _n(labels)])
        sums = self._over_processes(sums)
        return float(sums[0] / sums[2]), float(sums[1] / sums[2])

    def _features_of(self, view: View) -> Features | None:
        """What the head sees of the pictures, if it alone learns, and always sees the same."""
        if self._last is None:
            return None
        if view not in self._features:
            self._whole.eval()
            pictures = Fitted(view, self._description)
            found = features_of(
                view,
                self._loader(pictures, batch_size=self._learning.batch_size),
                lambda images: self._guarded(self._whole, images),
                self._last,
                lambda done: self._step("reading", done, len(view)),
            )
            if found is None:
                raise ModelError(
                    "the last layer of this network cannot be learned alone without random crops; "
                    "let it augment"
                )
            self._features[view] = found
        return self._features[view]

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
        """Mean loss of a batch, and how many are right."""
        logits = self._guarded(self._module, images).float()
        labels = labels.to(logits.device)
        loss = nn.functional.cross_entropy(logits, labels, label_smoothing=smoothing)
        return loss, (logits.argmax(1) == labels).sum().double().cpu()

    def _set_mode(self) -> None:
        """Training mode; of a frozen network for the head only, so that its statistics stay."""
        self._module.train(not self._learning.freeze)
        if self._learning.freeze:
            for name in self._head:
                self.network.get_submodule(name.rpartition(".")[0]).train()

    def _loader(self, pictures: Any, **batches: Any) -> "DataLoader[Any]":
        return DataLoader(
            pictures,
            num_workers=self._learning.workers,
            pin_memory=self._fabric.device.type == "cuda",
            generator=torch.Generator(),  # the global one is not drawn from
            **batches,
        )

    def _over_processes(self, sums: Tensor) -> Tensor:
        if self._fabric.world_size == 1:
            return sums
        reduced = self._fabric.all_reduce(sums.to(self._fabric.device), reduce_op="sum")
        assert isinstance(reduced, Tensor)  # as it was given
        return reduced.cpu()


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


def _n(labels: Tensor) -> Tensor:
    return torch.tensor(len(labels), dtype=torch.float64)
