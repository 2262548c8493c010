"""Does the network decide by what it should not? Class clusters ranked by that suspicion.

A *Clever Hans* decides by something that only happens to go with the class: a watermark, a frame,
the grass. In a class clustering it is a cluster that is salient although it lies outside the
object, or although only some of the images have it. In: measurements of ``cluster_saliency``, and
what share of each cluster lies outside boxes or masks, where there are any. Out: the clusters, most
suspicious first. The ranking points; a person has to look.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float64, Int64
from torch import Tensor

from naspix.errors import InputError
from naspix.metrics.per_cluster import ClusterSaliency

_CONFIDENCE = 0.95  # of the contrast's lower bound, one-sided


@dataclass(frozen=True)
class Suspect:
    """One cluster as the audit sees it.

    Attributes:
        cluster: Its number.
        score: ``max(contrast_bound, 0) * max(rarity, outside)``, 0 to 1.
        contrast: Its mean saliency minus that of the rest of the image, -1 to 1, over the images
            that have it; NaN if none has.
        contrast_bound: What the contrast exceeds with 95 % confidence (Student's t over images);
            minus infinity if fewer than two images have it.
        rarity: The share of the images that lack the cluster.
        outside: The share of its pixels that lie outside boxes or masks; NaN if not known.
        n_images: How many images have it.
    """

    cluster: int
    score: float
    contrast: float
    contrast_bound: float
    rarity: float
    outside: float
    n_images: int


def clever_hans_audit(
    measured: ClusterSaliency,
    *,
    outside: Tensor | None = None,
    method: str | None = None,
    min_area: float | int = 0.005,
) -> tuple[Suspect, ...]:
    """Rank class clusters by how much they look like a Clever Hans.

    A cluster is suspect if it is more salient than the rest of the images that have it, surely and
    not by one image's accident, and if either many images of the class lack it or it lies outside
    the object. A mark that *every* image has is only found where boxes or masks are given.

    Args:
        measured: Of all images, from ``cluster_saliency``.
        outside: ``(B, K)``: the share of each cluster's pixels outside the object, from
            ``outside_shares``; NaN where not known.
        method: Whose saliency counts; by default the mean over all methods.
        min_area: An image has a cluster if it is at least this share of its pixels.

    Returns:
        One entry a cluster, the highest score first, equal scores by contrast.

    Raises:
        InputError: If there is no such method, or shapes do not fit.

    Source:
        Lapuschkin et al., "Unmasking Clever Hans predictors and assessing what machines really
        learn", 2019, for the question; the score is naspix's own.

    Example:
        >>> import torch
        >>> from naspix.metrics import cluster_saliency
        >>> clusters = torch.tensor([[[0, 0, 1]], [[0, 0, 1]], [[0, 0, 0]]])
        >>> heat = torch.tensor([[[0.0, 0.1, 1.0]], [[0.1, 0.0, 0.9]], [[0.5, 0.4, 0.6]]])
        >>> measured = cluster_saliency({"cam": heat}, clusters, clusters, n_clusters=2)
        >>> first, second = clever_hans_audit(measured)
        >>> first.cluster, round(first.contrast, 2), round(first.rarity, 2), second.score
        (1, 0.95, 0.33, 0.0)
    """
    if method is not None and method not in measured.methods:
        raise InputError(f"nothing was measured by {method!r}, but by {measured.methods}")
    n_images, _, n_clusters = measured.sums.shape
    if outside is not None and outside.shape != (n_images, n_clusters):
        raise InputError(
            f"outside has the shape {tuple(outside.shape)}; give one share for each of the "
            f"{n_images} images and {n_clusters} clusters"
        )
    kept = slice(None) if method is None else [measured.methods.index(method)]
    sums = measured.sums[:, kept].mean(1)
    rest = _left_out(sums) / _left_out(measured.weights)
    contrasts = (sums / measured.weights - rest).numpy()
    present = (measured.area >= min_area).numpy() & np.isfinite(contrasts)
    suspects = [
        _suspect(
            k,
            contrasts[present[:, k], k],
            n_images,
            float("nan") if outside is None else _outside_of(outside[:, k], measured.area[:, k]),
        )
        for k in range(n_clusters)
    ]
    return tuple(
        sorted(
            suspects,
            key=lambda one: (-one.score, -one.contrast if one.n_images else np.inf, one.cluster),
        )
    )


def outside_shares(
    clusters: Int64[Tensor, "B H W"], objects: Bool[Tensor, "B H W"], *, n_clusters: int
) -> Float64[Tensor, "B K"]:
    """Return the share of each cluster's pixels that lie outside the object.

    Args:
        clusters: Of a class clustering.
        objects: True inside the boxes or masks.
        n_clusters: K.

    Returns:
        NaN where an image lacks a cluster, or has no object marked.

    Example:
        >>> objects = torch.tensor([[[True, True, False]]])
        >>> outside_shares(torch.tensor([[[0, 1, 1]]]), objects, n_clusters=3)
        tensor([[0.0000, 0.5000,    nan]], dtype=torch.float64)
    """
    shares = torch.full((len(clusters), n_clusters), torch.nan, dtype=torch.float64)
    for b, (labels, inside) in enumerate(zip(clusters.flatten(1), objects.flatten(1), strict=True)):
        if inside.any():
            sizes = labels.bincount(minlength=n_clusters)
            beyond = labels[~inside].bincount(minlength=n_clusters)
            shares[b] = beyond.cpu().double() / sizes.cpu()
    return shares


def _left_out(values: Float64[Tensor, "B K"]) -> Float64[Tensor, "B K"]:
    """The sum over all other clusters."""
    return values.sum(1, keepdim=True) - values


def _outside_of(shares: Float64[Tensor, " B"], area: Float64[Tensor, " B"]) -> float:
    """The share outside of all pixels together, over the images where it is known."""
    known = shares.cpu().isfinite()
    if not known.any():
        return float("nan")
    return float((shares.cpu() * area)[known].sum() / area[known].sum())


def _suspect(
    cluster: int, contrasts: Float64[np.ndarray, " n"], n_images: int, outside: float
) -> Suspect:
    from scipy.stats import t

    n = len(contrasts)
    mean = float(contrasts.mean()) if n else float("nan")
    bound = float("-inf")
    if n > 1:
        error = float(contrasts.std(ddof=1)) / n**0.5
        bound = mean - float(t.ppf(_CONFIDENCE, n - 1)) * error
    rarity = 1 - n / n_images
    reason = rarity if np.isnan(outside) else max(rarity, outside)
    return Suspect(
        cluster=cluster,
        score=max(bound, 0.0) * reason,
        contrast=mean,
        contrast_bound=bound,
        rarity=rarity,
        outside=outside,
        n_images=n,
    )
