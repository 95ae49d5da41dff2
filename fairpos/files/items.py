"""A record as an item: what is asked, and what is known to be right. Ranking, answering, judging, auditing and
calibrating read their records here, so that a field means the same to all of them.

    gold         the id of the right segment, or a list of such ids, the best first
    gold_index   its place in the record's list, from 0, where there is no gold
    answers      texts that count as right; or answer, for one
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from fairpos.errors import InvalidRequest
from fairpos.files.choices import published_choice
from fairpos.files.records import Bad, Json, Lines, Record, answer_of, optional_text, segments_of, text_of
from fairpos.passages import as_segments
from fairpos.prompts import EMPTY_ANSWER, slot_labels
from fairpos.types import Request, Segment, Task, Turn

TIE = "tie"  # gold of a pair that is equally good


@dataclass(frozen=True, slots=True)
class Item:
    """One record that can be asked about.

    Attributes:
        id: Unique in its file.
        request: Its segments in the file's order.
        gold: The segment that is right, or holds the answer; None where that isn't known. Of several, the first.
        accepted: Texts that count as right answers.
        line: Number of the line that it came from; 0: from none.
        relevant: All ids that the record names as right, `gold` first; some may not be among the segments.
        record: The whole record, for what a format brings along.
        hidden: Ids of passages without text, which are left out of the request.
    """

    id: str
    request: Request
    gold: str | None = None
    accepted: tuple[str, ...] = ()
    line: int = 0
    relevant: tuple[str, ...] = ()
    record: Record = field(default_factory=dict, repr=False, compare=False)
    hidden: tuple[str, ...] = ()


Build = Callable[[int, Record], Iterable[Item]]


def read_items(lines: Lines, build: Build) -> tuple[list[Item], list[Bad]]:
    """The items of a file, and every line that can't be used, both in the file's order.

    Args:
        lines: What was read.
        build: (line number, record) -> its items; raises InvalidRequest where the record can't be used.
    """
    items: dict[str, Item] = {}
    bad = list(lines.bad)
    for number, record in lines.records:
        try:
            new: dict[str, Item] = {}
            for item in build(number, record):
                if item.id in items or item.id in new:
                    raise InvalidRequest(f"id {item.id!r} is that of line {(items | new)[item.id].line} already")
                new[item.id] = item
            items |= new
        except InvalidRequest as error:
            bad.append(Bad(number, str(error)))
    return list(items.values()), sorted(bad, key=lambda each: each.line)


def judge_item(line: int, record: Record, *, rubric: str | None = None, travelling: bool = False) -> Item:
    """A record of answers to be compared.

    Args:
        line: Its line number.
        record: `id, instruction, answers: [{id, text}]` or `response_a, response_b` (ids A and B); optional `gold` (an
            id, or "tie"), `reference` and `rubric`. An answer that is empty or null is judged as an empty answer.
        rubric: For records that have none of their own.
        travelling: Labels belong to the answers, in the record's order, instead of to the slots.

    Raises:
        InvalidRequest: it can't be used; the message says why.
    """
    if "answers" in record:
        segments = segments_of(record, "answers", may_be_empty=True)
    else:
        segments = [Segment(id=slot, text=answer_of(record, f"response_{slot.lower()}")) for slot in "AB"]
    answers = as_segments(segments, empty=EMPTY_ANSWER)
    if len(answers) < 2:
        raise InvalidRequest(f"needs at least 2 answers to compare, got {len(answers)}")
    parts = [text_of(record, "instruction")]
    for title, text in (
        ("Reference answer", optional_text(record, "reference")),
        ("Rubric", optional_text(record, "rubric") or rubric),
    ):
        if text:
            parts.append(f"{title}:\n{text}")
    labels = slot_labels("judge", len(answers)) if travelling else None
    request = Request("judge", "\n\n".join(parts), answers, labels)
    relevant = gold_of(record, request.ids, allowed=(TIE,))
    return Item(text_of(record, "id"), request, first_of(relevant), (), line, relevant, record)


def answered_item(line: int, record: Record) -> Item:
    """An instruction with one answer: `id, instruction, answer`; an answer that is empty or null is an empty answer.

    Raises:
        InvalidRequest: it can't be used; the message says why.
    """
    answers = as_segments([Segment(text=answer_of(record, "answer"))], empty=EMPTY_ANSWER)
    request = Request("judge", text_of(record, "instruction"), answers)
    return Item(text_of(record, "id"), request, line=line, record=record)


def choice_item(line: int, record: Record) -> Item:
    """A question with options: `question | query, options`; optional `id`, `gold` or `gold_index`.

    Also of the shapes in which multiple-choice questions are published: see `fairpos.files.choices`.

    Raises:
        InvalidRequest: it can't be used; the message says why.
    """
    record = published_choice(line, record)
    options = as_segments(segments_of(record, "options"))
    if len(options) < 2:
        raise InvalidRequest(f"needs at least 2 options, got {len(options)}")
    request = Request("choose", question_of(record), options)
    relevant = gold_of(record, request.ids)
    return Item(text_of(record, "id"), request, first_of(relevant), (), line, relevant, record)


def passage_item(
    line: int, record: Record, *, task: Task = "rank", absent: Absent = "refuse", drops_empty: bool = False
) -> Item:
    """A question with passages: `id, query | question, passages`; optional `gold` or `gold_index`, `answers`.

    Args:
        line: Its line number.
        record: The record.
        task: What is asked: "rank" or "answer".
        absent: See `gold_of`.
        drops_empty: Passages without text are left out, as long as others are there.

    Raises:
        InvalidRequest: it can't be used; the message says why.
    """
    shown, hidden = _filled_passages(record) if drops_empty else (record, ())
    request = Request(task, question_of(record), as_segments(segments_of(shown, "passages")))
    relevant = gold_of(shown, request.ids, absent=absent)
    accepted = accepted_of(record)
    return Item(text_of(record, "id"), request, first_of(relevant), accepted, line, relevant, record, hidden)


def _filled_passages(record: Record) -> tuple[Record, tuple[str, ...]]:
    """A record without its passages that have no text, and their ids; those without an id keep their numbers."""
    passages = record.get("passages")
    if not isinstance(passages, list):
        return record, ()
    named = [_with_id(passage, number) for number, passage in enumerate(passages, 1)]
    hidden = [str(passage["id"]) for passage in named if isinstance(passage, dict) and _is_blank(passage)]
    shown = [passage for passage in named if not (isinstance(passage, dict) and _is_blank(passage))]
    if not hidden or not shown:
        return record, ()
    _refuse_twice([*hidden, *(str(passage["id"]) for passage in shown if isinstance(passage, dict))])
    filled: Record = {**record, "passages": shown}
    if record.get("gold") in (None, []) and record.get("gold_index") is not None:
        right = named[index_of(record, len(named))]  # a place in the record's own list
        filled["gold"] = right["id"] if isinstance(right, dict) else None
    return filled, tuple(hidden)


def _with_id(passage: Json, number: int) -> Json:
    if isinstance(passage, str):
        return {"id": str(number), "text": passage}
    if isinstance(passage, dict) and passage.get("id") is None:
        return {**passage, "id": str(number)}
    return passage


def _is_blank(passage: Mapping[str, Json]) -> bool:
    texts = (passage.get("text"), passage.get("title"))
    return all(text is None or (isinstance(text, str) and not text.strip()) for text in texts)


def _refuse_twice(ids: Collection[str]) -> None:
    if len(set(ids)) < len(ids):
        raise InvalidRequest("a passage id appears twice; ids must be unique within a request")


def question_of(record: Mapping[str, Json]) -> str:
    """`query`, or `question` where there is none."""
    return text_of(record, "question" if "question" in record and "query" not in record else "query")


Absent = Literal["refuse", "keep"]


def gold_of(
    record: Mapping[str, Json], ids: Sequence[str], *, absent: Absent = "refuse", allowed: Sequence[str] = ()
) -> tuple[str, ...]:
    """All ids that a record names as right, the best first; empty where it names none.

    Args:
        record: With `gold` (an id, or a list of ids) or `gold_index` (a place, from 0), or neither.
        ids: Of the segments, in the record's order.
        absent: An id that isn't among the segments is refused as a mistake, or kept: no ranking can find it, which
            counts as a miss.
        allowed: Further values that `gold` may have.

    Raises:
        InvalidRequest: it is something else.
    """
    value = record.get("gold")
    if value is None or value == []:
        index = record.get("gold_index")
        return () if index is None else (ids[index_of(record, len(ids))],)
    found = tuple(
        dict.fromkeys(text_of({"gold": item}, "gold") for item in (value if isinstance(value, list) else [value]))
    )
    strange = [id for id in found if id not in ids and id not in allowed]
    if strange and absent == "refuse":
        raise InvalidRequest(f"gold {strange[0]!r} is none of the ids: {', '.join(ids)}")
    return found


def index_of(record: Mapping[str, Json], count: int) -> int:
    """`gold_index`, which must be one of so many places.

    Raises:
        InvalidRequest: it is something else.
    """
    index = record.get("gold_index")
    if isinstance(index, str) and index.strip().isdecimal():
        index = int(index)  # from a table
    if isinstance(index, bool) or not isinstance(index, int) or not 0 <= index < count:
        raise InvalidRequest(f"gold_index must be in 0..{count - 1}, got {index!r}")
    return index


def accepted_of(record: Mapping[str, Json]) -> tuple[str, ...]:
    """`answers`, or `answer`: texts that count as right.

    Raises:
        InvalidRequest: one is no text.
    """
    value = record.get("answers", record.get("answer"))
    items = [] if value is None else value if isinstance(value, list) else [value]
    return tuple(text_of({"answers": item}, "answers") for item in items)


def pairs_of(record: Mapping[str, Json]) -> list[tuple[str, str]]:
    """`pairs`: a list of [key, value].

    Raises:
        InvalidRequest: it is something else.
    """
    return list(_each_pair(record.get("pairs")))


def _each_pair(value: Json) -> Iterator[tuple[str, str]]:
    if not isinstance(value, list):
        raise InvalidRequest(f"pairs must be a list of [key, value], got {value!r}")
    for pair in value:
        if not (isinstance(pair, list) and len(pair) == 2 and all(isinstance(x, str) and x for x in pair)):
            raise InvalidRequest(f"pairs must be a list of [key, value], got {pair!r}")
        yield str(pair[0]), str(pair[1])


def first_of(ids: Sequence[str]) -> str | None:
    """The first, or None."""
    return ids[0] if ids else None


def with_system(item: Item, text: str) -> Item:
    """The same item with a system prompt before it; empty: as it is."""
    return replace(item, request=after_system(item.request, text)) if text else item


def after_system(request: Request, text: str) -> Request:
    """The request with a system prompt for its history."""
    return replace(request, history=(Turn("system", text),))


def with_task(item: Item, task: Task) -> Item:
    """The same item, asked another way."""
    return replace(item, request=replace(item.request, task=task))
