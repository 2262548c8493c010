"""Which scores do not differ from the best: paired over images, corrected for their number.

Scores of several contenders on the same images in; for each how far it is from the best, the
probability of that by chance, and the size of the effect out. Bold print alone says none of this.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from naspix.errors import InputError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Scores = Float[Tensor, " B"] | Float[np.ndarray, " B"]


@dataclass(frozen=True)
class Contender:
    """One contender beside the best.

    Attributes:
        name: As given.
        mean: Of its scores, over the images that all contenders have.
        difference: The mean of its score less the best's, image by image.
        p: Two-sided probability of ranks as uneven by chance; 1 for the best itself.
        p_holm: The same, corrected by Holm for the number of comparisons.
        differs: Whether ``p_holm`` is below the level.
        rank_biserial: -1 to 1: the share of the ranks of differences that favour it, less the share
            that favours the best; 0 where they balance.
        cohens_d: Mean of the differences in units of their standard deviation; 0 where there is
            none.
    """

    name: str
    mean: float
    difference: float
    p: float
    p_holm: float
    differs: bool
    rank_biserial: float
    cohens_d: float


@dataclass(frozen=True)
class Comparison:
    """All contenders beside the best.

    Attributes:
        best: The one with the best mean.
        contenders: In the order given.
        n_images: On which they were compared: those where every contender has a score.
        level: Of the test.
    """

    best: str
    contenders: tuple[Contender, ...]
    n_images: int
    level: float

    @property
    def as_good_as_best(self) -> tuple[str, ...]:
        """The best, and those that cannot be told from it at this level: for bold print."""
        return tuple(each.name for each in self.contenders if not each.differs)

    def plot(self, ax: "Axes | None" = None) -> "Axes":
        """Draw each contender's mean; a star marks the best and what is not told from it.

        Args:
            ax: Where to draw; on a figure of its own by default.
        """
        from naspix import plots

        names = [f"{one.name}{'*' * (not one.differs)}" for one in self.contenders]
        means = [one.mean for one in self.contenders]
        return plots.draw_bars({"mean score": means}, names, ax, ylabel="mean score")

    def __repr__(self) -> str:
        good = ", ".join(self.as_good_as_best)
        return (
            f"Comparison(best: {self.best}, not told from it: {good}; {len(self.contenders)} "
            f"contenders on {self.n_images} images)"
        )


def compare(
    scores: Mapping[str, Scores], *, higher_is_better: bool = True, level: float = 0.05
) -> Comparison:
    """Compare contenders with the best of them by Wilcoxon's signed-rank test.

    Not to differ is no proof of being equal: with few images nothing differs. That the best was
    chosen on the same images makes the test a little too ready to find differences.

    Args:
        scores: Of each contender, one an image, in the same order; NaN where it has none.
        higher_is_better: Which end is best.
        level: Below which corrected probability two differ.

    Raises:
        InputError: Fewer than two contenders, different numbers of images, or none in common.

    Source:
        Wilcoxon 1945, zero differences as Pratt 1959 has them; Holm 1979; Kerby 2014 for the
        rank-biserial correlation. The paper's table 2 marks
        what does not differ from the best of a method's three, and does not name its test.

    Example:
        >>> a = torch.linspace(0, 1, 20)
        >>> found = compare({"a": a, "b": a - 0.1, "c": a + 0.001 * (-1) ** torch.arange(20)})
        >>> found.as_good_as_best
        ('a', 'c')
    """
    names = list(scores)
    if len(names) < 2:
        raise InputError("give the scores of at least two contenders to compare")
    table = [np.asarray(torch.as_tensor(scores[name]).cpu(), np.float64) for name in names]
    lengths = {name: each.shape for name, each in zip(names, table, strict=True)}
    if len(set(lengths.values())) > 1:
        raise InputError(f"contenders must have scores of the same images, but have {lengths}")
    values = np.stack(table)
    values = values[:, np.isfinite(values).all(0)]
    if values.shape[1] == 0:
        raise InputError("there is no image on which all contenders have a score")
    means = values.mean(1)
    best = int(means.argmax() if higher_is_better else means.argmin())
    differences = values - values[best]
    p = np.array([_wilcoxon(row) for row in differences])
    others = [i for i in range(len(names)) if i != best]
    corrected = np.ones(len(names))
    corrected[others] = holm(p[others])
    contenders = tuple(
        Contender(
            name=name,
            mean=float(means[i]),
            difference=float(differences[i].mean()),
            p=float(p[i]),
            p_holm=float(corrected[i]),
            differs=bool(corrected[i] < level),
            rank_biserial=_rank_biserial(differences[i]) * (1 if higher_is_better else -1),
            cohens_d=_cohens_d(differences[i]),
        )
        for i, name in enumerate(names)
    )
    return Comparison(names[best], contenders, values.shape[1], level)


def holm(p: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    """Probabilities corrected for their number.

    Example:
        >>> holm(np.array([0.01, 0.04, 0.03])).tolist()
        [0.03, 0.06, 0.06]
    """
    order = np.argsort(p, kind="stable")
    factors = np.arange(len(p), 0, -1)
    corrected = np.empty_like(p)
    corrected[order] = np.minimum(np.maximum.accumulate(p[order] * factors), 1)
    return corrected


def _wilcoxon(differences: Float[np.ndarray, " n"]) -> float:
    from scipy.stats import wilcoxon

    if not differences.any():
        return 1.0
    return float(wilcoxon(differences, zero_method="pratt").pvalue)


def _rank_biserial(differences: Float[np.ndarray, " n"]) -> float:
    from scipy.stats import rankdata

    ranks = rankdata(np.abs(differences)) * (differences != 0)
    total = ranks.sum()
    return float((ranks * np.sign(differences)).sum() / total) if total else 0.0


def _cohens_d(differences: Float[np.ndarray, " n"]) -> float:
    spread = differences.std(ddof=1) if len(differences) > 1 else 0.0
    return float(differences.mean() / spread) if spread else 0.0
