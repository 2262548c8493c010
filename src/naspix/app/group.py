"""Several photos of one class: the clusters they share, what is salient in them, what is suspect.

In: photos as eight-bit tensors, a classifier. Out: plain values for a page: the atlas (where each
cluster is strongest), table 1's mean saliency of each cluster, and the audit's ranking.
"""

import math
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float, Int64, UInt8
from torch import Tensor

from naspix import registry
from naspix.app.photos import png_url
from naspix.app.regions import hex_colours
from naspix.app.study import Told, method_of
from naspix.errors import InputError
from naspix.metrics import clever_hans_audit, cluster_saliency, saliency_by_cluster
from naspix.models import Classifier
from naspix.models.batches import in_batches
from naspix.plots import cluster_colours, cluster_picture, photo_picture
from naspix.segmentation import ClassClustering, Segmentation

MOST_PHOTOS = 24
MOST_CLUSTERS = 20
_EXAMPLES = 3  # patches shown of each cluster
_AT_ONCE = 4  # photos that pass the network together


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
    asked = method_of(method, model)
    images = group.images.to(model.device)
    told(len(images), "asking the network")
    with torch.no_grad():
        parts = in_batches(lambda part: model(images[part]), len(images), _AT_ONCE)
        predicted = torch.cat(list(parts)).argmax(1)
    target = int(predicted.bincount().argmax())
    told(0, "finding what they share")
    clusters = ClassClustering(model, n_clusters=n_clusters).fit(images)
    maker = clusters.atlas_maker(n_examples=_EXAMPLES)
    segmentation = clusters.show(images, maker)
    told(0, f"{registry.title_of(method)} of {len(images)} photos")
    heat = torch.cat([asked(one[None], target).detach() for one in images])
    measured = cluster_saliency(
        {method: heat}, segmentation.clusters, segmentation.superpixels, n_clusters=n_clusters
    )
    means = saliency_by_cluster(measured, predicted.cpu() == target, n_resamples=200)
    suspects = {one.cluster: one for one in clever_hans_audit(measured)}
    colours = hex_colours(cluster_colours(n_clusters))
    return {
        "target": {"index": target, "name": model.category(target)},
        "n_right": int((predicted == target).sum()),
        "method_title": registry.title_of(method),
        "photos": _photos(group, model, images, segmentation, predicted),
        "clusters": [
            {
                "cluster": entry.cluster,
                "colour": colours[entry.cluster],
                "area": entry.area,
                "frequency": entry.frequency,
                "saliency": _number(float(means.means[method, "all"][entry.cluster])),
                "suspicion": _number(suspects[entry.cluster].score),
                "contrast": _number(suspects[entry.cluster].contrast),
                "n_images": suspects[entry.cluster].n_images,
                "patches": [png_url(example.patch) for example in entry.examples],
            }
            for entry in maker.finish().entries
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


def _number(value: float) -> float | None:
    """What JSON can hold."""
    return value if math.isfinite(value) else None


def thumbnail(images: Float[Tensor, "1 C H W"], side: int = 96) -> str:
    """A small picture of a photo as a data URL."""
    small = torch.nn.functional.interpolate(images.cpu(), (side, side), mode="area")[0]
    return png_url(photo_picture(small.permute(1, 2, 0).numpy()))
