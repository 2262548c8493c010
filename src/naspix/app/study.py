"""One visitor's photo: what the network says of it, how it is cut, what is hidden.

Plain Python under the page: every method changes the study, every ``..._state`` describes it in
values that fit JSON. Numbers are those of the Python interface, since they are made by it.
"""

import secrets
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from naspix import registry
from naspix.app.hiding import Hiding
from naspix.app.photos import Picture
from naspix.app.regions import (
    Cut,
    Cutter,
    described,
    hex_colours,
    mean_saliency,
    told_scale,
)
from naspix.errors import InputError
from naspix.models import Classifier
from naspix.pipeline import Pipeline
from naspix.plots import saliency_picture, saliency_scale
from naspix.saliency.base import Attribution, target_for
from naspix.segmentation import Segmentation
from naspix.targets import Contrast

N_CLASSES_SHOWN = 5
DEFAULT_METHOD = "grad_cam_plus_plus"
_MOST_HEATS = 40  # maps remembered
_MOST_AHEAD, _LEAST_AHEAD = 60, 0.001  # superpixels looked at ahead, and their least share
_BATCH = 8  # images a forward of long methods: others are let in between two forwards

Told = Callable[[int, str], None]  # how many images will pass the network, and what is done


class Study:
    """A photo under study.

    Args:
        model: The classifier.
        network: By which name it was chosen.
        picture: The photo.
        cut: How it is cut first.

    Attributes:
        token: Names the study to its page, so that late answers about another are told apart.
        n_cuts: How often it was cut, which tells one cut's superpixels from another's.
        target: The class that is explained.
        method: The saliency method by which superpixels are ranked.
        others: Other segmenters' superpixels, as many as NAS has, since they were compared.
        cutter: Cuts the photo, and keeps Ward's tree.
    """

    def __init__(
        self,
        model: Classifier,
        network: str,
        picture: Picture,
        cut: Cut | None = None,
    ) -> None:
        self.model, self.network, self.picture = model, network, picture
        self.images, self.name = picture.images, picture.name
        images = picture.images
        self.token = secrets.token_hex(8)
        self.cut, self.n_cuts = cut or Cut(levels=tuple(model.default_levels)), 0
        levels = model.level_names(self.cut.levels)
        methods = {DEFAULT_METHOD: method_of(DEFAULT_METHOD, model)}
        answers = Pipeline(model, methods, levels=tuple(levels))(images)
        with torch.no_grad():
            hidden: Tensor = model(model.mean.to(images).expand_as(images))
        self.logits = answers.logits[0].cpu()
        self._ends = torch.stack([self.logits, hidden[0].cpu()])
        self.target = int(self.logits.argmax())
        self.method = DEFAULT_METHOD
        self.others: dict[str, Segmentation]
        self.heats: dict[tuple[object, ...], Tensor] = {
            (DEFAULT_METHOD, self.target): answers.raw[DEFAULT_METHOD]
        }
        maps = [answers.activations[level] for level in levels]
        self.cutter = Cutter(model, images, {self.cut.levels: maps})
        self.segment(self.cut)

    # ----------------------------------------------------------------- what changes it

    def segment(self, cut: Cut) -> None:
        """Cut it anew; nothing is hidden then."""
        self.segmentation, self.seconds = self.cutter.segmentation(cut)
        self.cut, self.n_cuts = cut, self.n_cuts + 1
        self.others = {}
        self._hide_nothing()

    def explain_class(self, target: int, told: Told | None = None) -> None:
        """Ask about another class; what is hidden stays so.

        Raises:
            InputError: there is no such class.
        """
        if not 0 <= target < len(self.logits):
            raise InputError(f"there is no class {target}")
        self.heat(self.method, target, told)
        hidden, self.target = self.hiding.hidden, target
        self._hide_nothing()
        self.hiding.hidden = hidden

    def rank_by(self, method: str, told: Told | None = None) -> None:
        """Rank superpixels by another method's saliency; a curve of the last one ends."""
        self.heat(method, told=told)
        self.method = method
        self.hiding.curve = None

    def heat(
        self,
        method: str,
        target: int | Contrast | None = None,
        told: Told | None = None,
    ) -> Tensor:
        """A method's map ``(1, H, W)`` with its default settings, computed once for each class.

        Args:
            method: Its name.
            target: The class, or a contrast; the explained one by default.
            told: Is told before it is computed how many images that takes, and what is computed.
        """
        wanted = self.target if target is None else target
        key = (method, wanted)
        if key not in self.heats:
            asked = method_of(method, self.model)
            if told is not None:
                told(asked.passes(self.images.shape[1:])[0], registry.title_of(method))
            self.heats[key] = asked(self.images, target_for(asked, wanted)).detach()
            while len(self.heats) > _MOST_HEATS:
                del self.heats[next(iter(self.heats))]
        return self.heats[key]

    def saliency(self) -> Float[np.ndarray, " n"]:
        """Mean saliency of each superpixel."""
        return mean_saliency(self.segmentation, self.heat(self.method))

    def _hide_nothing(self) -> None:
        self.hiding = Hiding(
            self.model, self.images, self.segmentation.superpixels, self.target, self._ends
        )

    # ----------------------------------------------------------------- what a page is told

    def photo_state(self) -> dict[str, Any]:
        """The photo, the network and its likeliest classes."""
        mean = self.model.mean.flatten().clamp(0, 1).mul(255).round().int().tolist()
        height, width = self.images.shape[2:]
        return {
            "token": self.token,
            "name": self.name,
            "network": self.network,
            "width": width,
            "height": height,
            "source": self.picture.shown,
            "size": self.picture.size,
            "frame": self.picture.frame,
            "told": self.picture.told,
            "fitting": self.picture.fitting,
            "mean": mean if len(mean) == 3 else [mean[0]] * 3,
            "levels": list(self.model.levels),
            "predicted": self._class(int(self.logits.argmax())),
            "n_classes": len(self.logits),
            "scores": str(self.model.scores),
            "are_probabilities": self.model.scores.are_probabilities,
        }

    def regions_state(self) -> dict[str, Any]:
        """The superpixels, and how they were made."""
        return {
            **described(self.segmentation, self.heat(self.method)),
            "algorithm": self.cut.algorithm,
            "n_asked": self.cut.n_clusters,
            "levels": list(self.cut.levels),
            "seconds": self.seconds,
            "method": self.method,
            "method_title": registry.title_of(self.method),
            "target": self._class(self.target),
        }

    def scores_state(self) -> dict[str, Any]:
        """What is hidden, and the scores before and after."""
        hiding = self.hiding
        hidden, curve, after = hiding.state()
        before = hiding.before
        probable = [self.model.scores.probabilities(each.double()) for each in (before, after)]
        shown = dict.fromkeys(probable[0].topk(min(N_CLASSES_SHOWN, len(before))).indices.tolist())
        for index in (self.target, int(after.argmax())):
            shown.setdefault(index)
        return {
            "hidden": sorted(hidden),
            "share": hiding.share(hidden),
            "can_undo": hiding.can_undo,
            "predicted": self._class(int(after.argmax())),
            "target": self.target,
            "bars": [
                {
                    **self._class(index),
                    "before": float(probable[0][index]),
                    "after": float(probable[1][index]),
                    "logit_before": float(before[index]),
                    "logit_after": float(after[index]),
                }
                for index in shown
            ],
            "curve": None
            if curve is None
            else {
                "kind": curve.kind,
                "fraction": curve.fraction,
                "score": curve.score,
                "area": curve.area,
                "done": len(curve.fraction) > hiding.n,
                "n": hiding.n,
            },
        }

    def alone_state(self) -> dict[str, Any]:
        """What hiding each superpixel alone does to the explained class; the largest ones only."""
        hiding, target = self.hiding, self.target
        numbers = hiding.largest(_MOST_AHEAD, _LEAST_AHEAD)
        alone = hiding.alone(numbers, at_once=1)
        after = self.model.scores.probabilities(alone.double())[:, target]
        before = self.model.scores.probabilities(hiding.before.double())[target]
        falls = (before - after).cpu().numpy()
        scale = saliency_scale(falls, signed=True)
        colours = hex_colours(saliency_picture(falls[None], scale)[0])
        return {
            "target": target,
            "before": float(before),
            "scale": told_scale(scale),
            "of": {
                number: {"after": float(probability), "colour": colour}
                for number, probability, colour in zip(numbers, after, colours, strict=True)
            },
        }

    def state(self) -> dict[str, Any]:
        """Everything."""
        return {
            "photo": self.photo_state(),
            "regions": self.regions_state(),
            "scores": self.scores_state(),
        }

    def array(self) -> Float[np.ndarray, "H W C"]:
        """The photo as the network sees it."""
        values: np.ndarray = self.images[0].permute(1, 2, 0).float().cpu().numpy()
        return values

    def _class(self, index: int) -> dict[str, Any]:
        return {"index": index, "name": self.model.category(index)}


def method_of(name: str, model: Classifier) -> Attribution:
    """The saliency method with its default settings, in batches between which others get a turn."""
    kind: Any = registry.find_method(name)
    asked: Attribution = kind(model, batch_size=_BATCH)
    return asked
