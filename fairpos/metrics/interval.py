"""Wilson's interval: between which rates the true one lies, given how often something happened."""

from __future__ import annotations

import math

from fairpos.errors import InvalidRequest


def wilson_interval(successes: float, n: int, z: float = 1.959963984540054) -> tuple[float, float]:
    """The Wilson score interval of a proportion (Wilson 1927).

    Args:
        successes: How often it happened, 0 to n; parts count in parts, which widens the interval.
        n: Out of how many, at least 1.
        z: Quantile of the normal distribution; the default is for 95 %.

    Returns:
        Lower and upper bound, within [0, 1].

    Raises:
        InvalidRequest: n is below 1, or successes outside of [0, n].
    """
    if n < 1 or not 0 <= successes <= n:
        raise InvalidRequest(f"a proportion needs 0 <= successes <= n and n >= 1, got {successes} of {n}")
    p = successes / n
    centre = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return max(0.0, centre - half), min(1.0, centre + half)
