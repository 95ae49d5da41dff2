"""How many items it takes to tell a difference from none."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from scipy.stats import norm

from fairpos.errors import InvalidRequest


def items_needed(differences: npt.ArrayLike, *, level: float = 0.95, power: float = 0.8) -> int | None:
    """The number of items, in all, at which a paired difference as large as the one seen would be told from 0.

    n = ((z_{(1 + level) / 2} + z_power) * sd / mean)^2, the sample size of a paired z test (Cohen 1988), with the mean
    and standard deviation of the differences seen so far. An estimate from few items is itself rough.

    Args:
        differences: One per item, method minus reference, at least 2.
        level: Of the two-sided interval that must not hold 0.
        power: Probability of that, if the true difference is the one seen.

    Returns:
        None where the mean difference is 0: no number of items tells nothing from nothing.
    """
    values = np.asarray(differences, dtype=float)
    if values.ndim != 1 or len(values) < 2:
        raise InvalidRequest(f"needs at least 2 differences, got shape {values.shape}")
    if not (0 < level < 1 and 0 < power < 1):
        raise InvalidRequest(f"level and power must be in (0, 1), got {level} and {power}")
    centre, spread = float(values.mean()), float(values.std(ddof=1))
    if abs(centre) < 1e-12:
        return None
    z = float(norm.ppf((1 + level) / 2) + norm.ppf(power))
    return max(2, math.ceil((z * spread / centre) ** 2))
