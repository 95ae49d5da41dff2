"""Intervals of means whose values are bounded: they keep a width where every item said the same."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from fairpos.errors import InvalidRequest
from fairpos.metrics.bootstrap import Array, Interval
from fairpos.metrics.clustered_rate import clustered_rate

# Rounding of a mean of several values, which may leave it outside of its bounds.
_ROUNDING = 1e-9


def bounded_mean(values: npt.ArrayLike, *, level: float = 0.95) -> Interval:
    """The mean of one value in [0, 1] per item, such as an accuracy averaged over orders, or an nDCG.

    Wilson's interval with the number of observations that the spread of the values is worth; see `clustered_rate`, in
    which every item is a cluster of one. A bootstrap has no width where all items agree, and too little below some 20.

    COST: nothing.
    HURTS: values near one inner point ([.5, .5, ...]) are taken for 4 observations an item at most: it is too wide.

    Args:
        values: (n,), n at least 1.
        level: Coverage, in (0, 1).

    Raises:
        InvalidRequest: no values, or one outside of [0, 1].
    """
    checked = _check_values(values, 0.0)
    return clustered_rate(checked.tolist(), np.ones(len(checked)).tolist(), level=level)


def bounded_difference(differences: npt.ArrayLike, *, level: float = 0.95) -> Interval:
    """The mean of one difference in [-1, 1] per item, as between two methods on the same items: PAIRED.

    The positive and the negative part each have the interval of `bounded_mean`; the two become one by the square roots
    of their squared distances, with the parts' correlation (MOVER: Zou and Donner, Statistics in
    Medicine 27, 2008). A hundred items without any difference don't prove that there is none: 0 (-.04 to .04).

    COST: nothing.
    HURTS: the largest difference seen is taken for the largest that there is; of some 20 items, of which one in twelve
    differs five times as much as all others, it covers .86 and not .95 (as Student's does).

    Args:
        differences: (n,), n at least 1.
        level: Coverage, in (0, 1).

    Raises:
        InvalidRequest: no values, or one outside of [-1, 1].
    """
    checked = _check_values(differences, -1.0)
    largest = float(np.abs(checked).max()) or 1.0
    positive, negative = np.maximum(checked, 0), np.maximum(-checked, 0)
    up, down = (bounded_mean(part / largest, level=level) for part in (positive, negative))
    p, q = up.estimate, down.estimate
    # Where one part is, the other isn't, so that the mean of their product is 0.
    spread = float(positive.std() * negative.std()) / largest**2
    correlation = max(-1.0, -p * q / spread) if spread else 0.0
    below = _distance(p - up.low, down.high - q, correlation)
    above = _distance(up.high - p, q - down.low, correlation)
    bounds = np.clip([p - q - below, p - q + above], -1.0, 1.0) * largest
    return Interval((p - q) * largest, float(bounds[0]), float(bounds[1]))


def _distance(first: float, second: float, correlation: float) -> float:
    return math.sqrt(max(0.0, first**2 + second**2 - 2 * correlation * first * second))


def _check_values(values: npt.ArrayLike, low: float) -> Array:
    checked = np.asarray(values, dtype=float)
    if checked.ndim != 1 or not len(checked):
        raise InvalidRequest(f"needs a list of at least 1 value, got shape {checked.shape}")
    if not ((checked >= low - _ROUNDING) & (checked <= 1 + _ROUNDING)).all():
        raise InvalidRequest(f"values must be in [{low:g}, 1], got {checked.min():g} to {checked.max():g}")
    return np.asarray(checked.clip(low, 1.0))
