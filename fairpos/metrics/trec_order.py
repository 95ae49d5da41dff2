"""The order in which trec_eval reads a run."""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping


def trec_order(scores: Mapping[str, float]) -> tuple[str, ...]:
    """Documents by score, the largest first, as trec_eval ranks them whatever the run's rank column says.

    Scores are compared in single precision, and equal ones go by DESCENDING id: "d9" before "d10".

    Args:
        scores: By document.
    """
    return tuple(sorted(scores, key=lambda id: (single(scores[id]), id), reverse=True))


def single(value: float) -> float:
    """The number in single precision; too large a one is infinite."""
    try:
        found: float = struct.unpack("f", struct.pack("f", value))[0]
    except OverflowError:
        return math.copysign(math.inf, value)
    return found
