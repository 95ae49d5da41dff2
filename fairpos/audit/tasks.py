"""What is audited: how a file becomes items, and how an output is scored.

    judge   {id, instruction, answers | response_a, response_b, gold?}          the winner is the gold answer
    choice  {id, question, options, gold_index | gold}                          the winner is the gold option
    rank    {id, query, passages, gold}, or groups (below)                      the gold passage is ranked first
    qa      {id, query, passages, answers, gold?}, or groups                    the text holds an accepted answer
    kv      {id, pairs: [[key, value], ...]}                                    the text starts with the value

A group is `{group, passages, questions: [{id, question, answers, gold_index}]}`: every question is asked on the
passages of its group.
"""

from __future__ import annotations

import re
import string
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from fairpos.backends.base import Decoding
from fairpos.errors import InvalidRequest
from fairpos.files.records import Bad, Json, Record, read, segments_of, text_of
from fairpos.judging.judge import case_of
from fairpos.prompts import KEY_VALUE, Template
from fairpos.types import Output, Request, Segment, Task, as_segments


@dataclass(frozen=True, slots=True)
class Item:
    """A request whose right answer is known.

    Attributes:
        id: Unique in the file.
        request: In the file's order.
        gold: The segment that is right, or holds the answer; None where it isn't known.
        accepted: Texts that count as right, for tasks answered in text.
    """

    id: str
    request: Request
    gold: str | None = None
    accepted: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class AuditTask:
    """A kind of audit.

    Attributes:
        name: On the command line.
        asks: The task of its requests.
        items: (record, line number, number of segments or None) -> items.
        picked: The segment that an output names, or None.
        correct: The score of an output, 0 to 1; None where there is no gold.
        chance: Whether guessing is right once in k; otherwise never.
        template: None takes the task's own.
        decoding: For answers in text.
    """

    name: str
    asks: Task
    items: Callable[[Record, int | None], Iterator[Item]]
    picked: Callable[[Item, Output], str | None]
    correct: Callable[[Item, Output], float | None]
    chance: bool = True
    template: Template | None = None
    decoding: Decoding = field(default_factory=lambda: Decoding(max_new_tokens=32))


def read_items(
    task: AuditTask, path: Path, *, segments: int | None = None, limit: int | None = None
) -> tuple[list[Item], list[Bad]]:
    """The items of a file, and the lines that can't be used.

    Args:
        task: What the records are.
        path: JSONL.
        segments: How many segments an item has: pairs and groups are cut to it; other items must have so many.
        limit: At most so many items.

    Raises:
        InvalidRequest: the file can't be read, or items have different numbers of segments.
    """
    lines = read(path)
    bad = list(lines.bad)
    items: dict[str, Item] = {}
    for number, record in lines.records:
        try:
            for item in task.items(record, segments):
                if item.id in items:
                    raise InvalidRequest(f"id {item.id!r} appears twice")
                if segments is not None and len(item.request.segments) != segments:
                    raise InvalidRequest(f"has {len(item.request.segments)} segments, not {segments}")
                items[item.id] = item
        except InvalidRequest as error:
            bad.append(Bad(number, str(error)))
    chosen = list(items.values())[:limit]
    counts = sorted({len(item.request.segments) for item in chosen})
    if len(counts) > 1:
        raise InvalidRequest(
            f"items of {path} have {', '.join(map(str, counts))} segments; an audit needs one number: use --segments"
        )
    return chosen, bad


# Records


def _judge_items(record: Record, segments: int | None) -> Iterator[Item]:  # noqa: ARG001
    case = case_of(0, record)
    yield Item(case.id, case.request, case.gold)


def _choice_items(record: Record, segments: int | None) -> Iterator[Item]:  # noqa: ARG001
    options = as_segments(segments_of(record, "options"))
    if len(options) < 2:
        raise InvalidRequest(f"needs at least 2 options, got {len(options)}")
    question = text_of(record, "question" if "question" in record else "query")
    yield Item(text_of(record, "id"), Request("choose", question, options), _gold(record, options))


