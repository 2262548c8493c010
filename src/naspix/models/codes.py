"""Which token lies on which cell of a grid, from how closely tokens follow changes of the image.

Two images of noise differ everywhere; of each further image some cells come from the one, the rest
from the other. Which cells is a binary code of their row and column (Gray's, in which neighbours
differ in one bit), so that a dozen images tell thousands of cells apart; coarser grids read the
code's higher bits, so that one batch serves all stages of a network. A token that lies on a cell
comes out closer to what it was in the image from which that cell is; these closenesses, one a bit,
are the token's signature.

An order of tokens is believed if the signatures of all tokens together bear it out, bit by bit, or
if each cell, without exception, is that of one token. Nothing is filled in. Knows no network.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

# of a cell: where windows overlap (3 x 3 at a stride of 2) a token's middle is its cell's corner,
# otherwise its cell's middle; cells moved by this contain both
_SHIFT = 0.25
_LEAST_AGREEMENT = 0.5  # correlation of signatures and codes by which an order is borne out
_MOST_BY_CHANCE = 0.9  # more is asked of no grid, however small
_LEAST_OF_A_BIT = 0.25  # the same for each bit that tells tokens apart as well as the best does
_LEAST_TOLD_APART = 0.7  # share of cells that are some token's, before looking for all
CLEARER = 0.02  # by how much more an order must agree than one that is likelier beforehand


def stripes(side: int, step: float) -> Float[Tensor, "bits side"]:
    """Which of two images each row of pixels comes from, 1 or -1, in one mixture after another."""
    cells = max(round(side / step), 2)
    numbers = (torch.arange(side) / step + _SHIFT).floor().long().clamp(0, cells - 1)
    numbers = numbers ^ (numbers >> 1)
    bits = range((cells - 1).bit_length())
    return torch.stack([((numbers >> bit) & 1).float() * 2 - 1 for bit in bits])


def mixtures(
    pair: Float[Tensor, "2 C H W"], patterns: Sequence[Tensor]
) -> Float[Tensor, "images C H W"]:
    """The two images, then for each bit one made of both."""
    rows, columns = (each.to(pair.device) > 0 for each in patterns)
    of_rows = torch.where(rows[:, None, :, None], pair[1], pair[0])
    of_columns = torch.where(columns[:, None, None, :], pair[1], pair[0])
    return torch.cat([pair, of_rows, of_columns])


def signatures_of(sketches: Float[Tensor, "images N few"]) -> Float[Tensor, "N bits"]:
    """Of each token and bit, how much closer it is to what it was in the one image, -1 to 1."""
    zero, one = ((sketches[2:] - end).square().sum(2).sqrt() for end in sketches[:2])
    closer: Tensor = (zero - one) / (zero + one).clamp_min(1e-12)
    return closer.T.nan_to_num().cpu()


class Codes(NamedTuple):
    """Each row's and column's code: how much of it is of the one image, from -1 to 1, a bit.

    Mixtures finer than the cells do not tell them apart and are left out; ``bits`` are the others'.
    """

    rows: Float[Tensor, "h bits_of_rows"]
    columns: Float[Tensor, "w bits_of_columns"]
    bits: Bool[Tensor, " bits"]

    @classmethod
    def of(
        cls,
        size: tuple[int, int],
        step: tuple[float, float],
        stripes: Sequence[Tensor],
    ) -> "Codes":
        """What stripes of pixels are in rows and columns of so many cells of so many pixels."""
        means = []
        for pattern, n, pixels in zip(stripes, size, step, strict=True):
            sums = nn.functional.pad(pattern.double().cumsum(1), (1, 0))
            starts = (torch.arange(n) - _SHIFT) * pixels
            first = starts.round().long().clamp(0, pattern.shape[1] - 1)
            last = (starts + pixels).round().long().clamp(max=pattern.shape[1])
            last = torch.maximum(last, first + 1)
            means.append(((sums[:, last] - sums[:, first]) / (last - first)).T.float())
        telling = [each.std(0, correction=0) > _LEAST_OF_A_BIT for each in means]
        rows, columns = (each[:, some] for each, some in zip(means, telling, strict=True))
        return cls(rows, columns, torch.cat(telling))

    def of_cells(self) -> Float[Tensor, "cells bits"]:
        """Of each cell, row by row."""
        h, w = len(self.rows), len(self.columns)
        both = self.rows[:, None].expand(-1, w, -1), self.columns[None].expand(h, -1, -1)
        return torch.cat(both, 2).flatten(0, 1)


def find_order(
    signature: Float[Tensor, "N bits"],
    codes: Codes,
    known: Mapping[tuple[int, ...], Float[Tensor, "cells bits"]] | None = None,
    *,
    straight: bool = False,
) -> tuple[int, ...] | None:
    """Which token lies on each cell of the grid, row by row; None where it cannot be told.

    Args:
        signature: Of each token; tokens may be more than cells.
        codes: The cells'.
        known: Orders shown nearer to the image, and the signatures of its tokens there.
        straight: Whether the order is row by row or none.
    """
    known = known or {}
    cells, n = codes.of_cells(), len(signature)
    if n < len(cells):
        return None
    best: tuple[float, tuple[int, ...]] | None = None
    for order in dict.fromkeys((*known, _run_of(signature, cells))):
        if is_borne_out(signature[list(order)], codes):
            agreement = agreement_with(signature[list(order)], codes)
            if best is None or agreement > best[0] + CLEARER:
                best = agreement, order
    if best is not None or straight:
        return None if best is None else best[1]
    if _told_apart(signature, codes) < _LEAST_TOLD_APART * len(cells):
        return None
    for reference in (*known.values(), cells):
        found = _one_each(signature, reference)
        if found is not None and is_borne_out(signature[list(found)], codes):
            return found
    return None


def _told_apart(signature: Float[Tensor, "N bits"], codes: Codes) -> int:
    """How many cells are that of a token, by the nearest code."""
    bits = codes.rows.shape[1]
    rows = torch.cdist(signature[:, :bits], codes.rows).argmin(1)
    columns = torch.cdist(signature[:, bits:], codes.columns).argmin(1)
    return len((rows * len(codes.columns) + columns).unique())


def is_borne_out(signature: Float[Tensor, "cells bits"], codes: Codes) -> bool:
    """Whether tokens in this order agree with the codes of rows and of columns, bit by bit."""
    correlations, spreads = _correlations(signature, codes)
    clear = spreads >= spreads.max() / 2
    if not len(clear) or bool((correlations[clear] < _LEAST_OF_A_BIT).any()):
        return False
    by_chance = 3 / max(signature.numel(), 1) ** 0.5  # of four tokens much is
    least = max(_LEAST_AGREEMENT, min(float(by_chance), _MOST_BY_CHANCE))
    return agreement_with(signature, codes) >= least


def agreement_with(signature: Float[Tensor, "cells bits"], codes: Codes) -> float:
    """The correlation of signatures and codes, of rows or of columns, whichever is less."""
    correlations, spreads = _correlations(signature, codes)
    n_rows = codes.rows.shape[1]
    least = 1.0
    for some in (slice(n_rows), slice(n_rows, None)):
        weights = spreads[some].square()
        if len(weights):
            mean = (correlations[some] * weights).sum() / weights.sum().clamp_min(1e-12)
            least = min(least, float(mean))
    return least


def _correlations(
    signature: Float[Tensor, "cells bits"], codes: Codes
) -> tuple[Float[Tensor, " bits"], Float[Tensor, " bits"]]:
    """Of each bit: its correlation, and the spread of the signatures."""
    cells = codes.of_cells()
    cells, signature = cells - cells.mean(0), signature - signature.mean(0)
    spreads = signature.std(0, correction=0)
    scale = (spreads * cells.std(0, correction=0)).clamp_min(1e-12)
    return (signature * cells).mean(0) / scale, spreads


def _run_of(
    signature: Float[Tensor, "N bits"], cells: Float[Tensor, "cells bits"]
) -> tuple[int, ...]:
    """Cells row by row, with all other tokens in one place: where most tokens agree."""
    n, extra = len(cells), len(signature) - len(cells)
    before = (signature[:n] * cells).sum(1).cumsum(0)
    after = (signature[extra:] * cells).sum(1).flip(0).cumsum(0).flip(0)
    zero = before.new_zeros(1)
    agreeing = torch.cat([zero, before]) + torch.cat([after, zero])
    start = int(agreeing.argmax()) if extra else n
    return (*range(start), *range(start + extra, n + extra))


def _one_each(
    signature: Float[Tensor, "N bits"], reference: Float[Tensor, "cells bits"]
) -> tuple[int, ...] | None:
    """The token nearest to each cell, if each cell has one and no other token comes close."""
    distances, nearest = torch.cdist(signature, reference).min(1)
    claims: dict[int, int] = {}
    for token in distances.argsort(descending=True).tolist():  # the nearest token last
        cell = int(nearest[token])
        rival = claims.get(cell)
        if rival is not None and distances[rival] < 2 * distances[token] + 1e-6:
            return None
        claims[cell] = token
    return (
        tuple(claims[cell] for cell in range(len(reference)))
        if len(claims) == len(reference)
        else None
    )
