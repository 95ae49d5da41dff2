"""Position sensitivity: how much a score depends on where the relevant content stands."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from fairpos.errors import InvalidRequest
from fairpos.metrics.bootstrap import Array
from fairpos.metrics.kendall_tau import mean_pairwise_tau


def psi(scores: npt.ArrayLike) -> Array:
    """The Position Sensitivity Index (Zeng et al., arXiv 2505.13950): 1 - min / max of a group score.

    Args:
        scores: At least 0 each, shape (..., groups); a group holds the items whose relevant content stands at one
            position. The last axis is reduced.

    Returns:
        In [0, 1]; 0 where all groups score alike (all 0 too).
    """
    values = np.asarray(scores, dtype=float)
    if values.ndim == 0 or values.shape[-1] == 0 or (values < 0).any():
        raise InvalidRequest(f"PSI needs at least 1 group score, none below 0, got {values.tolist()!r}")
    top, low = values.max(axis=-1), values.min(axis=-1)
    return np.asarray(1.0 - np.divide(low, top, out=np.ones_like(top), where=top > 0))


def tau_psi(rankings: Sequence[Sequence[str]]) -> float:
    """tau-PSI: (1 - mean pairwise Kendall tau) / 2 of one item's rankings under several input orders.

    Args:
        rankings: Ids, best first, one ranking per input order; 10 to 20 orders are usual.

    Returns:
        In [0, 1]: 0 where every order gives the same ranking, about .5 where rankings are unrelated.
    """
    return (1.0 - mean_pairwise_tau(rankings)) / 2.0
