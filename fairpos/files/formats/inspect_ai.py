"""inspect_ai's samples: input, choices, target, id, metadata; results are the sample with a score named "fairpos".

The choices are the candidates, in slots A, B, ...; a target that is one of these letters is the gold verdict.
"""

from __future__ import annotations

from pathlib import Path

from fairpos.errors import InvalidRequest
from fairpos.files.formats.base import Format, Prompts, array_or_lines, converted, objects, register
from fairpos.files.records import Json, Lines, Record, text_of
from fairpos.prompts import slot_labels


def _read(path: Path, baseline: str | None) -> Lines:
    return converted(array_or_lines(path), _record)


def _record(sample: Record, number: int) -> Record:
    choices = sample.get("choices")
    if not isinstance(choices, list) or len(choices) < 2 or not all(isinstance(choice, str) for choice in choices):
        raise InvalidRequest(f"choices must be a list of 2 or more texts, got {choices!r}")
    letters = slot_labels("choose", len(choices))
    answers: list[Json] = [{"id": letter, "text": choice} for letter, choice in zip(letters, choices, strict=True)]
    record: Record = {
        "id": text_of(sample, "id") if sample.get("id") is not None else str(number),
        "instruction": _input(sample),
        "answers": answers,
        "origin": sample,
    }
    target = sample.get("target")
    target = target[0] if isinstance(target, list) and len(target) == 1 else target
    if isinstance(target, str) and target in letters:
        record["gold"] = target
    return record


def _input(sample: Record) -> str:
    """A text, or chat messages of which the users' count."""
    if isinstance(sample.get("input"), str):
        return text_of(sample, "input")
    messages = objects(sample.get("input"), "input")
    texts = [text_of(message, "content") for message in messages if message.get("role") == "user"]
    if not texts:
        raise InvalidRequest("input has no message of a user")
    return "\n\n".join(texts)


def _write(record: Record, verdict: Record, prompts: Prompts) -> Record:
    sample = record["origin"]
    assert isinstance(sample, dict)
    winner, gold = verdict.get("winner"), record.get("gold")
    value: Json = winner
    if verdict.get("status") not in ("ok", "partial"):
        value = "N"  # inspect_ai's value for no answer
    elif gold is not None:
        value = "C" if winner == gold else "I"
    views = objects(verdict.get("views", []), "views")
    explanation = "\n\n".join(str(view["text"]) for view in views if view.get("text"))
    score: Record = {
        "value": value,
        "answer": winner,
        "explanation": explanation or None,
        "metadata": {name: verdict.get(name) for name in ("methods", "judge", "scores", "status", "usage")},
    }
    return {**sample, "epoch": 1, "scores": {"fairpos": score}}


register(Format("inspect_ai", "samples: input, choices, target, id, metadata; samples with scores", _read, _write))
