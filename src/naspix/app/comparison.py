"""Methods and segmenters side by side on one photo, and why one class and not another.

In: a study and names. Out: pictures and numbers for a page. Each picture has its scale beside it,
which is that of the same map in the report and in its pictures; the other segmenters' parameters
are chosen so that they have as many superpixels as NAS has.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float
from torch import Tensor

from naspix import registry
from naspix.app.photos import png_url
from naspix.app.regions import mean_saliency, pooled_scale, ranks, told_scale
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

    Measured: what hiding each superpixel alone does to the difference of both scores before the
    softmax. Beside it stands the method's map of that difference. Many methods keep what is above
    zero only, so that their maps cannot speak for the second class.

    Raises:
        InputError: the classes are the same, or none.
    """
    if any(not 0 <= c < len(study.logits) for c in (positive, negative)):
        raise InputError("choose two of the network's classes")
    if positive == negative:
        raise InputError("choose two different classes; there is no contrast of one with itself")
    heat = study.heat(method, Contrast(positive, negative), told)
    pooled = superpixelify(heat, study.segmentation.superpixels)
    means = mean_saliency(study.segmentation, heat)
    n = len(means)
    told(n, "hiding each superpixel")
    difference = study.hiding.before[positive] - study.hiding.before[negative]
    alone = study.hiding.alone()
    falls = difference - (alone[:, positive] - alone[:, negative])
    labels = study.segmentation.superpixels.cpu()
    return {
        "positive": {"index": positive, "name": study.model.category(positive)},
        "negative": {"index": negative, "name": study.model.category(negative)},
        "method_title": registry.title_of(method),
        "says_against": bool(heat.min() < 0),
        "difference": float(difference),
        "photo": png_url(photo_picture(study.array(), zoom=_ZOOM)),
        "maps": [
            _pooled_map("what hiding each alone takes from the lead", falls[labels], signed=True),
            _pooled_map(f"{registry.title_of(method)}, averaged over each", pooled, signed=True),
        ],
        "saliency": means.tolist(),
        "rank": ranks(means).tolist(),
        "fall": falls.tolist(),
    }


def _row(method: str, heat: Tensor, cuts: dict[str, Segmentation]) -> dict[str, Any]:
    signed = bool(heat.min() < 0)
    raw = heat[0].float().cpu().numpy()
    maps = [_map("as it is", raw, saliency_scale(raw, signed=signed, outliers=0.005))]
    for name, cut in cuts.items():
        pooled = superpixelify(heat, cut.superpixels)
        maps.append(_pooled_map(f"over {registry.title_of(name)}", pooled, signed=signed))
    return {"method": method, "title": registry.title_of(method), "maps": maps}


def _pooled_map(title: str, values: Tensor, *, signed: bool) -> dict[str, Any]:
    array = values[0].float().cpu().numpy()
    return _map(title, array, pooled_scale(array, signed=signed))


def _map(title: str, values: Float[np.ndarray, "H W"], scale: Scale) -> dict[str, Any]:
    picture = png_url(saliency_picture(values, scale, zoom=_ZOOM))
    return {"title": title, "picture": picture, **told_scale(scale)}
