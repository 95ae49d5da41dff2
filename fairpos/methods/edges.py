"""The most relevant segments at both ends, the least relevant in the middle: the "lost in the middle" reordering.

Answers to Liu et al., "Lost in the Middle: How Language Models Use Long Contexts", arXiv 2307.03172; the long-context
reorderers of LangChain, LlamaIndex and Haystack are of this kind, and differ. Haystack's puts the best first, as we do.
LangChain's and LlamaIndex's put the best first for an odd number of passages and LAST for an even one. LangChain and
Haystack go by the order that comes in; LlamaIndex sorts by the nodes' scores first. Here the order is made from the
relevance, so it doesn't depend on the input order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from fairpos.methods.base import register
from fairpos.methods.reordering import Reordering
from fairpos.orders import placement
from fairpos.types import Request

if TYPE_CHECKING:
    from fairpos.backends.base import Backend


@register
@dataclass(frozen=True)
class Edges(Reordering):
    """The best segment first, the second best last, the third second, and so on.

    COST: the relevance; no call more.
    HURTS: models without a dip in the middle, and short lists, where it was published as no better than random
    (HotpotQA, 5 documents, Qwen2.5-7B: 52.2 against 52.3).
    """

    name: ClassVar[str] = "edges"
    summary: ClassVar[str] = "puts the most relevant segments at both ends"
    source: ClassVar[str] = "lost in the middle, arXiv 2307.03172"

    def slots(self, request: Request, backend: Backend) -> Sequence[int]:
        """First, last, second, one before the last, ..."""
        return placement.edges(len(request.segments))
