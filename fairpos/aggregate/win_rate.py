"""Win rate: of all comparisons that an item took part in, the share that it won."""

from __future__ import annotations

import numpy as np

from fairpos.aggregate.rankings import Aggregate, Rankings, Unranked, best_first, checked, pairwise


def win_rate(rankings: Rankings, n: int, *, unranked: Unranked = "ignore") -> Aggregate:
    """Wins by comparisons, for rankings of different parts of the items; a tie is half a win.

    COST: none to speak of.
    HURTS: whoever happened to meet strong items; `rank_centrality` asks whom the wins were against.

    Args:
        rankings: Item numbers, best first, tied ones as a list within; each may leave items out.
        n: Number of items.
        unranked: What leaving an item out says of it; here by default nothing.

    Returns:
        Scores in [0, 1], 0.5 for an item that was never compared; equal items share a place.

    Raises:
        InvalidRequest, InvalidOption: see `checked`.
    """
    found = checked(rankings, n, unranked)
    wins = pairwise(found, n, unranked)
    met = np.zeros((n, n))
    for places in found:
        items = list(range(n)) if unranked == "last" else [item for place in places for item in place]
        met[np.ix_(items, items)] += 1
    np.fill_diagonal(met, 0)
    won = (wins + (met - wins - wins.T) / 2).sum(axis=1)
    compared = met.sum(axis=1)
    scores = np.divide(won, compared, out=np.full(n, 0.5), where=compared > 0)
    return best_first(n, [round(float(score), 12) for score in scores])
