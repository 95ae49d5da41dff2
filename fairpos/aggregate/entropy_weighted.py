"""The mean probability, weighted so that the views speak that are sure."""

from __future__ import annotations

import math
from collections.abc import Sequence

from fairpos.aggregate.mean_log_prob import mean_log_prob
from fairpos.aggregate.rankings import Aggregate, best_first


def entropy_weighted(log_probs: Sequence[Sequence[float]], n: int, beta: float = 4.0) -> Aggregate:
    """The arithmetic mean of the views' distributions over the items, weighted by softmax(-beta * entropy).

    COST: none to speak of; needs distributions.
    HURTS: where a model is surest when it follows a slot and not the content: then the biased views get the say.

    Args:
        log_probs: (views, n), by item number; each view is normalised over the items.
        n: Number of items.
        beta: At least 0; 0 weighs all views alike.

    Returns:
        Scores are log-probabilities that sum to 1; equal items share a place.

    Raises:
        InvalidRequest: as `mean_log_prob`.
    """
    mean_log_prob(log_probs, n)  # checks the input
    views = [_normalise_view(view) for view in log_probs]
    entropies = [-math.fsum(math.exp(x) * x for x in view if x > -math.inf) for view in views]
    least = min(entropies)
    weights = [math.exp(-beta * (entropy - least)) for entropy in entropies]
    total = math.fsum(weights)
    means = [math.fsum(w * math.exp(v[i]) for w, v in zip(weights, views, strict=True)) / total for i in range(n)]
    return best_first(n, [math.log(mean) if mean > 0 else -math.inf for mean in means])


def _normalise_view(view: Sequence[float]) -> list[float]:
    top = max(view)
    if top == -math.inf:  # rules everything out: says nothing
        return [-math.log(len(view))] * len(view)
    norm = top + math.log(math.fsum(math.exp(x - top) for x in view))
    return [x - norm for x in view]
