"""What a mean over pictures would be for other pictures: its interval.

Percentiles over pictures drawn anew (Poisson bootstrap: each picture counts a random number of
times, 1 on average). A picture counts the same number of times in all settings, so that differences
are paired.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float64, UInt8

if TYPE_CHECKING:
    from pandas import DataFrame

N_RESAMPLES = 500
_CONFIDENCE = 0.95
_SEED = 0


@dataclass(frozen=True, eq=False)
class Sample:
    """A figure of one setting: over all pictures, and over each resample.

    Attributes:
        value: Over all pictures.
        draws: Over each resample.
        of_pictures: Of each picture, NaN where it has none; None where there is no such thing.
        n_left_out: Pictures without a value.
    """

    value: float
    draws: Float64[np.ndarray, " R"]
    of_pictures: Float64[np.ndarray, " n"] | None = None
    n_left_out: int = 0


def mean_over_pictures(group: "DataFrame", figure: str) -> Sample:
    """A figure's mean over the pictures that have it.

    Args:
        group: Records of one setting, a row a picture.
        figure: Its column; NaN where a picture has none.
    """
    values = np.array(group[figure], np.float64)
    known = ~np.isnan(values)
    if not known.any():
        nothing = np.full(N_RESAMPLES, np.nan)
        return Sample(float("nan"), nothing, values, len(values))
    counts = resample_counts(group["index"].to_numpy()[known])
    with np.errstate(invalid="ignore"):
        draws = values[known] @ counts / counts.sum(0)
    return Sample(float(values[known].mean()), draws, values, int((~known).sum()))


def resample_counts(index: Any) -> Float64[np.ndarray, "n R"]:
    """How often each picture counts in each resample; the same for a picture in every setting."""
    return np.stack([_count(int(each)) for each in index]).astype(np.float64)


@lru_cache(maxsize=100_000)
def _count(index: int) -> UInt8[np.ndarray, " R"]:
    drawn = np.random.default_rng([_SEED, index]).poisson(1, N_RESAMPLES)
    return np.asarray(drawn, np.uint8)


def interval(draws: Float64[np.ndarray, " R"]) -> tuple[float, float]:
    """The 95 % interval: percentiles of what the resamples gave."""
    known = draws[np.isfinite(draws)]
    if not known.size:
        return float("nan"), float("nan")
    low, high = np.quantile(known, [(1 - _CONFIDENCE) / 2, (1 + _CONFIDENCE) / 2])
    return float(low), float(high)
