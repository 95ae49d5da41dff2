"""How a view is asked to rank: one ranker a file.

A ranker is a frozen dataclass whose call is a generator: it gets a view, yields lists of calls, receives their replies
and returns the view's output. Rankers don't know other views; methods combine them.
"""

from __future__ import annotations

from collections.abc import Mapping

from fairpos.rankers.base import Ranker
from fairpos.rankers.embedding import EmbeddingRanker
from fairpos.rankers.first_token import FirstToken
from fairpos.rankers.generate import GenerateRanker
from fairpos.rankers.pairwise import Pairwise
from fairpos.rankers.pointwise import Pointwise
from fairpos.registry import build

RANKERS: Mapping[str, type[Ranker]] = {
    cls.name: cls for cls in (FirstToken, GenerateRanker, Pointwise, Pairwise, EmbeddingRanker)
}


def ranker(spec: str | Ranker) -> Ranker:
    """A ranker from its text form: "first_token", "generate:constrained=false".

    Raises:
        UnknownName: no such ranker.
        InvalidOption: an option that it doesn't have, or a value of a wrong type.
    """
    return build("ranker", spec, RANKERS) if isinstance(spec, str) else spec


__all__ = ["RANKERS", "Ranker", "ranker"]
