"""What is audited: how a file becomes items, and how an output is scored.

    judge   {id, instruction, answers | response_a, response_b, gold?}          the winner is the gold answer
    choice  {id, question, options, gold_index | gold}, or as published         the winner is the gold option
    rank    {id, query, passages, gold}, or groups (below)                      the gold passage is ranked first
    qa      {id, query, passages, answers, gold?}, or groups                    the text holds an accepted answer
    kv      {id, pairs: [[key, value], ...]}                                    the text starts with the value
    shots   {id, query, examples: [{input, label}, ...], label}                 the text starts with the label

A group is `{group, passages, questions: [{id, question, answers, gold_index}]}`: every question is asked on the
passages of its group. Shapes in which multiple-choice questions are published: `fairpos.files.choices`.
"""

from __future__ import annotations

import re
import string
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from fairpos.backends.base import Decoding
from fairpos.errors import InvalidOption, InvalidRequest
from fairpos.files.choices import is_choice
from fairpos.files.examples import label_of, shots_item
from fairpos.files.formats.base import FORMATS, Source
from fairpos.files.items import (
    TIE,
    Item,
    accepted_of,
    choice_item,
    first_of,
    index_of,
    judge_item,
    pairs_of,
    passage_item,
)
from fairpos.files.items import read_items as items_from
from fairpos.files.records import Bad, Lines, Record, objects_of, read, segments_of, text_of
from fairpos.passages import as_segments
from fairpos.prompts import FEW_SHOT, KEY_VALUE, Template
from fairpos.types import Output, Request, Segment, Task


@dataclass(frozen=True, slots=True)
class AuditTask:
    """A kind of audit.

    Attributes:
        name: On the command line.
        asks: The task of its requests.
        items: (line number, record, number of segments or None) -> items.
        picked: The segment that an output names, or None.
        correct: The score of an output, 0 to 1; None where there is no gold.
        chance: Whether guessing is right once in k; otherwise never.
        template: None takes the task's own.
        decoding: For answers in text.
    """

    name: str
    asks: Task
    items: Callable[[int, Record, int | None], Iterator[Item]]
    picked: Callable[[Item, Output], str | None]
    correct: Callable[[Item, Output], float | None]
    chance: bool = True
    template: Template | None = None
    decoding: Decoding = field(default_factory=lambda: Decoding(max_new_tokens=32))


def read_items(
    task: AuditTask, path: Path, *, segments: int | None = None, limit: int | None = None, format: str = "fairpos"
) -> tuple[list[Item], list[Bad]]:
    """The items of a file, and the lines that can't be used.

    Args:
        task: What the records are.
        path: JSONL, or what the format says.
        format: Name of a format that `fairpos judge` reads; for tasks judge and choice.
        segments: How many segments an item has: pairs and groups are cut to it; other items must have so many.
        limit: At most so many items.

    Raises:
        InvalidRequest: the file can't be read, or items have different numbers of segments.
        UnknownName: there is no such format.
        InvalidOption: the task has no candidates that such a file could hold.
    """

    def items_of(line: int, record: Record) -> Iterator[Item]:
        for item in task.items(line, record, segments):
            if segments is not None and len(item.request.segments) != segments:
                raise InvalidRequest(f"has {len(item.request.segments)} segments, not {segments}")
            yield item

    items, bad = items_from(read(path) if format == "fairpos" else _read_format(task, path, format), items_of)
    chosen = items[:limit]
    counts = sorted({len(item.request.segments) for item in chosen})
    if len(counts) > 1:
        raise InvalidRequest(
            f"items of {path} have {', '.join(map(str, counts))} segments; an audit needs one number: use --segments"
        )
    return chosen, bad


# Records


def _read_format(task: AuditTask, path: Path, name: str) -> Lines:
    """The records of another tool's file, as the task has them."""
    found = FORMATS.find(name)
    if task.asks not in ("judge", "choose"):
        raise InvalidOption(f"--from {name} is for tasks judge and choice; got {task.name}")
    if path.is_dir():
        raise InvalidRequest(f"{path} is a folder; an audit is of one file")
    lines = found.read(Source(path))
    if task.asks == "judge":
        return lines
    names = {"instruction": "question", "answers": "options"}
    renamed = [
        (number, {names.get(key, key): value for key, value in record.items()}) for number, record in lines.records
    ]
    return replace(lines, records=renamed)


def _judge_items(line: int, record: Record, segments: int | None) -> Iterator[Item]:  # noqa: ARG001
    yield judge_item(line, record)


def _choice_items(line: int, record: Record, segments: int | None) -> Iterator[Item]:  # noqa: ARG001
    yield choice_item(line, record)


def _shots_items(line: int, record: Record, segments: int | None) -> Iterator[Item]:
    item = shots_item(line, record)
    kept = list(range(min(segments or len(item.request.segments), len(item.request.segments))))
    shown = item.request.part(kept)
    right = tuple(id for id in item.relevant if id in shown.ids)
    yield replace(item, request=shown, gold=first_of(right), relevant=right)


