"""The interval of a rate whose observations come in clusters: several games on one question are not independent."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from scipy import stats

from fairpos.errors import InvalidRequest
from fairpos.metrics.bootstrap import Interval

# A table of ties alone has no spread at all, which a few clusters can't prove: never more than so many times its size.
_MOST = 4.0
_AGREEING = 2  # clusters that are thought added


def clustered_rate(points: Sequence[float], sizes: Sequence[float], *, level: float = 0.95) -> Interval:
    """A Wilson interval with the effective number of observations, taken from the spread between clusters.

    n_eff = p (1 - p) / var(p), with the cluster-robust variance of a ratio (linearised) and Student's quantile of the
    clusters: Korn and Graubard, Survey Methodology 24 (1998), with Wilson's interval in place of the exact one. Where
    the rate is near 0 or 1, few clusters differ from the rest, and say little of how much observations of one cluster
    agree: two clusters that agree wholly are thought added to the spread, as Agresti and Coull (1998) add two successes
    and two failures. At 0 % and 100 %, where nothing spreads, every cluster counts as one observation, so that the
    interval keeps a width.

    COST: nothing.
    HURTS: below some 15 clusters the spread itself is hardly known, and the interval is a rough one; so it is for a
    rate above .95 of clusters with 8 observations each that mostly agree (.85 instead of .95 of the intervals hold).

    Args:
        points: Of each cluster: the sum of its observations, each in [0, 1]; (clusters,).
        sizes: Of each cluster: how many observations, above 0; (clusters,).
        level: Coverage, in (0, 1).

    Returns:
        The rate over all observations, with bounds in [0, 1].

    Raises:
        InvalidRequest: no clusters, or points that aren't in [0, size].
    """
    won, n = np.asarray(points, dtype=float), np.asarray(sizes, dtype=float)
    if won.shape != n.shape or won.ndim != 1 or not len(won):
        raise InvalidRequest(f"needs points and sizes of at least 1 cluster, got shapes {won.shape} and {n.shape}")
    if (n <= 0).any() or (won < 0).any() or (won > n + 1e-9).any():
        raise InvalidRequest("points of a cluster must be between 0 and its size, which must be above 0")
    clusters, rate = len(won), float(won.sum() / n.sum())
    if clusters == 1:
        return Interval(rate, 0.0, 1.0)  # one cluster says nothing of the spread between them
    binomial = rate * (1 - rate)
    squares = ((won - rate * n) ** 2).sum()
    # What a cluster that agrees wholly has more; nothing where a cluster is one observation.
    lacking = max(0.0, (n**2).mean() * binomial - squares / clusters) * (1 - clusters / max(clusters, n.sum()))
    squares += _AGREEING * clusters / (clusters + _AGREEING) * lacking
    spread = squares * clusters / (clusters - 1) / n.sum() ** 2
    if binomial == 0:  # no spread was estimated, so there is none to be unsure of
        effective, z = float(clusters), float(stats.norm.ppf((1 + level) / 2))
    else:
        effective = clusters if spread == 0 else min(binomial / spread, _MOST * n.sum())
        z = float(stats.t.ppf((1 + level) / 2, clusters - 1))
    centre = (rate + z * z / (2 * effective)) / (1 + z * z / effective)
    half = z / (1 + z * z / effective) * math.sqrt(binomial / effective + z * z / (4 * effective**2))
    return Interval(rate, min(rate, max(0.0, centre - half)), max(rate, min(1.0, centre + half)))
