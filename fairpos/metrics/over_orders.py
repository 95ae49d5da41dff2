"""Accuracy if the best, or the worst, order had been chosen for each item."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from fairpos.metrics.bootstrap import Array


def best_of_orders(table: npt.ArrayLike) -> Array:
    """Mean over items of the best score over orders: the share of items that SOME order solves.

    Args:
        table: Scores, (..., items, orders); the last two axes are reduced.
    """
    return np.asarray(np.asarray(table, dtype=float).max(axis=-1).mean(axis=-1))


def worst_of_orders(table: npt.ArrayLike) -> Array:
    """Mean over items of the worst score over orders: the share of items that EVERY order solves.

    Args:
        table: Scores, (..., items, orders); the last two axes are reduced.
    """
    return np.asarray(np.asarray(table, dtype=float).min(axis=-1).mean(axis=-1))
