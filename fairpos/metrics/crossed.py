"""Position and label bias as separate figures, from a design that crosses orders and labelings.

In a pair, X and Y are shown in both orders, and in each order with both labelings. A judge that always names the first
answer and one that always says "A" look the same in the usual swap, where the first answer is always A; crossed, the
two effects are orthogonal.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from fairpos.errors import InvalidRequest
from fairpos.metrics.bootstrap import Array


def position_effect(cells: npt.ArrayLike) -> Array:
    """How much standing first helps: half of what moving X from the second slot to the first adds to its value.

    Args:
        cells: Value of X against Y, shape (..., items, 2, 2), the last three axes reduced. [i, 0] has X first, [i, 1]
            X second; [i, :, 0] has X labelled with the first label, [i, :, 1] with the second. +1 where X wins, -1
            where Y wins, 0 for a tie; or X's log-probability minus Y's.

    Returns:
        Of verdicts: P(first wins) - P(second wins), in [-1, 1]: 1 always the first, -1 always the second. A judge that
        names the first with probability p and is fair otherwise has p. Of log-probabilities: half the shift, in nats.
    """
    values = _check_cells(cells)
    return np.asarray((values[..., 0, :] - values[..., 1, :]).mean(axis=(-2, -1)) / 2)


def label_effect(cells: npt.ArrayLike) -> Array:
    """How much the first label helps, whatever slot it stands in. Cells and range as in `position_effect`."""
    values = _check_cells(cells)
    return np.asarray((values[..., :, 0] - values[..., :, 1]).mean(axis=(-2, -1)) / 2)


def _check_cells(cells: npt.ArrayLike) -> Array:
    values = np.asarray(cells, dtype=float)
    if values.ndim < 3 or values.shape[-2:] != (2, 2) or values.shape[-3] == 0:
        raise InvalidRequest(f"needs cells of shape (items, 2 orders, 2 labelings), got {values.shape}")
    return values
