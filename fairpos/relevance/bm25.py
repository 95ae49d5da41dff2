"""BM25 among the segments of one request.

Robertson and Zaragoza, "The Probabilistic Relevance Framework: BM25 and Beyond", 2009; Lucene's form of the inverse
document frequency, which is never negative. Computed by bm25s (Lù, arXiv 2407.03618).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from fairpos.extras import missing_extra
from fairpos.options import Checked, option
from fairpos.relevance.base import canonical, passage, register
from fairpos.types import Segment

_WORD = re.compile(r"\w+")


@register
@dataclass(frozen=True)
class BM25(Checked):
    """Words that the query and a segment share, the rarer among the segments the better.

    COST: milliseconds, no model.
    HURTS: paraphrases, which share no word. Rarity is counted among the request's own segments: with few of them it
    says little, and a word that all have counts almost nothing.

    Attributes:
        k1: How soon repeating a word stops to count, at least 0.
        b: How much long segments are discounted, 0 to 1.
    """

    name: ClassVar[str] = "bm25"
    summary: ClassVar[str] = "shared words, weighted by their rarity among the passages"
    source: ClassVar[str] = "Robertson and Zaragoza 2009; bm25s, arXiv 2407.03618"
    k1: float = option(1.5, minimum=0)
    b: float = option(0.75, minimum=0, maximum=1)

    def scores(self, query: str, segments: Sequence[Segment]) -> dict[str, float]:
        """BM25 scores, at least 0.

        Raises:
            MissingDependency: bm25s isn't installed.
        """
        try:
            import bm25s
        except ImportError as error:
            raise missing_extra("bm25 needs bm25s", "lexical", error) from None
        ordered = canonical(segments)
        words = [_split_words(passage(segment)) for segment in ordered]
        asked = [word for word in _split_words(query) if any(word in each for each in words)]
        if not asked:  # also where no segment has a word at all, which bm25s can't index
            return dict.fromkeys((segment.id for segment in segments), 0.0)
        index = bm25s.BM25(k1=self.k1, b=self.b, method="lucene", backend="numpy")
        index.index(words, show_progress=False)
        found = index.get_scores(asked)
        return {segment.id: float(score) for segment, score in zip(ordered, found, strict=True)}


def _split_words(text: str) -> list[str]:
    return _WORD.findall(text.casefold())
