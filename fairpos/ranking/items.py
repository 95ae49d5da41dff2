"""What is to be ranked: records, or a run with its queries and corpus. One record's fault is that record's.

A passage without any text, or one that the corpus lacks, can't be shown: it is left out of the request, stays
unranked, and the record's notes say so. A record of which nothing can be shown is kept with its fault, and nobody is
asked about it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from fairpos.errors import InvalidRequest
from fairpos.files.items import Item, after_system, passage_item, read_items
from fairpos.files.records import Bad, Record, read
from fairpos.files.trec import Qrels, Texts, read_corpus, read_queries, read_run
from fairpos.passages import as_segments
from fairpos.types import Request


@dataclass(frozen=True, slots=True)
class RankItem:
    """One record to be ranked.

    Attributes:
        id: Unique in its file.
        request: Its passages in the file's order; None where it can't be asked about.
        hidden: Ids of the passages that can't be shown.
        fault: Why it can't be asked about; empty where it can.
    """

    id: str
    request: Request | None
    hidden: tuple[str, ...] = ()
    fault: str = ""

    @property
    def notes(self) -> tuple[str, ...]:
        """What a user should know of its passages."""
        if not self.hidden:
            return ()
        some = ", ".join(self.hidden[:5]) + (", ..." if len(self.hidden) > 5 else "")
        return (f"{len(self.hidden)} passages have no text and were not shown: {some}",)

    @property
    def ids(self) -> tuple[str, ...]:
        """All passage ids: those shown in the file's order, then those that can't be."""
        return (*(self.request.ids if self.request else ()), *self.hidden)


@dataclass(slots=True)
class RankInput:
    """What files hold.

    Attributes:
        items: In the file's order.
        gold: Grades by record and passage, as the records themselves have them.
        bad: Lines that can't be used at all.
        faults: Further things to be told, in words.
    """

    items: list[RankItem]
    gold: Qrels = field(default_factory=dict)
    bad: list[Bad] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)


def read_records(path: Path) -> RankInput:
    """Reads JSONL: `id, query | question, passages`, optional `gold`, ids that need not be among the passages.

    Raises:
        InvalidRequest: the file can't be read.
    """

    def build(line: int, record: Record) -> Iterable[Item]:
        return [passage_item(line, record, absent="keep", drops_empty=True)]

    items, bad = read_items(read(path), build)
    gold: Qrels = {item.id: dict.fromkeys(item.relevant, 1.0) for item in items if item.relevant}
    return RankInput([RankItem(item.id, item.request, item.hidden) for item in items], gold, bad)


def read_trec(run: Path, queries: Path, corpus: Path, depth: int) -> RankInput:
    """Reads a run's queries and documents.

    Args:
        run: TREC's six columns or MS MARCO's three.
        queries: See `fairpos.files.trec`.
        corpus: Likewise; only the documents of the run are kept.
        depth: Documents a query, the best of the run.

    Raises:
        InvalidRequest: a file can't be read, or a line of the run isn't one; or nothing of the run can be asked about.
    """
    found = read_run(run, depth)
    texts = read_queries(queries)
    documents = read_corpus(corpus, {document for scores in found.values() for document in scores})
    items = [_of_run(query, scores, texts, documents) for query, scores in found.items()]
    faults = [*texts.faults, *documents.faults]
    if items and not any(item.request for item in items):
        more = "".join(f"; {fault}" for fault in faults[:3])
        raise InvalidRequest(f"nothing of {run} can be asked about: query {items[0].id!r} {items[0].fault}{more}")
    lacking = {document for item in items for document in item.hidden if document not in documents.found}
    if lacking:
        faults.append(f"{corpus} lacks {len(lacking)} documents of the run, e.g. {min(lacking)!r}; they stay unranked")
    faults += [f"query {item.id!r} {item.fault}" for item in items if item.fault]
    return RankInput(items, faults=faults)


def _of_run(query: str, scores: Mapping[str, float], texts: Texts, documents: Texts) -> RankItem:
    shown = [
        replace(documents.found[id], score=score)
        for id, score in scores.items()
        if id in documents.found and documents.found[id].text
    ]
    hidden = tuple(id for id in scores if id not in {segment.id for segment in shown})
    asked = texts.found.get(query)
    if asked is None or not asked.text:
        fault = "has no text among the queries"
    elif not shown:
        fault = "has no document with a text in the corpus"
    else:
        return RankItem(query, Request("rank", asked.text, as_segments(shown)), hidden)
    return RankItem(query, None, tuple(scores), fault)


def with_system(items: Sequence[RankItem], text: str) -> list[RankItem]:
    """The items with a system prompt before their queries; empty: as they are."""
    if not text:
        return list(items)
    return [item if item.request is None else replace(item, request=after_system(item.request, text)) for item in items]


def all_ids(items: Iterable[RankItem]) -> Iterable[str]:
    """All ids that a run of these items would hold."""
    for item in items:
        yield item.id
        yield from item.ids