def _passage_items(asks: Task) -> Callable[[int, Record, int | None], Iterator[Item]]:
    def items(line: int, record: Record, segments: int | None) -> Iterator[Item]:
        if "questions" not in record:
            yield passage_item(line, record, task=asks)
            return
        passages = as_segments(segments_of(record, "passages"))
        size = segments or len(passages)
        for question in objects_of(record["questions"], "questions"):
            index = index_of(question, len(passages))
            first = index // size * size
            block = passages[first : first + size]
            if len(block) == size:
                request = Request(asks, text_of(question, "question"), block)
                gold = passages[index].id
                yield Item(text_of(question, "id"), request, gold, accepted_of(question), line, (gold,), question)

    return items


def _kv_items(line: int, record: Record, segments: int | None) -> Iterator[Item]:
    chosen = pairs_of(record)[:segments]
    id = text_of(record, "id")
    texts = [Segment(id=str(i), text=f'"{key}": "{value}"') for i, (key, value) in enumerate(chosen, 1)]
    # Which pair is asked for doesn't matter, as it will stand at every position: the middle one.
    middle = len(chosen) // 2
    shown = as_segments(texts)
    key, value = chosen[middle]
    yield Item(id, Request("answer", key, shown), str(middle + 1), (value,), line)


# Scores


def _named_winner(item: Item, output: Output) -> str | None:  # noqa: ARG001
    return output.winner


def _winner_is_gold(item: Item, output: Output) -> float | None:
    if item.gold is None:
        return None
    tied = output.winner is None and output.status == "ok"
    if item.gold == TIE:
        return float(tied)
    if tied:
        return 1.0 / len(item.request.segments)  # a tie is worth a guess
    return float(output.winner == item.gold)


def _holds_answer(item: Item, output: Output) -> float | None:
    text = f" {_normalized_text(output.text or '')} "
    return float(any(f" {_normalized_text(answer)} " in text for answer in item.accepted)) if item.accepted else None


def _names_none(item: Item, output: Output) -> None:  # noqa: ARG001
    return None


def _normalized_text(text: str) -> str:
    """Lower case, without articles and punctuation, single spaces: as SQuAD's evaluation compares answers."""
    text = "".join(" " if c in string.punctuation else c for c in text.lower())
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", text).split())


def value_of(segment: Segment) -> str:
    """The value of a key-value pair (task kv)."""
    return segment.text.rsplit('"', 2)[1]


def _named_value(item: Item, output: Output) -> str | None:
    text = (output.text or "").strip().lstrip('"')
    return next((s.id for s in item.request.segments if text.startswith(value_of(s))), None)


def _value_is_gold(item: Item, output: Output) -> float:
    return float(_named_value(item, output) == item.gold)


def _starts_with(text: str, label: str) -> bool:
    """Whether a text begins with all words of a label."""
    return f"{_normalized_text(text)} ".startswith(f"{_normalized_text(label)} ")


def _named_label(item: Item, output: Output) -> str | None:
    """The first example with the label that the text starts with; the longest, where one label begins another."""
    said = [s for s in item.request.canonical().segments if _starts_with(output.text or "", label_of(s))]
    return max(said, key=lambda segment: len(label_of(segment))).id if said else None


def _label_is_right(item: Item, output: Output) -> float | None:
    if not item.accepted:
        return None
    named = _named_label(item, output)
    if named is None:  # a label that no example has may be right all the same
        return float(any(_starts_with(output.text or "", label) for label in item.accepted))
    label = next(label_of(segment) for segment in item.request.segments if segment.id == named)
    return float(label in item.accepted)


_REASONED = Decoding(max_new_tokens=512)  # a verdict in words comes after its reasons

TASKS: Mapping[str, AuditTask] = {
    task.name: task
    for task in (
        AuditTask("judge", "judge", _judge_items, _named_winner, _winner_is_gold, decoding=_REASONED),
        AuditTask("choice", "choose", _choice_items, _named_winner, _winner_is_gold, decoding=_REASONED),
        AuditTask("rank", "rank", _passage_items("rank"), _named_winner, _winner_is_gold),
        AuditTask("qa", "answer", _passage_items("answer"), _names_none, _holds_answer, chance=False),
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
        AuditTask(
            "shots",
            "answer",
            _shots_items,
            _named_label,
            _label_is_right,
            chance=False,
            template=FEW_SHOT,
            decoding=Decoding(max_new_tokens=8),
        ),
    )
}


def guess_task(path: Path) -> AuditTask:
    """The task that the first record of a file looks like.

    Raises:
        InvalidRequest: it looks like none.
    """
    record = next((record for _, record in read(path).records), {})
    questions = record.get("questions")
    accepted = "answers" in record or (
        isinstance(questions, list) and bool(questions) and isinstance(questions[0], dict) and "answers" in questions[0]
    )
    looks_like = {
        "judge": "instruction" in record,
        "choice": is_choice(record),
        "kv": "pairs" in record,
        "shots": "examples" in record,
        "qa": "passages" in record and accepted,
        "rank": "passages" in record,
    }
    name = next((task for task, does in looks_like.items() if does), None)
    if name is None:
        raise InvalidRequest(
            f"can't tell the task of {path}: its first record has {', '.join(record) or 'nothing'}; name it with --task"
        )
    return TASKS[name]
