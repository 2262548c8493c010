"""Whether a claim of the paper's holds on the pictures at hand: one rule for all claims.

A claim has parts, such as one a method. Each part is, picture by picture, how far it goes the way
that the claim says, less the claim's margin. The claim holds where every part surely does, fails
where one surely goes the other way, and cannot be told otherwise, nor on a handful of pictures.
*Surely* is Wilcoxon's signed-rank test over pictures, corrected by Holm for the claim's parts, at
5 %; for figures that a picture has not by itself, such as MaxBoxAccV2, it is a 95 % interval over
pictures that leaves out zero.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from naspix.metrics import compare
from naspix.metrics.significance import holm

FEWEST = 20  # pictures of which anything may be said
LEVEL = 0.05
_POWER = 2.8  # standard errors that a difference spans which a test finds four times in five

_MOST = 100_000  # pictures that are counted

Told = tuple[bool | None, str]


@dataclass(frozen=True)
class Verdict:
    """Whether a claim of the paper holds here.

    Attributes:
        claim: A sentence.
        holds: None where it cannot be told from what is at hand.
        why: The test and its numbers, or what is missing.
        source: Where the claim is from.
    """

    claim: str
    holds: bool | None
    why: str
    source: str = ""


@dataclass(frozen=True, eq=False)
class Gains:
    """One part of a claim, on all pictures.

    Attributes:
        gains: Of each picture, above zero where it goes as the claim says; NaN where it has none.
        is_asked: Whether the claim needs it to be sure; else it only must not surely go the other
            way.
    """

    gains: Any
    is_asked: bool = True


@dataclass(frozen=True)
class Interval:
    """One part of a claim whose figure is of all pictures together.

    Attributes:
        value: Above zero where it goes as the claim says.
        low: Lower end of its 95 % interval.
        high: Upper end.
        is_asked: As for `Gains`.
    """

    value: float
    low: float
    high: float
    is_asked: bool = True


def told(
    parts: Mapping[str, Gains],
    words: str,
    *,
    unit: str = "points",
    scale: float = 100.0,
) -> Told:
    """The verdict by Wilcoxon's test, with its numbers; where it is open, how many would tell.

    Args:
        parts: By name, as the page lists them.
        words: What was measured, a sentence.
        unit: Of the means that are listed.
        scale: From gains to that unit.
    """
    known = {}
    for name, part in parts.items():
        gains = np.asarray(part.gains, np.float64)
        known[name] = gains[np.isfinite(gains)]
    if not known or not all(map(len, known.values())):
        missing = [name for name, gains in known.items() if not len(gains)]
        return None, f"{words} There are 0 pictures for {', '.join(missing) or 'it'}."
    wilcoxon = [compare({"gains": gains, "none": np.zeros_like(gains)}) for gains in known.values()]
    p = holm(np.array([min(each.p for each in found.contenders) for found in wilcoxon]))
    signs = {
        name: int(np.sign(gains.mean())) if sure < LEVEL else 0
        for (name, gains), sure in zip(known.items(), p, strict=True)
    }
    means = ", ".join(
        f"{name} {scale * float(gains.mean()):+.3g}{'' if signs[name] else ' (not sure)'}"
        for name, gains in known.items()
    )
    n = min(map(len, known.values()))
    words = f"{words} In {unit}: {means}. {n} pictures, Wilcoxon's test, Holm, 5 %."
    needed = {}  # pictures of which a test of 5 % finds such differences four times in five
    for name, gains in known.items():
        size = abs(float(gains.mean())) / max(float(gains.std()), 1e-12)
        needed[name] = round((_POWER / max(size, 1e-3)) ** 2)
    return _verdict(parts, signs, n, words, needed)


def told_by_intervals(parts: Mapping[str, Interval], n: int, words: str) -> Told:
    """The verdict by 95 % intervals over pictures, with its numbers.

    Args:
        parts: By name, as the page lists them; in shares, which are listed in points.
        n: Pictures.
        words: What was measured, a sentence.
    """
    signs = {name: (part.low > 0) - (part.high < 0) for name, part in parts.items()}
    means = ", ".join(
        f"{name} {100 * part.value + 0.0:+.1f} "  # no negative zero
        f"({100 * part.low + 0.0:+.1f} to {100 * part.high + 0.0:+.1f})"
        for name, part in parts.items()
    )
    words = f"{words} In points, with 95 % intervals: {means or 'none'}. {n} pictures."
    needed = {}
    for name, part in parts.items():
        reach = (part.high - part.low) / 2
        ratio = reach / max(abs(part.value), 1e-3)
        needed[name] = round(n * max(ratio, 1.0) ** 2)
    return _verdict(parts, signs, n, words, needed)


def too_few(n: int, words: str) -> Told:
    """That nothing can be told of a handful of pictures, and what was measured on them."""
    return None, f"{n} pictures are too few to tell ({FEWEST} at least). {words}"


def _verdict(
    parts: Mapping[str, Gains] | Mapping[str, Interval],
    signs: Mapping[str, int],
    n: int,
    words: str,
    needed: Mapping[str, int],
) -> Told:
    against = [name for name, sign in signs.items() if sign < 0]
    undecided = [name for name, sign in signs.items() if sign == 0 and parts[name].is_asked]
    if not parts or n < FEWEST:
        return too_few(n, words)
    if against:
        return False, f"Against it: {', '.join(against)}. {words}"
    if not undecided:
        return True, words
    most = max(n + 1, *(needed[name] for name in undecided))
    enough = f"about {most}" if most <= _MOST else f"more than {_MOST}"
    return None, f"Open: {', '.join(undecided)}; {enough} pictures would tell. {words}"
