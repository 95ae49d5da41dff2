"""How finely a backend tells log-probabilities apart: what differs by less is equal, and a tie is nobody's win.

Rounding keeps an order, so two values of ONE reply that differ are different. It is means over several replies, and
sums over a label's spellings, in which rounding can put either of two equals in front.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from decimal import Decimal

# What sums over a hidden state come to in single precision when they run in another order.
SINGLE = 1e-5
_FEWEST = 3  # numbers that tell how an endpoint rounds; two may be round by chance
_MOST_DECIMALS = 5  # from the sixth on, single precision is the coarser one


def of_epsilon(epsilon: float) -> float:
    """Of a local model: the epsilon of its dtype (bfloat16 .0078, float16 .001), and at least `SINGLE`.

    Args:
        epsilon: Relative distance of neighbouring numbers, `torch.finfo(dtype).eps`.
    """
    return max(epsilon, SINGLE)


def of_listed(log_probs: Iterable[float]) -> float:
    """Of an endpoint, from the log-probabilities that one reply lists: half a step of what it rounds to.

    Args:
        log_probs: All that are listed; 0, whole numbers and what isn't finite say nothing.

    Returns:
        Half a unit of the last decimal that any of them has, where they have up to 5; else `SINGLE`.
    """
    values = [value for value in log_probs if math.isfinite(value) and value != int(value)]
    decimals = max((_count_decimals(value) for value in values), default=_MOST_DECIMALS + 1)
    if len(values) < _FEWEST or decimals > _MOST_DECIMALS:
        return SINGLE
    return max(SINGLE, 0.5 * 10.0**-decimals)


def _count_decimals(value: float) -> int:
    exponent = Decimal(repr(value)).as_tuple().exponent
    return -exponent if isinstance(exponent, int) else 0