def _passage_items(asks: Task) -> Callable[[Record, int | None], Iterator[Item]]:
    def items(record: Record, segments: int | None) -> Iterator[Item]:
        passages = as_segments(segments_of(record, "passages"))
        if "questions" not in record:
            query = text_of(record, "query" if "query" in record else "question")
            gold = _gold(record, passages)
            yield Item(text_of(record, "id"), Request(asks, query, passages), gold, _accepted(record))
            return
        questions = record["questions"]
        if not isinstance(questions, list):
            raise InvalidRequest(f"field 'questions' must be a list, got {questions!r}")
        size = segments or len(passages)
        for question in questions:
            if not isinstance(question, dict):
                raise InvalidRequest(f"a question must be an object, got {question!r}")
            index = _index(question, len(passages))
            first = index // size * size
            block = passages[first : first + size]
            if len(block) == size:
                request = Request(asks, text_of(question, "question"), block)
                yield Item(text_of(question, "id"), request, passages[index].id, _accepted(question))

    return items


def _kv_items(record: Record, segments: int | None) -> Iterator[Item]:
    pairs = record.get("pairs")
    if not isinstance(pairs, list) or not all(
        isinstance(pair, list) and len(pair) == 2 and all(isinstance(x, str) and x for x in pair) for pair in pairs
    ):
        raise InvalidRequest(f"field 'pairs' must be a list of [key, value] texts, got {pairs!r}")
    chosen = [[str(x) for x in pair] for pair in pairs if isinstance(pair, list)][:segments]
    id = text_of(record, "id")
    texts = [Segment(id=str(i), text=f'"{key}": "{value}"') for i, (key, value) in enumerate(chosen, 1)]
    # Which pair is asked for doesn't matter, as it will stand at every position: the middle one.
    gold = len(chosen) // 2
    key, value = chosen[gold]
    yield Item(id, Request("answer", key, as_segments(texts)), str(gold + 1), (value,))


def _gold(record: Record, segments: tuple[Segment, ...]) -> str | None:
    if record.get("gold") is not None:
        gold = text_of(record, "gold")
        if gold not in {segment.id for segment in segments}:
            raise InvalidRequest(f"gold {gold!r} is none of the ids: {', '.join(s.id for s in segments)}")
        return gold
    if record.get("gold_index") is not None:
        return segments[_index(record, len(segments))].id
    return None


def _index(record: Mapping[str, Json], count: int) -> int:
    index = record.get("gold_index")
    if isinstance(index, bool) or not isinstance(index, int) or not 0 <= index < count:
        raise InvalidRequest(f"gold_index must be in 0..{count - 1}, got {index!r}")
    return index


def _accepted(record: Mapping[str, Json]) -> tuple[str, ...]:
    answers = record.get("answers", [])
    if not isinstance(answers, list) or not all(isinstance(answer, str) for answer in answers):
        raise InvalidRequest(f"field 'answers' must be a list of texts, got {answers!r}")
    return tuple(str(answer) for answer in answers)


# Scores


def _winner(item: Item, output: Output) -> str | None:  # noqa: ARG001
    return output.winner


def _winner_is_gold(item: Item, output: Output) -> float | None:
    if item.gold is None:
        return None
    if output.winner is None and output.status == "ok":
        return 1.0 / len(item.request.segments)  # a tie is worth a guess
    return float(output.winner == item.gold)


def _holds_answer(item: Item, output: Output) -> float | None:
    text = f" {_plain(output.text or '')} "
    return float(any(f" {_plain(answer)} " in text for answer in item.accepted)) if item.accepted else None


def _nothing(item: Item, output: Output) -> None:  # noqa: ARG001
    return None


def _plain(text: str) -> str:
    """Lower case, without articles and punctuation, single spaces: as SQuAD's evaluation compares answers."""
    text = "".join(" " if c in string.punctuation else c for c in text.lower())
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", text).split())


def _value_of(segment: Segment) -> str:
    return segment.text.rsplit('"', 2)[1]


def _named_value(item: Item, output: Output) -> str | None:
    text = (output.text or "").strip().lstrip('"')
    return next((s.id for s in item.request.segments if text.startswith(_value_of(s))), None)


def _value_is_gold(item: Item, output: Output) -> float:
    return float(_named_value(item, output) == item.gold)


TASKS: Mapping[str, AuditTask] = {
    task.name: task
    for task in (
        AuditTask("judge", "judge", _judge_items, _winner, _winner_is_gold),
        AuditTask("choice", "choose", _choice_items, _winner, _winner_is_gold),
        AuditTask("rank", "rank", _passage_items("rank"), _winner, _winner_is_gold),
        AuditTask("qa", "answer", _passage_items("answer"), _nothing, _holds_answer, chance=False),
        AuditTask(
            "kv",
            "answer",
            _kv_items,
            _named_value,
            _value_is_gold,
            chance=False,
            template=KEY_VALUE,
            decoding=Decoding(max_new_tokens=12),
        ),
    )
}
