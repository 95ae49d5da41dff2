"""Accuracy by the position of the gold segment, and what is read off that curve.

Every function takes a table (..., items, positions) of scores in [0, 1]: what came of an item when its gold segment
stood at that position. The last two axes are reduced, so that each of them is a statistic for `bootstrap_interval`.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from fairpos.errors import InvalidRequest
from fairpos.metrics.bootstrap import Array


def accuracy_by_position(table: npt.ArrayLike) -> Array:
    """Mean score at each position, (..., positions)."""
    values = np.asarray(table, dtype=float)
    if values.ndim < 2 or 0 in values.shape[-2:]:
        raise InvalidRequest(f"needs a table (items, positions) with at least 1 of each, got shape {values.shape}")
    return np.asarray(values.mean(axis=-2))


def accuracy(table: npt.ArrayLike) -> Array:
    """The mean over positions: what to expect of an order that isn't known, and what methods are compared with."""
    return np.asarray(accuracy_by_position(table).mean(axis=-1))


def gap(table: npt.ArrayLike) -> Array:
    """Best position minus worst position. Never negative, so above 0 by chance too: see `position_gap_test`."""
    curve = accuracy_by_position(table)
    return np.asarray(curve.max(axis=-1) - curve.min(axis=-1))


def worst_position(table: npt.ArrayLike) -> Array:
    """Accuracy at the worst position: what a user can count on wherever the gold segment stands."""
    return np.asarray(accuracy_by_position(table).min(axis=-1))


def primacy(table: npt.ArrayLike) -> Array:
    """acc(first) - acc(middle); the middle is the mean over all positions but the first and the last.

    Raises:
        InvalidRequest: fewer than 3 positions have no middle.
    """
    curve = accuracy_by_position(table)
    return np.asarray(curve[..., 0] - _middle_of(curve))


def recency(table: npt.ArrayLike) -> Array:
    """acc(last) - acc(middle); as in `primacy`."""
    curve = accuracy_by_position(table)
    return np.asarray(curve[..., -1] - _middle_of(curve))


def _middle_of(curve: Array) -> Array:
    if curve.shape[-1] < 3:
        raise InvalidRequest(f"primacy and recency need at least 3 positions, got {curve.shape[-1]}")
    return np.asarray(curve[..., 1:-1].mean(axis=-1))
