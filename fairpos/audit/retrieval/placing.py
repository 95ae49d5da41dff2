"""Every question asked of a retriever: with its document as it is, and with the answer at several places of it.

A placing says how many rivals stand above the document and how many are level with it, so that no measure depends on
how a tie is broken: it is worth the mean over the places that are tied.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from fairpos.audit.retrieval.items import RetrievalItem
from fairpos.audit.retrieval.moving import MovableAnswer
from fairpos.errors import InvalidRequest
from fairpos.relevance.base import Scorer, is_scored_alone, remembering
from fairpos.types import Segment

_NOISE = 1e-5  # what a batch's company changes of a score, relative to it: no difference


@dataclass(frozen=True, slots=True)
class Placing:
    """Where a document came out.

    Attributes:
        above: Rivals with a higher score.
        level: Rivals with the same score.
        score: Its own, on the retriever's scale.
    """

    above: int
    level: int
    score: float

    def ndcg(self, k: int) -> float:
        """nDCG@k of one relevant document: 1 / log2(1 + rank), 0 below rank k."""
        return self._mean_over_ranks(lambda rank: 1 / math.log2(1 + rank) if rank <= k else 0.0)

    def within(self, k: int) -> float:
        """Whether it is among the first k."""
        return self._mean_over_ranks(lambda rank: float(rank <= k))

    def _mean_over_ranks(self, worth: Callable[[int], float]) -> float:
        ranks = range(self.above + 1, self.above + self.level + 2)
        return math.fsum(map(worth, ranks)) / len(ranks)


@dataclass(frozen=True, slots=True)
class ItemPlacings:
    """What came of one question.

    Attributes:
        item: The question.
        as_it_is: With the document as the file has it.
        moved: With the answer at each place, from the first to the last; empty where it can't be moved.
        words_before: How many words stood before the answer there.
    """

    item: RetrievalItem
    as_it_is: Placing
    moved: tuple[Placing, ...] = ()
    words_before: tuple[int, ...] = ()


def place_documents(
    source: Scorer,
    items: Sequence[RetrievalItem],
    places: int,
    *,
    progress: Callable[[int, int], None] | None = None,
) -> list[ItemPlacings]:
    """Asks a retriever about every question.

    COST: a source that scores each text alone (embedding, cross_encoder) is asked about all places at once: it encodes
    each document once, or reads each pair of question and document once. Any other is asked places + 1 times a
    question, about the whole corpus.

    Args:
        source: Scores documents for a query.
        items: Questions.
        places: At how many places the answer shall stand, evenly spread; a document with fewer isn't moved.
        progress: Called with (questions done, questions in all).

    Raises:
        InvalidRequest: a score is missing, or no finite number.
    """
    kept = remembering(source)
    found = []
    for number, item in enumerate(items, 1):
        found.append(_placings_of(kept, item, places))
        if progress is not None:
            progress(number, len(items))
    return found


def why_unmoved(item: RetrievalItem, places: int) -> str:
    """Why the answer can't stand at so many places, in words; empty where it can."""
    if not item.spans:
        return "no accepted answer stands in the document"
    title = (item.document.title or "").casefold()  # which stays first wherever the sentences go
    if any(item.document.text[start:end].casefold() in title for start, end in item.spans):
        return "the answer stands in the title as well"
    if MovableAnswer.of(item.document.text, item.spans).places < places:
        return f"the document has too few sentences for {places} places"
    return ""


def _placings_of(source: Scorer, item: RetrievalItem, places: int) -> ItemPlacings:
    texts, before = [item.document.text], []
    if not why_unmoved(item, places):
        movable = MovableAnswer.of(item.document.text, item.spans)
        for slot in movable.slots(places):
            texts.append(movable.text_at(slot))
            before.append(movable.words_before(slot))
    variants = [replace(item.document, id=f"at {number}", text=text) for number, text in enumerate(texts)]
    placings = _placings(source, item.query, variants, item.rivals)
    return ItemPlacings(item, placings[0], tuple(placings[1:]), tuple(before))


def _placings(source: Scorer, query: str, variants: Sequence[Segment], rivals: Sequence[Segment]) -> list[Placing]:
    if is_scored_alone(source):
        scores = _checked_scores(source, query, [*variants, *rivals])
        return [_placing_of(scores, variant, rivals) for variant in variants]
    return [_placing_of(_checked_scores(source, query, [each, *rivals]), each, rivals) for each in variants]


def _placing_of(scores: Mapping[str, float], document: Segment, rivals: Sequence[Segment]) -> Placing:
    own = scores[document.id]
    others = [scores[rival.id] for rival in rivals]
    level = sum(is_level(own, other) for other in others)
    above = sum(other > own and not is_level(own, other) for other in others)
    return Placing(above, level, own)


def is_level(first: float, second: float) -> bool:
    """Whether two scores are the same but for rounding."""
    return math.isclose(first, second, rel_tol=_NOISE)


def _checked_scores(source: Scorer, query: str, documents: Sequence[Segment]) -> Mapping[str, float]:
    scores = source.scores(query, documents)
    for document in documents:
        score = scores.get(document.id)
        if score is None or not math.isfinite(score):
            raise InvalidRequest(
                f"the retriever must give every document a finite score, got {score!r} for {document.text[:60]!r}"
            )
    return scores
