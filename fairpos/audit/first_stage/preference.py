"""Which places of a list are preferred, whatever stands there: pairs of passages in randomly ordered lists."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from fairpos.errors import InvalidRequest
from fairpos.metrics.bootstrap import Array
from fairpos.types import Groups


def bucket_preferences(shown: Sequence[str], groups: Groups, buckets: int) -> Array:
    """How often a passage of each part of the list is ranked above one of another part.

    In lists in random order every part has passages as good as the others' on average, so that a reranker that doesn't
    care for places has .5 in each; that is a mean over lists, and one list says little. The rates of all parts have
    the mean .5, weighted by their pairs.

    Args:
        shown: Ids, in the order shown.
        groups: The ranking, best first; ids of one group are tied, and count half. Ids that aren't there are below all
            others, and tied with each other.
        buckets: Parts of the list, as even as they can be; 2 to the number of ids.

    Returns:
        (buckets,), from the first part of the list to the last.

    Raises:
        InvalidRequest: too few, or too many buckets.
    """
    count = len(shown)
    if not 2 <= buckets <= count:
        raise InvalidRequest(f"buckets must be 2 to the {count} passages of the list, got {buckets}")
    ranks = ranks_of(shown, groups)
    values = np.array([ranks[id] for id in shown], dtype=float)
    part = np.arange(count) * buckets // count
    wins = (values[:, None] < values[None, :]) + 0.5 * (values[:, None] == values[None, :])
    apart = part[:, None] != part[None, :]
    return np.array([wins[part == number][apart[part == number]].mean() for number in range(buckets)])


def ranks_of(ids: Sequence[str], groups: Groups) -> Mapping[str, int]:
    """The group of each id, from 0 for the best; what isn't ranked comes after all groups."""
    ranks = dict.fromkeys(ids, len(groups))
    ranks |= {id: number for number, group in enumerate(groups) for id in group}
    return ranks
