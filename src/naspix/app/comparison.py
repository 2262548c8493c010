"""Methods and segmenters side by side on one photo, and why one class and not another.

In: a study and names. Out: pictures and numbers for a page. A method's raw map and its pooled maps
share one scale; the other segmenters' parameters are chosen so that they have as many superpixels
as NAS has.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from naspix import registry
from naspix.app.photos import png_url
from naspix.app.regions import hex_colours, mean_saliency, ranks
from naspix.app.study import Study, Told
from naspix.errors import InputError, UnknownNameError
from naspix.plots import (
    Scale,
    boundary_picture,
    photo_picture,
    saliency_picture,
    saliency_scale,
)
from naspix.segmentation import Segmentation
from naspix.superpixelify import superpixelify
from naspix.targets import Contrast

MATCHED = ("slic", "felzenszwalb", "watershed", "quickshift")
_ZOOM = 2
_BEYOND = 0.005  # share of pixels beyond the last colour


def compare(
    study: Study, methods: Sequence[str], segmenters: Sequence[str], told: Told
) -> dict[str, Any]:
    """Pictures of every method's map, raw and pooled over every segmenter's superpixels.

    Args:
        study: The photo.
        methods: Names of saliency methods.
        segmenters: Names of segmenters beside NAS, which is always there.
        told: Is told what is being done, and how many images that takes.

    Raises:
        InputError: no method, or a name that is not known.
    """
    if not methods:
        raise InputError("choose at least one saliency method")
    for name in methods:
        registry.find_method(name)
    for name in segmenters:
        if name not in MATCHED:
            raise UnknownNameError.among("segmenter to compare with", name, MATCHED)
    cuts: dict[str, Segmentation] = {"nas": study.segmentation}
    wanted = int(study.segmentation.n_superpixels[0])
    for name in dict.fromkeys(segmenters):
        told(0, f"cutting with {registry.title_of(name)}")
        matched = registry.find_segmenter(name)().match(study.images, wanted)
        cuts[name] = matched(study.images)
    study.others = {name: cut for name, cut in cuts.items() if name != "nas"}
    rows = [_row(name, study.heat(name, told=told), cuts) for name in dict.fromkeys(methods)]
    array = study.array()
    return {
        "target": study.model.category(study.target),
        "photo": png_url(photo_picture(array, zoom=_ZOOM)),
        "segmenters": [
            {
                "title": registry.title_of(name),
                "n": int(cut.n_superpixels[0]),
                # as large as it is shown, about: thin lines do not survive being scaled down
                "picture": png_url(boundary_picture(array, cut.superpixels[0].cpu().numpy())),
            }
            for name, cut in cuts.items()
        ],
        "rows": rows,
    }


def contrast(study: Study, positive: int, negative: int, method: str, told: Told) -> dict[str, Any]:
    """Which superpixels speak for one class rather than for another.

    The map is the method's for the difference of both scores before the softmax. Beside it stands
    what hiding each superpixel alone does to that difference.

    Raises:
        InputError: the classes are the same, or none.
    """
    if any(not 0 <= c < len(study.logits) for c in (positive, negative)):
        raise InputError("choose two of the network's classes")
    if positive == negative:
        raise InputError("choose two different classes; there is no contrast of one with itself")
    heat = study.heat(method, Contrast(positive, negative), told)
    pooled = superpixelify(heat, study.segmentation.superpixels)
    scale = saliency_scale(pooled.cpu().numpy(), signed=True, outliers=_BEYOND)
    means = mean_saliency(study.segmentation, heat)
    n = len(means)
    told(n, "hiding each superpixel")
    difference = study.hiding.before[positive] - study.hiding.before[negative]
    alone = study.hiding.alone()
    falls = difference - (alone[:, positive] - alone[:, negative])
    return {
        "positive": {"index": positive, "name": study.model.category(positive)},
        "negative": {"index": negative, "name": study.model.category(negative)},
        "method_title": registry.title_of(method),
        "difference": float(difference),
        "low": scale.low,
        "high": scale.high,
        "colours": gradient(signed=True),
        "photo": png_url(photo_picture(study.array(), zoom=_ZOOM)),
        "picture": png_url(saliency_picture(pooled[0].cpu().numpy(), scale, zoom=_ZOOM)),
        "saliency": means.tolist(),
        "rank": ranks(means).tolist(),
        "fall": falls.tolist(),
    }


def gradient(*, signed: bool) -> list[str]:
    """The colours from low to high, as CSS has them."""
    from matplotlib import colormaps

    colours = colormaps[Scale(0.0, 1.0, signed).colormap](np.linspace(0, 1, 9), bytes=True)
    return hex_colours(colours[:, :3])


def _row(method: str, heat: Tensor, cuts: dict[str, Segmentation]) -> dict[str, Any]:
    pooled = {name: superpixelify(heat, cut.superpixels) for name, cut in cuts.items()}
    every = torch.cat([heat, *pooled.values()]).cpu().numpy()
    scale = saliency_scale(every, outliers=_BEYOND)

    def drawn(values: Tensor) -> str:
        return png_url(saliency_picture(values[0].float().cpu().numpy(), scale, zoom=_ZOOM))

    return {
        "method": method,
        "title": registry.title_of(method),
        "low": scale.low,
        "high": scale.high,
        "colours": gradient(signed=scale.signed),
        "maps": [
            {"title": "as it is", "picture": drawn(heat)},
            *(
                {"title": f"over {registry.title_of(name)}", "picture": drawn(values)}
                for name, values in pooled.items()
            ),
        ],
    }
