"""Rank aggregation: pure functions, one a file.

    fairpos.aggregate.kemeny([[2, 0, 1], [0, 2]], n=3).order

Items are numbered 0 to n - 1; rankings list them best first, may leave items out, and may tie some: [2, [0, 1]].
"""

from fairpos.aggregate.borda import borda
from fairpos.aggregate.entropy_weighted import entropy_weighted
from fairpos.aggregate.kemeny import Kemeny, kemeny
from fairpos.aggregate.majority import majority
from fairpos.aggregate.mean_log_prob import mean_log_prob
from fairpos.aggregate.rank_centrality import rank_centrality
from fairpos.aggregate.rankings import Aggregate
from fairpos.aggregate.rrf import rrf
from fairpos.aggregate.win_rate import win_rate

__all__ = [
    "Aggregate",
    "Kemeny",
    "borda",
    "entropy_weighted",
    "kemeny",
    "majority",
    "mean_log_prob",
    "rank_centrality",
    "rrf",
    "win_rate",
]
