"""What the server is asked, and its answers: pydantic models in, plain values out.

A question and a batch of images make one call of `explain` or of the pipeline, and each image of it
an answer that fits JSON.
"""

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from naspix import plots, registry
from naspix.app.photos import png
from naspix.errors import InputError
from naspix.explain import explain, likeliest
from naspix.models import Classifier
from naspix.pipeline import Pipeline
from naspix.report import Prediction
from naspix.report.record import ranking_to_plain
from naspix.segmentation import NAS, Segmentation
from naspix.superpixelify import rank_superpixels


@dataclass(frozen=True)
class Picture:
    """A photo that was sent, as the network takes it.

    Attributes:
        image: ``(1, C, H, W)`` in [0, 1].
        fitting: What of the photo it shows, in words.
    """

    image: Tensor
    fitting: str


class Question(BaseModel):
    """What is asked about a photo, and how the photo is made to fit.

    Attributes:
        kind: Path of the route.
    """

    model_config = ConfigDict(extra="forbid")
    kind: ClassVar[str]

    model: str | None = Field(None, max_length=200, description="a network on offer; the first one")
    resize: Literal["model", "crop", "squash", "pad"] = Field(
        "model", description="how the photo is made to fit the network's size"
    )
    segmenter: str = Field("nas", max_length=40, description="what cuts, such as nas or slic")
    n_clusters: int = Field(5, ge=1, le=100, description="of nas")
    png: bool = Field(False, description="whether a picture is sent along, as base64 of a PNG")

    def make_segmenter(self, model: Classifier) -> Any:
        """The segmenter that is asked for."""
        kind = registry.find_segmenter(self.segmenter)
        return NAS(model, n_clusters=self.n_clusters) if kind is NAS else kind()

    def check(self) -> None:
        """Refuse unknown names, before a photo is read.

        Raises:
            UnknownNameError: With the names that there are.
        """
        registry.find_segmenter(self.segmenter)

    def answers(self, model: Classifier, pictures: Sequence[Picture]) -> list[dict[str, Any]]:
        """An answer for each picture."""
        raise NotImplementedError


class Segment(Question):
    """Cut a photo into regions, and tell what the network sees in it."""

    kind: ClassVar[str] = "segment"

    def answers(self, model: Classifier, pictures: Sequence[Picture]) -> list[dict[str, Any]]:
        """An answer for each picture, of one forward."""
        images = torch.cat([one.image for one in pictures])
        found = Pipeline(model, {}, {self.segmenter: self.make_segmenter(model)})(images)
        segmentation = found.segmentations[self.segmenter]
        probabilities = model.scores.probabilities(found.logits.cpu().double())
        several = []
        for index, picture in enumerate(pictures):
            answer = _about(picture, [*likeliest(model, probabilities[index])])
            masks = segmentation.to_rle(index)
            cluster_of = _clusters(segmentation, index)
            answer["superpixels"] = [
                {"label": label, "cluster": cluster_of[label], "rle": mask}
                for label, mask in enumerate(masks)
            ]
            if self.png:
                labels = segmentation.superpixels[index].cpu().numpy()
                answer["png"] = _encoded(plots.boundary_picture(_array(model, picture), labels))
            several.append(answer)
        return several


class Explain(Question):
    """Tell which regions of a photo a class rests on, the most salient first."""

    kind: ClassVar[str] = "explain"

    method: str = Field("grad_cam_plus_plus", max_length=40, description="a saliency method")
    target: str | None = Field(
        None, max_length=200, description="class to explain, number or name; the predicted one"
    )
    sets: bool = Field(
        False, description="whether the few regions are searched that suffice for the class, and "
        "those that it needs"
    )  # fmt: skip

    def check(self) -> None:
        """The same, and a method that explains no class."""
        super().check()
        if not registry.find_method(self.method).asks_class:
            raise InputError(f"method {self.method!r} explains no class; choose another")

    def answers(self, model: Classifier, pictures: Sequence[Picture]) -> list[dict[str, Any]]:
        """An answer for each picture."""
        explanation = explain(
            model,
            torch.cat([one.image for one in pictures]),
            None if self.target is None else model.find_class(self.target),
            method=self.method,
            segmenter=self.make_segmenter(model),
            sets=self.sets,
            batch_size=len(pictures),
        )
        ((method, segmenter),) = explanation.pooled
        segmentation = explanation.segmentations[segmenter]
        several = []
        for index, picture in enumerate(pictures):
            answer = _about(picture, [*explanation.predictions[index]])
            answer["target"] = _prediction(explanation.target_predictions[index])
            answer["method"], heat = self.method, explanation.pooled[method, segmenter][index]
            masks, cluster_of = segmentation.to_rle(index), _clusters(segmentation, index)
            ranking = rank_superpixels(heat, segmentation.superpixels[index])
            answer["superpixels"] = [
                {**plain, "rle": masks[one.label]}
                for one, plain in zip(ranking, ranking_to_plain(ranking, cluster_of), strict=True)
            ]
            if self.sets:
                answer |= explanation.deciding[method, segmenter][index].to_plain()
            if self.png:
                shown = heat.cpu().numpy()
                scale = plots.saliency_scale(shown, outliers=0.01)
                picture_of = plots.overlay_picture(_array(model, picture), shown, scale)
                answer["png"] = _encoded(picture_of)
            several.append(answer)
        return several


QUESTIONS: tuple[type[Question], ...] = (Segment, Explain)


def _about(picture: Picture, predictions: list[Prediction]) -> dict[str, Any]:
    return {
        "size": list(picture.image.shape[2:]),
        "fitting": picture.fitting,
        "predictions": [_prediction(one) for one in predictions],
    }


def _prediction(one: Prediction) -> dict[str, Any]:
    value = "probability" if one.is_probability else "score"
    return {"index": one.index, "name": one.name, value: one.probability}


def _clusters(segmentation: Segmentation, index: int) -> dict[int, int]:
    labels = segmentation.superpixels[index].flatten().cpu().numpy()
    known, first = np.unique(labels, return_index=True)
    clusters = segmentation.clusters[index].flatten().cpu().numpy()[first]
    return dict(zip(known.tolist(), clusters.tolist(), strict=True))


def _array(model: Classifier, picture: Picture) -> np.ndarray:
    image = picture.image[0]
    return (image if model.shown is None else image[[*model.shown]]).permute(1, 2, 0).cpu().numpy()


def _encoded(pixels: np.ndarray) -> str:
    return base64.b64encode(png(pixels)).decode("ascii")
