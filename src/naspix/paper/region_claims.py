"""The claims of sections 4.2.1 and 4.2.2, asked of photos that figures 1 and 3 have cut.

*Edges followed* is boundary recall: the share of a photo's edges (Canny's) that lie within two
pixels of a superpixel's boundary.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import pairwise

import numpy as np
from jaxtyping import Bool, Int64

from naspix.paper.networks import TITLES
from naspix.paper.segmentations import KeptPhoto
from naspix.paper.verdicts import Part, Told, told

OTHERS = ("SLIC", "Felzenszwalb")
_VIT = TITLES["vit_b_16"]
_REACH = 2  # pixels from an edge that a boundary may lie

Photos = Sequence[KeptPhoto]
_Measure = Callable[[Photos, str, str], np.ndarray]  # of photos, a row and a column: one a photo


def others_follow_edges(photos: Photos) -> Told:
    """Whether SLIC and Felzenszwalb follow edges more than the networks do in the mean."""
    names = [name for name in photos[0].columns if name not in OTHERS]
    own = np.mean([edges_followed(photos, "", name) for name in names], axis=0)
    parts = {name: Part(edges_followed(photos, "", name) - own) for name in OTHERS}
    return told(parts, "Edges followed, less the mean over NAS by the networks.")


def most_outside(photos: Photos) -> Told:
    """Whether Felzenszwalb has more superpixels outside the object's box than all others."""
    own = _outside(photos, "Felzenszwalb")
    parts = {
        name: Part(own - _outside(photos, name))
        for name in photos[0].columns
        if name != "Felzenszwalb"
    }
    words = "Felzenszwalb's superpixels that lie outside the boxes for the most part, less others'."
    return told(parts, words, unit="superpixels", scale=1)


def vit_is_first(photos: Photos, measure: _Measure, words: str, scale: float) -> Told:
    """Whether ViT16 has more of what is measured than each other network.

    Args:
        photos: Cut by networks.
        measure: Of a photo's cut.
        words: What was measured, and its unit.
        scale: From what is measured to that unit.
    """
    if _VIT not in photos[0].columns:
        return None, f"{_VIT}'s weights were not at hand: 0 photos."
    own = measure(photos, "", _VIT)
    parts = {
        name: Part(own - measure(photos, "", name))
        for name in photos[0].columns
        if name not in (_VIT, *OTHERS)
    }
    return told(parts, f"By {_VIT} less by the others.", unit=words, scale=scale)


def shallow_have_more(photos: Photos, measure: _Measure, words: str, scale: float) -> Told:
    """Whether of single levels each shallower one has more of what is measured than the next.

    Args:
        photos: Cut by single levels.
        measure: Of a photo's cut.
        words: What was measured, and its unit.
        scale: From what is measured to that unit.
    """
    parts = {}
    for shallow, deep in pairwise(_single_levels(photos)):
        apart = [measure(photos, k, shallow) - measure(photos, k, deep) for k in photos[0].rows]
        parts[f"{shallow} and {deep}"] = Part(np.mean(apart, axis=0))
    said = "The shallower level less the deeper one, mean over K."
    return told(parts, said, unit=words, scale=scale)


def first_level_sees_colour(photos: Photos) -> Told:
    """Whether level 0's clusters explain more of a photo's colours than the deepest level's."""
    first, *_, last = _single_levels(photos)
    parts = {
        k: Part(_colour_explained(photos, k, first) - _colour_explained(photos, k, last))
        for k in photos[0].rows
    }
    return told(parts, f"Share of the colours' variance between clusters, {first} less {last}.")


def _single_levels(photos: Photos) -> list[str]:
    return [name for name in photos[0].columns if name.startswith("level ")]


def _counts(photos: Photos, row: str, column: str) -> np.ndarray:
    return np.array([photo.cuts[row, column].n_superpixels for photo in photos], float)


def _outside(photos: Photos, column: str) -> np.ndarray:
    """Superpixels that lie outside the boxes for the most part; NaN where there are no boxes."""
    found = []
    for photo in photos:
        labels = photo.cuts["", column].superpixels.ravel()
        if photo.inside is None:
            found.append(np.nan)
            continue
        inside = np.bincount(labels, photo.inside.ravel()) / np.bincount(labels)
        found.append(float((inside < 0.5).sum()))
    return np.array(found)


def _colour_explained(photos: Photos, row: str, column: str) -> np.ndarray:
    found = []
    for photo in photos:
        clusters = photo.cuts[row, column].clusters.ravel()
        colours = photo.image.reshape(-1, 3).astype(float)
        counts = np.bincount(clusters)[:, None]
        sums = np.stack([np.bincount(clusters, channel) for channel in colours.T], axis=1)
        middle = colours.mean(0)
        between = (counts * (sums / np.maximum(counts, 1) - middle) ** 2).sum()
        total = ((colours - middle) ** 2).sum()
        found.append(between / total if total else np.nan)
    return np.array(found)


def edges_followed(photos: Photos, row: str, column: str) -> np.ndarray:
    """Boundary recall of a cut of each photo."""
    return np.array([boundary_recall(p.edges, p.cuts[row, column].superpixels) for p in photos])


def boundary_recall(edges: Bool[np.ndarray, "H W"], superpixels: Int64[np.ndarray, "H W"]) -> float:
    """Share of edges within two pixels of a superpixel's boundary; NaN where there are none.

    Example:
        >>> halves = np.array([[0] * 5 + [1] * 5] * 3)
        >>> edges = np.zeros((3, 10), bool)
        >>> edges[:, [4, 9]] = True
        >>> boundary_recall(edges, halves)
        0.5
    """
    from scipy.ndimage import distance_transform_edt
    from skimage.segmentation import find_boundaries

    if not edges.any():
        return float("nan")
    boundaries = find_boundaries(superpixels, mode="thick")
    if not boundaries.any():
        return 0.0
    return float((distance_transform_edt(~boundaries)[edges] <= _REACH).mean())


_EDGES, _NUMBERS = "points of edges followed", "superpixels"
CLAIMS: Mapping[str, Mapping[str, Callable[[Photos], Told]]] = {
    "figure1": {
        "others_follow_edges": others_follow_edges,
        "felzenszwalb_outside": most_outside,
        "vit_edges": partial(vit_is_first, measure=edges_followed, words=_EDGES, scale=100),
        "vit_fragments": partial(vit_is_first, measure=_counts, words=_NUMBERS, scale=1),
    },
    "figure3": {
        "shallow_edges": partial(
            shallow_have_more, measure=edges_followed, words=_EDGES, scale=100
        ),
        "deep_fewer": partial(shallow_have_more, measure=_counts, words=_NUMBERS, scale=1),
        "level_0_colour": first_level_sees_colour,
    },
}
