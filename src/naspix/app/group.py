"""Several photos of one class: the clusters they share, what is salient in them, what is suspect.

In: photos as eight-bit tensors, a classifier. Out: plain values for a page: the atlas (where each
cluster is strongest), table 1's mean saliency of each cluster, and the audit's ranking.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int64, UInt8
from torch import Tensor

from naspix import registry
from naspix.app.study import made, png_url
from naspix.errors import InputError
from naspix.metrics import Suspect, clever_hans_audit, cluster_saliency, saliency_by_cluster
from naspix.models import Classifier
from naspix.plots import cluster_colours, cluster_picture
from naspix.segmentation import ClassClustering, Segmentation

MOST_PHOTOS = 24
MOST_CLUSTERS = 20
_EXAMPLES = 3  # patches shown of each cluster
_AT_ONCE = 4  # photos that pass the network together

Told = Callable[[int, str], None]


@dataclass
class Group:
    """The photos a visitor has put together.

    Attributes:
        network: By which name their network was chosen.
        names: What they are called, for people.
    """

    network: str
    names: list[str] = field(default_factory=list)
    _photos: list[UInt8[Tensor, "C H W"]] = field(default_factory=list)

    def add(self, name: str, images: Float[Tensor, "1 C H W"]) -> None:
        """Take one more.

        Raises:
            InputError: there are as many as there may be.
        """
        if len(self._photos) >= MOST_PHOTOS:
            raise InputError(f"{MOST_PHOTOS} photos are put together at most; clear some first")
        self.names.append(name)
        self._photos.append(images[0].mul(255).round().byte().cpu())

    def __len__(self) -> int:
        return len(self._photos)

    @property
    def images(self) -> Float[Tensor, "B C H W"]:
        """The photos in [0, 1]."""
        return torch.stack(self._photos).float() / 255


def described(
    group: Group,
    model: Classifier,
    *,
    n_clusters: int,
    method: str,
    told: Told,
) -> dict[str, Any]:
    """Cluster the photos together and describe what they share.

    The class is the one that most photos are predicted to be.

    Raises:
        InputError: fewer than two photos, or a number of clusters out of range.
    """
    if len(group) < 2:
        raise InputError("put at least two photos of one class together")
    if not 2 <= n_clusters <= MOST_CLUSTERS:
        raise InputError(f"the number of clusters is from 2 to {MOST_CLUSTERS}")
    images = group.images.to(model.device)
    told(len(images), "asking the network")
    logits = _in_parts(model, images)
    predicted = logits.argmax(1)
    target = int(predicted.bincount().argmax())
    told(0, "finding what they share")
    clusters = ClassClustering(model, n_clusters=n_clusters).fit(images)
    segmentation = clusters(images)
    atlas = clusters.atlas(images, n_examples=_EXAMPLES)
    asked = made(method, model)
    told(0, f"{registry.title_of(method)} of {len(images)} photos")
    heat = torch.cat([asked(one[None], target).detach() for one in images])
    measured = cluster_saliency(
        {method: heat}, segmentation.clusters, segmentation.superpixels, n_clusters=n_clusters
    )
    means = saliency_by_cluster(measured, predicted.cpu() == target, n_resamples=200)
    suspects = {one.cluster: one for one in clever_hans_audit(measured)}
    colours = cluster_colours(n_clusters)
    return {
        "target": {"index": target, "name": model.category(target)},
        "n_right": int((predicted == target).sum()),
        "method_title": registry.title_of(method),
        "photos": _photos(group, model, images, segmentation, predicted),
        "clusters": [
            {
                "cluster": entry.cluster,
                "colour": "#{:02x}{:02x}{:02x}".format(*colours[entry.cluster].tolist()),
                "area": entry.area,
                "frequency": entry.frequency,
                "saliency": _number(float(means.means[method, "all"][entry.cluster])),
                **_suspicion(suspects[entry.cluster]),
                "patches": [png_url(example.patch) for example in entry.examples],
            }
            for entry in atlas.entries
        ],
    }


def _photos(
    group: Group,
    model: Classifier,
    images: Float[Tensor, "B C H W"],
    segmentation: Segmentation,
    predicted: Int64[Tensor, " B"],
) -> list[dict[str, Any]]:
    arrays = images.permute(0, 2, 3, 1).cpu().numpy()
    clusters = segmentation.clusters.cpu().numpy()
    superpixels = segmentation.superpixels.cpu().numpy()
    return [
        {
            "name": name,
            "predicted": model.category(int(predicted[i])),
            "picture": png_url(cluster_picture(arrays[i], clusters[i], superpixels[i])),
        }
        for i, name in enumerate(group.names)
    ]


def _suspicion(suspect: Suspect) -> dict[str, Any]:
    return {
        "suspicion": _number(suspect.score),
        "contrast": _number(suspect.contrast),
        "n_images": suspect.n_images,
    }


def _number(value: float) -> float | None:
    """What JSON can hold."""
    return value if math.isfinite(value) else None


def _in_parts(model: Classifier, images: Float[Tensor, "B C H W"]) -> Float[Tensor, "B n_classes"]:
    with torch.no_grad():
        return torch.cat([model(part) for part in images.split(_AT_ONCE)])


def thumbnail(images: Float[Tensor, "1 C H W"], side: int = 96) -> str:
    """A small picture of a photo as a data URL."""
    small = torch.nn.functional.interpolate(images.cpu(), (side, side), mode="area")[0]
    rgb = small if len(small) == 3 else small[:1].expand(3, -1, -1)
    pixels: UInt8[np.ndarray, "H W 3"] = rgb.mul(255).round().byte().permute(1, 2, 0).numpy()
    return png_url(np.ascontiguousarray(pixels))
