"""Whether a gap between positions is more than chance: a permutation test within items."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fairpos.errors import InvalidRequest
from fairpos.metrics.by_position import gap

_CELLS = 4_000_000  # of shuffled values held at once


@dataclass(frozen=True, slots=True)
class GapTest:
    """A gap beside what chance gives.

    Attributes:
        gap: Observed, best position minus worst.
        by_chance: The mean gap if position did not matter at all.
        p: Share of the permutations with at least the observed gap, that one counted in.
    """

    gap: float
    by_chance: float
    p: float


def position_gap_test(table: npt.ArrayLike, *, permutations: int = 1000, seed: int = 0) -> GapTest:
    """If position did not matter, each item's scores could have stood at its positions in any order.

    So they are shuffled within every item, again and again, and the observed gap is compared with those gaps (a
    randomised block permutation test; Pitman 1938). It needs no model of the scores, and items stay paired.

    COST: `permutations` shuffles of the table.
    HURTS: with n items the smallest p is 1 / (permutations + 1).

    Args:
        table: Scores, (items, positions).
        permutations: At least 1.
        seed: Of the shuffles.
    """
    values = np.asarray(table, dtype=float)
    if values.ndim != 2 or permutations < 1:
        raise InvalidRequest(
            f"needs a table (items, positions) and at least 1 permutation, got {values.shape}, {permutations}"
        )
    draw = np.random.default_rng(seed)
    observed = float(gap(values))
    block = max(1, _CELLS // values.size)
    drawn = []
    for start in range(0, permutations, block):
        copies = np.broadcast_to(values, (min(block, permutations - start), *values.shape))
        drawn.append(gap(draw.permuted(copies, axis=-1)))
    shuffled = np.concatenate(drawn)
    reached = int((shuffled >= observed - 1e-12).sum())
    return GapTest(observed, float(shuffled.mean()), (reached + 1) / (permutations + 1))
