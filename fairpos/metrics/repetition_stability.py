"""How often a judge says the same when it is asked the same again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Sequence

from fairpos.errors import InvalidRequest


def repetition_stability(items: Sequence[Sequence[Hashable]]) -> float:
    """The mean share of the modal verdict (Shi et al., arXiv 2406.07791).

    Args:
        items: For every item its verdicts when asked repeatedly with the very same prompt.

    Returns:
        In (0, 1]; 1 where every repetition gave the same verdict.
    """
    if not items or not all(items):
        raise InvalidRequest("repetition stability needs at least 1 item, and 1 verdict for each")
    shares = [Counter(verdicts).most_common(1)[0][1] / len(verdicts) for verdicts in items]
    return sum(shares) / len(shares)
