"""Questions and the document that answers each: what an audit of retrievers reads.

    {id, query | question, passages, gold | gold_index, answers | answer | span}     a question with its candidates
    {group, passages, questions: [{id, question, gold_index, answers | span}]}       several with the same ones
    {id, question, context, answers: {text, answer_start}}                           SQuAD's rows
    {data: [{paragraphs: [{context, qas}]}]}                                         SQuAD's files

`span` is [start, end] in characters of the document that answers, or a list of such. Without it (and without SQuAD's
`answer_start`) every place where an accepted answer stands counts. Questions that SQuAD says are impossible are left
out. Documents with equal title and text are one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, TypeAlias

from fairpos.audit.retrieval.moving import answer_spans
from fairpos.errors import InvalidRequest
from fairpos.files.items import accepted_of, index_of, passage_item, question_of
from fairpos.files.records import Bad, Json, Record, objects_of, read, segments_of, text_of
from fairpos.relevance.sentences import Span
from fairpos.types import Segment

Pool: TypeAlias = Literal["file", "record"]


@dataclass(frozen=True, slots=True)
class RetrievalItem:
    """One question.

    Attributes:
        id: Unique in its file.
        query: What is looked for.
        document: What answers it.
        spans: Where in its text the answer stands; empty where that isn't known.
        corpus: What it competes with; it may be among them itself.
        apart: Ids of the corpus that don't compete: itself, and others that answer too.
        line: Number of its line; 0: from none.
    """

    id: str
    query: str
    document: Segment
    spans: tuple[Span, ...]
    corpus: tuple[Segment, ...]
    apart: frozenset[str] = frozenset()
    line: int = 0

    @property
    def rivals(self) -> list[Segment]:
        """The documents that compete with it."""
        return [segment for segment in self.corpus if segment.id not in self.apart]

    @property
    def place(self) -> float:
        """Where the answer begins, as a share of the text before it: in [0, 1). For an item with spans."""
        return self.spans[0][0] / len(self.document.text)


def read_retrieval_items(
    path: Path, *, pool: Pool = "file", limit: int | None = None
) -> tuple[list[RetrievalItem], list[Bad]]:
    """The questions of a file, and the lines that can't be used.

    Args:
        path: JSONL, or a file of SQuAD's.
        pool: What a document competes with: all documents of the file, or those of its own record.
        limit: At most so many questions; all documents of the file stay.

    Raises:
        InvalidRequest: the file can't be read.
    """
    lines = read(path)
    found: dict[str, RetrievalItem] = {}
    bad = list(lines.bad)
    library = _Library()
    for number, record in lines.records:
        try:
            new = [library.with_shared_ids(item) for item in _items_of(number, record)]
            for item in new:
                if item.id in found:
                    raise InvalidRequest(f"id {item.id!r} is that of line {found[item.id].line} already")
            found |= {item.id: item for item in new}
        except InvalidRequest as error:
            bad.append(Bad(number, str(error)))
    items = list(found.values())[:limit]
    if pool == "file":
        everything = tuple(library.documents.values())
        items = [replace(item, corpus=everything) for item in items]
    return items, sorted(bad, key=lambda each: each.line)


class _Library:
    """All documents of a file, each once, under an id of its own: ids of records repeat from line to line."""

    def __init__(self) -> None:
        self.documents: dict[tuple[str, str], Segment] = {}

    def with_shared_ids(self, item: RetrievalItem) -> RetrievalItem:
        """The item with the library's documents in place of its record's."""
        corpus = {segment.id: self._shared_copy(segment) for segment in item.corpus}
        document = self._shared_copy(item.document)
        apart = frozenset({document.id, *(corpus[id].id for id in item.apart)})
        return replace(item, document=document, corpus=tuple(dict.fromkeys(corpus.values())), apart=apart)

    def _shared_copy(self, segment: Segment) -> Segment:
        number = len(self.documents) + 1
        return self.documents.setdefault(
            segment.content, Segment(id=str(number), text=segment.text, title=segment.title)
        )


def _items_of(line: int, record: Record) -> Iterator[RetrievalItem]:
    if "data" in record:
        yield from _squad_items(line, record)
    elif "context" in record:
        yield _context_item(line, record, record)
    elif "questions" in record:
        passages = segments_of(record, "passages")
        for question in objects_of(record["questions"], "questions"):
            document = passages[index_of(question, len(passages))]
            spans = _spans_of(question, document.text)
            yield RetrievalItem(
                text_of(question, "id"), question_of(question), document, spans, tuple(passages), line=line
            )
    else:
        yield _passages_item(line, record)


def _passages_item(line: int, record: Record) -> RetrievalItem:
    asked = {key: value for key, value in record.items() if key not in ("answers", "answer")}  # read below
    item = passage_item(line, asked, drops_empty=True)
    if item.gold is None:
        raise InvalidRequest("needs gold or gold_index: which passage answers")
    segments = {segment.id: segment for segment in item.request.segments}
    document = segments[item.gold]
    return RetrievalItem(
        item.id,
        item.request.query,
        document,
        _spans_of(record, document.text),
        item.request.segments,
        frozenset(item.relevant),
        line,
    )


def _squad_items(line: int, record: Record) -> Iterator[RetrievalItem]:
    for article in objects_of(record["data"], "data"):
        for paragraph in objects_of(article.get("paragraphs"), "paragraphs"):
            for question in objects_of(paragraph.get("qas"), "qas"):
                if question.get("is_impossible") is not True:
                    yield _context_item(line, question, paragraph)


def _context_item(line: int, question: Record, holder: Record) -> RetrievalItem:
    document = Segment(id="1", text=text_of(holder, "context"))
    spans = _spans_of(question, document.text)
    return RetrievalItem(text_of(question, "id"), question_of(question), document, spans, (document,), line=line)


def _spans_of(record: Mapping[str, Json], text: str) -> tuple[Span, ...]:
    """Where a record says that the answer stands; empty where it doesn't say, and where it isn't found."""
    if record.get("span") is not None:
        return tuple(_checked_spans(record["span"], len(text)))
    answers = record.get("answers")
    if isinstance(answers, dict):  # SQuAD's rows have lists side by side, its files a list of objects
        texts, starts = answers.get("text"), answers.get("answer_start")
        if not isinstance(texts, list) or not isinstance(starts, list) or len(texts) != len(starts):
            raise InvalidRequest("answers must have lists text and answer_start of one length")
        answers = [{"text": each, "answer_start": start} for each, start in zip(texts, starts, strict=True)]
    if isinstance(answers, list) and answers and isinstance(answers[0], dict):
        return (_span_at(objects_of(answers, "answers")[0], text),)
    if answers == []:
        raise InvalidRequest("has no answer to look for")
    return tuple(answer_spans(text, accepted_of(record)))


def _span_at(answer: Record, text: str) -> Span:
    said, start = text_of(answer, "text"), answer.get("answer_start")
    if isinstance(start, bool) or not isinstance(start, int) or start < 0 or not text.startswith(said, start):
        raise InvalidRequest(f"answer_start {start!r} isn't where {said!r} stands in its context")
    return start, start + len(said)


def _checked_spans(value: Json, length: int) -> Sequence[Span]:
    pairs = value if isinstance(value, list) and value and isinstance(value[0], list) else [value]
    spans = []
    for pair in pairs:
        ends = [x for x in pair if isinstance(x, int) and not isinstance(x, bool)] if isinstance(pair, list) else []
        if len(ends) != 2 or ends != pair or not 0 <= ends[0] < ends[1] <= length:
            raise InvalidRequest(
                f"span must be [start, end] within the {length} characters of the document's text, got {pair!r}"
            )
        spans.append((ends[0], ends[1]))
    return sorted(spans)
