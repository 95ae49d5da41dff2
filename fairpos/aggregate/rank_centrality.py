"""Rank centrality: where a random walk that goes from losers to winners spends its time.

Negahban, Oh and Shah, "Rank Centrality: Ranking from Pairwise Comparisons", arXiv 1209.1688.
"""

from __future__ import annotations

import numpy as np

from fairpos.aggregate.rankings import Aggregate, Rankings, Unranked, best_first, checked, pairwise


def rank_centrality(rankings: Rankings, n: int, *, unranked: Unranked = "ignore") -> Aggregate:
    """Scores of a Markov chain: a win against somebody strong counts for more than one against somebody weak.

    From each item the walk goes to each that it was compared with, by the share of their comparisons that the other
    won; half a win more is given to both of such a pair, so that a winner of all isn't a trap.

    COST: a linear system of n unknowns.
    HURTS: on few comparisons it is noisier than the win rate; groups of items that never met can't be compared, and
        share the time by their sizes.

    Args:
        rankings: Item numbers, best first, tied ones as a list within; each may leave items out.
        n: Number of items.
        unranked: What leaving an item out says of it; here by default nothing.

    Returns:
        Scores are shares of the walk's time; equal items share a place.

    Raises:
        InvalidRequest, InvalidOption: see `checked`.
    """
    wins = pairwise(checked(rankings, n, unranked), n, unranked).astype(float)
    met = wins + wins.T > 0
    lost = np.where(met, (wins.T + 0.5) / (wins + wins.T + 1), 0.0)  # [i, j]: the share that j won of i
    step = lost / max(1, met.sum(axis=1).max())
    np.fill_diagonal(step, 1 - step.sum(axis=1))
    system = np.vstack([step.T - np.eye(n), np.ones(n)])
    stationary = np.linalg.lstsq(system, np.append(np.zeros(n), 1.0), rcond=None)[0]
    return best_first(n, [round(float(score), 12) for score in stationary])
