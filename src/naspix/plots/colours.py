"""Which colours a cluster and a saliency value get, readable with any colour vision.

Clusters: ten colours after Okabe and Ito (2008) and Tol (2021), one for each cluster number, so
that a cluster keeps its colour over K and over runs. Saliency: one colour map for maps that are
never negative, a diverging one centred on zero for maps that are.
"""

import colorsys
from dataclasses import dataclass
from functools import cache

import numpy as np
from jaxtyping import Float, UInt8

_CLUSTERS = (
    "#0072b2",  # blue
    "#e69f00",  # orange
    "#009e73",  # green
    "#f0e442",  # yellow
    "#56b4e9",  # sky
    "#882255",  # wine
    "#cc79a7",  # pink
    "#d55e00",  # vermilion
    "#332288",  # indigo
    "#4d4d4d",  # grey
)
_GOLDEN_RATIO = 0.618033988749895


@cache
def cluster_colours(n: int) -> UInt8[np.ndarray, "n 3"]:
    """The colours of clusters 0 to n - 1; the first ten are easy to tell apart, all are distinct.

    Example:
        >>> cluster_colours(2).tolist()
        [[0, 114, 178], [230, 159, 0]]
    """
    named = [tuple(bytes.fromhex(colour[1:])) for colour in _CLUSTERS[:n]]
    further = [
        tuple(
            round(255 * part)
            for part in colorsys.hsv_to_rgb(
                i * _GOLDEN_RATIO % 1, (0.5, 0.75, 0.95)[i % 3], (0.9, 0.65)[i % 2]
            )
        )
        for i in range(n - len(named))
    ]
    colours = np.array([*named, *further], dtype=np.uint8).reshape(n, 3)
    colours.flags.writeable = False  # the cache hands the same array to everyone
    return colours


@dataclass(frozen=True)
class Scale:
    """How saliency becomes a colour: ``low`` is the first colour of the map, ``high`` the last.

    Attributes:
        low: Values from here down have the first colour.
        high: Values from here up have the last colour.
        signed: Whether zero is the neutral middle of a diverging colour map.
    """

    low: float
    high: float
    signed: bool

    @property
    def colormap(self) -> str:
        """The name of the matplotlib colour map."""
        return "RdBu_r" if self.signed else "inferno"

    def position(self, saliency: Float[np.ndarray, "*S"]) -> Float[np.ndarray, "*S"]:
        """Where in the colour map each value lies, 0 to 1."""
        width = self.high - self.low
        if width <= 0:
            return np.full(saliency.shape, 0.5 if self.signed else 0.0)
        return np.clip((saliency.astype(np.float64) - self.low) / width, 0, 1)


def unit_scale(saliency: Float[np.ndarray, "*S"], *, outliers: float = 0.0) -> Scale:
    """The scale on which a map reaches from 0, its least value, to 1, its largest.

    On it maps of any unit and sign can share their colours, as in the paper's figure 5; what speaks
    against the class is then dark rather than of another colour.

    Args:
        saliency: The map.
        outliers: The share of pixels that may lie beyond both ends together.

    Example:
        >>> unit_scale(np.array([-1.0, 0.0, 4.0]))
        Scale(low=-1.0, high=4.0, signed=False)
    """
    values = saliency.astype(np.float64)
    low, high = np.quantile(values, [outliers / 2, 1 - outliers / 2])
    return Scale(low=float(low), high=float(high), signed=False)


def saliency_scale(
    saliency: Float[np.ndarray, "*S"], *, signed: bool | None = None, outliers: float = 0.0
) -> Scale:
    """The scale on which a map fills its colours.

    Args:
        saliency: The map, or several that share a scale.
        signed: Whether the scale is symmetric about zero; by default where a value is negative.
        outliers: The share of pixels that may lie beyond the last colour: single pixels of a
            gradient map, or tiny superpixels, are many times its other values, and would leave
            it black.

    Example:
        >>> saliency_scale(np.array([-1.0, 0.0, 4.0]))
        Scale(low=-4.0, high=4.0, signed=True)
    """
    values = saliency.astype(np.float64)
    if signed is None:
        signed = bool(values.min() < 0)
    if signed:
        reach = float(np.quantile(np.abs(values), 1 - outliers))
        return Scale(low=-reach, high=reach, signed=True)
    low, high = np.quantile(values, [0, 1 - outliers])
    return Scale(low=float(low), high=float(high), signed=False)
