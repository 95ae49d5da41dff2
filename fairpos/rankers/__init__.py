"""How a view is asked to rank: one ranker a file.

A ranker is a generator function: it gets a view, yields lists of calls, receives their replies and returns the view's
output. Rankers don't know other views; methods combine them.
"""

from __future__ import annotations

from collections.abc import Mapping

from fairpos.rankers.base import Ranker
from fairpos.rankers.first_token import first_token
from fairpos.registry import unknown

RANKERS: Mapping[str, Ranker] = {"first_token": first_token}


def ranker(name: str) -> Ranker:
    """The ranker of that name.

    Raises:
        UnknownName: there is none.
    """
    if name not in RANKERS:
        raise unknown("ranker", name, RANKERS)
    return RANKERS[name]


__all__ = ["RANKERS", "Ranker", "ranker"]
