"""The best linear order of a few items, by dynamic programming over subsets (Held and Karp's scheme)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def subset_dp(cost: NDArray[np.int64]) -> list[int]:
    """An order of least cost; of several, the first in lexicographic order.

    Args:
        cost: (c, c); [i, j] is paid where j stands before i. c is small: memory and time grow as c 2^c.

    Returns:
        The numbers 0..c-1, best first.
    """
    c = len(cost)
    subsets = np.arange(1 << c)
    sizes = np.bitwise_count(subsets)
    # ahead[i, S]: what is paid if i stands before all of S.
    ahead = np.zeros((c, 1 << c), dtype=np.int64)
    for j in range(c):
        # Subsets whose highest member is j: their sum is that of the rest and j's part.
        block = slice(1 << j, 2 << j)
        ahead[:, block] = ahead[:, : 1 << j] + cost[j][:, None]
    best = np.zeros(1 << c, dtype=np.int64)
    first = np.zeros(1 << c, dtype=np.int64)
    for size in range(1, c + 1):
        layer = subsets[sizes == size]
        options = np.full((c, len(layer)), np.iinfo(np.int64).max)
        for i in range(c):
            inside = layer & (1 << i) != 0
            rest = layer[inside] ^ (1 << i)
            options[i, inside] = ahead[i, rest] + best[rest]
        first[layer] = options.argmin(axis=0)  # the smallest number among equals
        best[layer] = options.min(axis=0)
    order, left = [], (1 << c) - 1
    while left:
        order.append(int(first[left]))
        left ^= 1 << order[-1]
    return order
