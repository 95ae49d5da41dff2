"""JointRank: overlapping blocks of a long list in one parallel round.

Dedov, arXiv 2506.22262; the plan and what differs from the published one is in `fairpos/plans/joint.py`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal, TypeAlias

from fairpos.aggregate import rank_centrality, win_rate
from fairpos.methods.base import register
from fairpos.methods.long_lists import LongList
from fairpos.options import option
from fairpos.plans.base import Plan
from fairpos.plans.joint import joint

Aggregation: TypeAlias = Literal["win_rate", "rank_centrality"]


@register
@dataclass(frozen=True)
class Joint(LongList):
    """Ranks long lists in overlapping blocks, all at once; put the method against position bias inside.

    Each segment stands in `replicates` blocks, with others each time; the pairs that the blocks rank become one order.
    With an order-free method inside (`joint+permutation`), the result is the same for every input order.

    COST: K * replicates / size windows in one single round: the least waiting of all long-list methods.
    HURTS: which segments meet is settled beforehand, so as many windows go to the end of the list as to its head, where
    it matters: the best ten are told apart less well than by `windows` or `blitz` at the same price. Blocks ask for
    whole rankings; a ranker that knows but the best one of a block says little here.

    Attributes:
        size: Segments in a block, at least 2.
        replicates: In how many blocks each segment stands; in one where all fit into it.
        aggregation: "win_rate" (of all comparisons, the share won) or "rank_centrality" (a win against the strong
            counts for more).
        seed: Of the blocks.
    """

    name: ClassVar[str] = "joint"
    summary: ClassVar[str] = "ranks long lists in overlapping blocks, all in one round"
    source: ClassVar[str] = "JointRank, arXiv 2506.22262"
    size: int = option(20, minimum=2)
    replicates: int = option(2, minimum=1, nature="calls")
    aggregation: Aggregation = "win_rate"
    seed: int = 0

    def plan(self, count: int) -> Plan:
        """See `fairpos.plans.joint`."""
        aggregate = {"win_rate": win_rate, "rank_centrality": rank_centrality}[self.aggregation]
        return joint(count, self.size, self.replicates, self.seed, aggregate)
