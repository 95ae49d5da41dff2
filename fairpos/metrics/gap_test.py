"""Whether a gap between positions, or between groups of items, is more than chance: permutation tests."""

from __future__ import annotations

from collections.abc import Sequence
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


def group_gap_test(scores: npt.ArrayLike, groups: Sequence[int], *, permutations: int = 1000, seed: int = 0) -> GapTest:
    """Whether groups of DIFFERENT items score unalike by more than chance: items change groups, which keep their sizes.

    Unlike `position_gap_test`, where every item stands at every position, the items of a group may be easier for other
    reasons than what the group is about.

    COST: `permutations` shuffles of the scores.

    Args:
        scores: One an item, (n,).
        groups: The number of each item's group, from 0; groups without an item don't count.
        permutations: At least 1.
        seed: Of the shuffles.

    Raises:
        InvalidRequest: no items, or lists of different lengths.
    """
    values, numbers = np.asarray(scores, dtype=float), np.asarray(groups, dtype=int)
    if values.ndim != 1 or values.shape != numbers.shape or not len(values) or permutations < 1:
        raise InvalidRequest(
            f"needs a score and a group of each of at least 1 item, and at least 1 permutation; got shapes "
            f"{values.shape} and {numbers.shape}, {permutations}"
        )
    kept, members = np.unique(numbers, return_inverse=True)
    sizes = np.bincount(members)
    draw = np.random.default_rng(seed)

    def gap_of(order: npt.NDArray[np.float64]) -> float:
        means = np.bincount(members, weights=order, minlength=len(kept)) / sizes
        return float(means.max() - means.min())

    observed = gap_of(values)
    shuffled = np.array([gap_of(draw.permutation(values)) for _ in range(permutations)])
    reached = int((shuffled >= observed - 1e-12).sum())
    return GapTest(observed, float(shuffled.mean()), (reached + 1) / (permutations + 1))
