"""Multiple-choice questions as they are published, read as `{id, question, options, gold_index}`.

    own                                {question | query, options, gold | gold_index}
    MMLU                               {question, choices, answer}             answer: 2, or "C"
    MMLU-Pro                           {question, options, answer, answer_index}
    ARC, CommonsenseQA, OpenBookQA     {question | question_stem, choices: {text, label}, answerKey}
    the same from their makers         {question: {stem, choices: [{label, text}, ...]}, answerKey}
    HellaSwag                          {ctx, endings, label}                   label: 3, or "3"
    TruthfulQA                         {question, mc1_targets: {choices, labels}}
    inspect_ai's samples               {input, choices, target}                target: "C"

A record without an id is called by its line. What is right may also be written out, as the option's own text. Nothing
is guessed: a name that two options could claim, or none, is an error.
"""

from __future__ import annotations

import string
from collections.abc import Sequence

from fairpos.errors import InvalidRequest
from fairpos.files.records import Json, Record, objects_of

_QUESTIONS = ("query", "question", "question_stem", "ctx", "input")
_IDS = ("id", "question_id", "ind")
_RIGHT = ("answer_index", "answerKey", "answer", "target", "label")
_COUNTED_IN_TEXT = ("label",)  # HellaSwag's places are texts: "0" is the first
_UNKNOWN: tuple[Json, ...] = (None, "", -1, "-1")  # how test sets keep it to themselves


def is_choice(record: Record) -> bool:
    """Whether a record looks like a question with options, of any of the shapes."""
    inner = record.get("question")
    return any(name in record for name in ("options", "choices", "endings", "mc1_targets")) or (
        isinstance(inner, dict) and "choices" in inner
    )


def published_choice(line: int, record: Record) -> Record:
    """A record of any of the shapes, with the fields `id, question, options` and, where it is known, `gold_index`.

    Args:
        line: Its line number: its id, where it has none.
        record: The record. One of our own shape comes back as it is, but for the id.

    Raises:
        InvalidRequest: two fields, or two readings of one, say different options, or none that is there.
    """
    inner = record.get("question")
    if isinstance(inner, dict):
        record = record | {"question": inner.get("stem"), "choices": inner.get("choices")}
    named = {"id": next((record[name] for name in _IDS if record.get(name) is not None), line)}
    if "options" in record and not any(name in record for name in ("answer", "answer_index", "answerKey")):
        return record | named
    options, labels, marked = _options_of(record)
    question = next((record[name] for name in _QUESTIONS if name in record), None)
    found: Record = record | named | {"question": question, "options": options}
    found.pop("query", None)
    if "gold" in record or "gold_index" in record:
        return found
    said = {name: _place_of(record[name], name, options, labels) for name in _RIGHT if record.get(name) not in _UNKNOWN}
    said |= {} if marked is None else {"mc1_targets": marked}
    if len(set(said.values())) > 1:
        told = ", ".join(f"{name} {record[name]!r}" for name in said)
        raise InvalidRequest(f"its fields say different options: {told}")
    return found | {"gold_index": next(iter(said.values()))} if said else found


def _options_of(record: Record) -> tuple[list[Json], list[Json], int | None]:
    """The options, their labels (A, B, ... where they have none), and which is marked as the right one."""
    if isinstance(targets := record.get("mc1_targets"), dict):
        texts, marks = _list_in(targets, "choices", "mc1_targets"), _list_in(targets, "labels", "mc1_targets")
        if len(texts) != len(marks) or marks.count(1) != 1:
            raise InvalidRequest("mc1_targets must mark one of its choices with 1")
        return texts, [], marks.index(1)
    name = next((name for name in ("options", "choices", "endings") if name in record), "options")
    value = record.get(name)
    if isinstance(value, dict):
        texts, labels = _list_in(value, "text", name), _list_in(value, "label", name)
        if len(texts) != len(labels):
            raise InvalidRequest(f"{name} has {len(texts)} texts and {len(labels)} labels")
        return texts, labels, None
    if not isinstance(value, list):
        raise InvalidRequest(f"field {name!r} must be a list" if name in record else "no field 'options'")
    if value and all(isinstance(item, dict) and "label" in item for item in value):
        labelled = objects_of(value, name)
        return [item.get("text") for item in labelled], [item["label"] for item in labelled], None
    return list(value), [], None


def _list_in(record: Record, name: str, field: str) -> list[Json]:
    value = record.get(name)
    if not isinstance(value, list):
        raise InvalidRequest(f"{field} must have a list {name!r}, got {value!r}")
    return value


def _place_of(value: Json, field: str, options: Sequence[Json], labels: Sequence[Json]) -> int:
    """The place, from 0, that a field means: by label, letter, number or the option's own text."""
    texts = [option.get("text") if isinstance(option, dict) else option for option in options]
    readings: set[int] = {place for place, text in enumerate(texts) if isinstance(value, str) and text == value}
    if labels:
        readings |= {place for place, label in enumerate(labels) if str(label) == str(value)}
    elif isinstance(value, str) and len(value.strip()) == 1 and value.strip() in string.ascii_uppercase:
        readings |= {string.ascii_uppercase.index(value.strip())}
    elif isinstance(value, int) and not isinstance(value, bool):
        readings |= {value}
    elif isinstance(value, str) and field in _COUNTED_IN_TEXT and value.strip().isdecimal():
        readings |= {int(value)}
    if len(readings) != 1 or not 0 <= (place := readings.pop()) < len(options):
        names = [str(label) for label in labels] or list(string.ascii_uppercase[: len(options)])
        raise InvalidRequest(f"{field} must name one of the options ({', '.join(names)}), got {value!r}")
    return place
