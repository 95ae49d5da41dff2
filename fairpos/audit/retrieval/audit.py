"""An audit of a retriever: questions in, figures and advice out.

Where the answer stands in a document is moved, all else stays (Coelho et al., "Dwell in the Beginning", arXiv
2404.04163, move passages in documents; Zeng et al., arXiv 2505.13950 and 2601.08363, sort questions by where the answer
stands, and give the Position Sensitivity Index). We do both on the user's own data, and put intervals to both.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from fairpos.audit.audit import Source
from fairpos.audit.gate import Gate, GateResult
from fairpos.audit.retrieval.advice import RetrievalAdvice, advise_on_retriever
from fairpos.audit.retrieval.figures import RetrieverFigures, retriever_figures
from fairpos.audit.retrieval.items import RetrievalItem
from fairpos.audit.retrieval.placing import place_documents, why_unmoved
from fairpos.audit.retrieval.retrievers import find_retriever
from fairpos.errors import InvalidOption, InvalidRequest
from fairpos.files.records import Bad
from fairpos.relevance.base import Scorer
from fairpos.relevance.chunks import Chunked

_PLACES = 5  # where half of the documents are long enough; else
_FEW_PLACES = 3


@dataclass(frozen=True, slots=True)
class RetrievalPlan:
    """How a retriever is audited.

    Attributes:
        places: At how many places the answer stands, evenly spread, at least 2; None: 5, or 3 where most documents are
            too short for that.
        k: Of nDCG, at least 1.
        chunks: Words of chunks that are tried beside whole documents.
        buckets: In how many equal parts of the text answers are sorted where they stand, at least 1.
        seed: Of bootstraps and permutations.
    """

    places: int | None = None
    k: int = 10
    chunks: tuple[int, ...] = (100,)
    buckets: int = 5
    seed: int = 0

    def __post_init__(self) -> None:
        for name, value, least in (("places", self.places, 2), ("k", self.k, 1), ("buckets", self.buckets, 1)):
            if value is not None and value < least:
                raise InvalidOption(f"{name} must be at least {least}, got {value}")

    def places_for(self, items: Sequence[RetrievalItem]) -> int:
        """At how many places the answers of these questions stand."""
        if self.places is not None:
            return self.places
        long = sum(not why_unmoved(item, _PLACES) for item in items)
        known = sum(not why_unmoved(item, 1) for item in items)
        return _PLACES if 2 * long >= max(1, known) else _FEW_PLACES


@dataclass(frozen=True, slots=True)
class RetrievalAudit:
    """All that a report says.

    Attributes:
        retriever: Its name.
        items: Questions.
        documents: How many documents a question's competes with, on average, itself among them.
        plan: How it was audited, with the number of places.
        ways: Figures of whole documents, then of chunks.
        unmoved: Why answers weren't moved -> how many. Questions whose document has nothing to compete with are among
            them, and in no figure.
        advice: What the figures support.
        source: Where the questions came from.
        skipped: Lines that could not be used.
        gates: What came of a gate; empty where none was set.
    """

    retriever: str
    items: Sequence[RetrievalItem]
    documents: float
    plan: RetrievalPlan
    ways: Sequence[RetrieverFigures]
    unmoved: Mapping[str, int]
    advice: RetrievalAdvice
    source: Source = Source()
    skipped: Sequence[Bad] = ()
    gates: Sequence[GateResult] = ()

    @property
    def whole(self) -> RetrieverFigures:
        """The figures of whole documents."""
        return self.ways[0]

    def gated(self, gate: Gate, words: Sequence[int] = ()) -> RetrievalAudit:
        """The same with a gate's results: the largest difference in nDCG between two places must be small.

        Args:
            gate: What is allowed.
            words: The sizes of chunks that it is for; none: whole documents.

        Raises:
            InvalidOption: no answer could be moved, so that there is nothing to gate.
        """
        if not self.whole.moved:
            raise InvalidOption("a gate needs answers that can be moved, and there are none")
        chosen = [way for way in self.ways if way.words in words] or [self.whole]
        return replace(self, gates=[gate.result_of(way.name, {"position": way.per_item}) for way in chosen])


def audit_retriever(
    items: Sequence[RetrievalItem],
    retriever: str | Scorer,
    plan: RetrievalPlan = RetrievalPlan(),
    *,
    source: Source = Source(),
    skipped: Sequence[Bad] = (),
    progress: Callable[[int, int], None] | None = None,
) -> RetrievalAudit:
    """Where in a document the answer must stand to be found, and whether chunks help.

    COST: see `place_documents`, once for whole documents and once for each size of chunks. `bm25` builds an index for
    every question and place (100 questions, 100 documents of 60 words, 5 places: seconds); a cross-encoder reads
    every pair of question and document: `limit` questions, or let documents compete within their records.
    HURTS: below some 50 questions intervals are wide; documents that are cut off before the answer say what the
    retriever reads, not what it prefers.

    Args:
        items: From `read_retrieval_items`.
        retriever: See `find_retriever`; any object with `scores(query, segments)` is one.
        plan: How.
        source: Where the questions came from, for the report.
        skipped: Lines that could not be used, for the report.
        progress: Called with (questions done, in all), over whole documents and chunks together.

    Raises:
        InvalidRequest: no questions, or no answer that stands in its document; or a score that is no number.
        InvalidOption, UnknownName, ModelUnavailable, MissingDependency: see `find_retriever`.
    """
    given, items = len(items), _rivalled_items(items)
    found = find_retriever(retriever)
    places = plan.places_for(items)
    ways: list[tuple[str, int | None, Scorer]] = [("whole", None, found)]
    sizes = dict.fromkeys(plan.chunks)
    ways.extend((f"chunks of {words} words", words, Chunked(found, words)) for words in sizes)
    figures = []
    for number, (name, words, way) in enumerate(ways):
        show = None if progress is None else _part_of(progress, number, len(ways))
        placings = place_documents(way, items, places, progress=show)
        figures.append(retriever_figures(name, words, placings, k=plan.k, buckets=plan.buckets, seed=plan.seed))
    unmoved = Counter(reason for item in items if (reason := why_unmoved(item, places)))
    unmoved += Counter({"nothing competes with the document": given - len(items)})
    return RetrievalAudit(
        retriever if isinstance(retriever, str) else getattr(retriever, "name", type(retriever).__name__),
        items,
        sum(len(item.rivals) + 1 for item in items) / len(items),
        replace(plan, places=places),
        figures,
        dict(unmoved),
        advise_on_retriever(figures, plan.k),
        source,
        skipped,
    )


def _rivalled_items(items: Sequence[RetrievalItem]) -> list[RetrievalItem]:
    """The questions whose document has others to compete with.

    Raises:
        InvalidRequest: there are none, or no answer stands in its document.
    """
    if not items:
        raise InvalidRequest("an audit needs at least 1 question")
    if not any(item.spans for item in items):
        raise InvalidRequest(
            f"no answer stands in its document, that of {items[0].id!r} first: give answers, or span in characters"
        )
    rivalled = [item for item in items if item.rivals]
    if not rivalled:
        raise InvalidRequest("a document needs others to compete with; there is 1 document")
    return rivalled


def _part_of(progress: Callable[[int, int], None], part: int, parts: int) -> Callable[[int, int], None]:
    """Progress of one of several passes over the questions."""
    return lambda done, total: progress(part * total + done, parts * total)
