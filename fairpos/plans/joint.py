"""JointRank's plan: overlapping blocks, all asked at once; the pairs that they rank become one order.

Dedov, "JointRank: Rank Large Set with Single Pass", arXiv 2506.22262. Each item stands in equally many blocks. Unlike
the published designs: every replicate is dealt so that the items of one block meet as evenly many others as they can in
the next.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import TypeAlias

from fairpos.aggregate.rankings import Aggregate
from fairpos.plans.base import Places, Plan, Window, deal

Aggregator: TypeAlias = Callable[[list[Places], int], Aggregate]


def joint(n: int, size: int, replicates: int, seed: int, aggregate: Aggregator) -> Plan:
    """One round of blocks.

    Args:
        n: Number of items, at least 1.
        size: Items in a block, at least 2.
        replicates: In how many blocks each item stands, at least 1; in one where all fit into it.
        seed: Of the design.
        aggregate: (rankings, n) -> one order; items that no ranking has count as equal there, and are left out here.
    """
    rankings = yield blocks(n, size, replicates, seed)
    found = [places for places in rankings if places]
    ranked = {item for places in found for group in places for item in group}
    if not found:
        return ()
    merged = (tuple(item for item in group if item in ranked) for group in aggregate(found, n).places)
    return tuple(filter(None, merged))


def blocks(n: int, size: int, replicates: int, seed: int) -> list[Window]:
    """The design: every item once in the blocks of each replicate; sizes differ by at most 1."""
    if n <= size:
        return [tuple(range(n))]
    draw = random.Random(seed)
    order, design = list(range(n)), list[Window]()
    for _ in range(replicates):
        dealt = deal(order, size)
        design += dealt
        # Whoever was in one block stands together now, and is dealt to different ones.
        order = [item for block in dealt for item in draw.sample(block, len(block))]
    return design
