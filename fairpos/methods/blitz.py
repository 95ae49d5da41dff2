"""BlitzRank: what follows from a window's ranking is never asked again.

Agrawal et al., arXiv 2602.05448; the plan and what differs from the published one is in `fairpos/plans/blitz.py`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from fairpos.methods.base import register
from fairpos.methods.long_lists import LongList
from fairpos.options import option
from fairpos.plans.base import Plan
from fairpos.plans.blitz import Cycles, blitz


@register
@dataclass(frozen=True)
class Blitz(LongList):
    """Ranks long lists by windows of those that are still undecided; put the method against position bias inside.

    Every window tells all of its pairs apart; what follows from that by transitivity counts as known. The next window
    takes one of each group that isn't settled, fewest known losses first. Segments in a cycle of preferences aren't
    told apart any further. Stops when the best `top` are settled against all others; what stands below them is in the
    order of known losses, which is rough. With an order-free method inside (`blitz+permutation`), the result is the
    same for every input order.

    COST: 100 segments in windows of 20, best 10: 6 to 7 windows, one after the other, where `windows` has 9. Requests
    run together. docs/ranking.md has calls, tokens and rounds.
    HURTS: a pair is asked hardly more than once and believed for good, with all that follows from it, where `windows`
    compares again. One wrong pair of a noisy ranker joins long cycles, which end the asking early: with cycles=tie the
    best ten vanish in one tie (nDCG@10 .58 where `windows` has .92), and by wins some of them are still lost (.88).

    Attributes:
        size: Segments in a window, at least 2.
        top: How many of the best shall be settled; 0: all.
        cycles: What segments are that the windows put in a circle: in the order of "wins", the share that each won of
            the comparisons among them, where equal shares are a tie; or all of them one "tie", as published.
    """

    name: ClassVar[str] = "blitz"
    summary: ClassVar[str] = "ranks long lists by windows of what is still undecided"
    source: ClassVar[str] = "BlitzRank, arXiv 2602.05448"
    size: int = option(20, minimum=2)
    top: int = option(10, minimum=0)
    cycles: Cycles = "wins"

    def plan(self, count: int) -> Plan:
        """See `fairpos.plans.blitz`."""
        return blitz(count, self.size, self.top or count, self.cycles)
