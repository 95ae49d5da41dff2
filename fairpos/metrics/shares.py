"""How often each slot, or each label, is picked, whatever stands there."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from fairpos.errors import InvalidRequest
from fairpos.metrics.bootstrap import Array


def pick_shares(picks: npt.ArrayLike, count: int) -> Array:
    """Share of the verdicts that went to each slot.

    With every candidate once in every slot (rotations), a model without position bias picks each slot equally often.

    Args:
        picks: Slot numbers from 0; -1 where nothing was picked. Any shape.
        count: Number of slots.

    Returns:
        (count,), summing to 1; all NaN where nothing was picked at all.
    """
    values = np.asarray(picks, dtype=int).ravel()
    if count < 1 or (values >= count).any() or (values < -1).any():
        raise InvalidRequest(f"picks must be in -1..{count - 1} for {count} slots, got {np.unique(values).tolist()}")
    picked = np.bincount(values[values >= 0], minlength=count).astype(float)
    total = picked.sum()
    return picked / total if total else np.full(count, np.nan)
