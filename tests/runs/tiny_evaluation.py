"""A whole evaluation of a tiny network on made-up pictures, quick enough to be killed often."""

from functools import partial
from pathlib import Path

import torch
from torch import nn

import naspix
from naspix.datasets import Sample
from naspix.evaluation.evaluator import Evaluator
from naspix.evaluation.measures import WSOL
from naspix.evaluation.pictures import Framing
from naspix.pipeline import Pipeline, RandomRegions
from naspix.runs import Engine, InProcess, carry_out, open_run


class Blobs:
    """Bright rectangles on noise, with their boxes; picture 5 is broken."""

    categories = ("blob",)

    def __init__(self, n: int) -> None:
        self.ids = tuple(f"blob-{i}" for i in range(n))
        self.labels = (0,) * n

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: int, /) -> Sample:
        if index == 5:
            raise naspix.errors.ImageError("blob-5 cannot be read")
        image = 0.3 * torch.rand(3, 40, 50, generator=torch.Generator().manual_seed(index))
        left, top = 3 + index % 20, 5 + index % 15
        image[:, top : top + 16, left : left + 20] += 0.6
        box = torch.tensor([[left, top, left + 20, top + 16]], dtype=torch.float32)
        return Sample(id=self.ids[index], image=image, label=0, boxes=box)


def make_worker(n: int) -> Evaluator:
    """The worker, with the same weights in every process."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = nn.Sequential(
            nn.Conv2d(3, 8, 3, 2, 1), nn.ReLU(), nn.Conv2d(8, 8, 3, 1, 1), nn.ReLU(),
            nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 3),
        )  # fmt: skip
    model = naspix.wrap_model(network, input_size=32, levels=["1", "3"])
    pipeline = Pipeline(
        model,
        {
            "vanilla_gradient": naspix.saliency.VanillaGradient(model),
            "input_x_gradient": naspix.saliency.InputXGradient(model),
        },
        {"nas": naspix.NAS(model, levels=(0, 1), n_clusters=4), "random": RandomRegions()},
    )
    return Evaluator(Blobs(n), pipeline, WSOL(), Framing(model, squash=True, label_of={}))


def run(folder: Path, n: int, engine: Engine | None = None) -> None:
    """Begin or continue the evaluation."""
    with open_run(folder, kind="wsol", settings={"n": n}) as opened:
        carry_out(
            opened,
            partial(make_worker, n),
            n_items=n,
            batch_size=2,
            engine=engine or InProcess(),
        )
