"""inspect_ai's samples: input, choices, target, id, metadata; results are the sample with a score named "fairpos".

The choices are the candidates, in slots A, B, ...; a target that is one of these letters is the gold verdict.
"""

from __future__ import annotations

from fairpos.errors import InvalidRequest
from fairpos.files.formats.base import Format, Prompts, Source, array_or_lines, converted, origin_of, register
from fairpos.files.items import Item
from fairpos.files.records import Json, Lines, Record, objects_of, text_of
from fairpos.files.verdict import Verdict
from fairpos.prompts import slot_labels


def read_samples(source: Source) -> Lines:
    """Samples as records of ours."""
    return converted(array_or_lines(source.path), _record_of)


def _record_of(sample: Record, number: int) -> Record:
    choices = sample.get("choices")
    if not isinstance(choices, list) or len(choices) < 2 or not all(isinstance(choice, str) for choice in choices):
        raise InvalidRequest(f"choices must be a list of 2 or more texts, got {choices!r}")
    letters = slot_labels("choose", len(choices))
    answers: list[Json] = [{"id": letter, "text": choice} for letter, choice in zip(letters, choices, strict=True)]
    record: Record = {
        "id": text_of(sample, "id") if sample.get("id") is not None else str(number),
        "instruction": _input_of(sample),
        "answers": answers,
        "origin": sample,
    }
    target = sample.get("target")
    target = target[0] if isinstance(target, list) and len(target) == 1 else target
    if isinstance(target, str) and target in letters:
        record["gold"] = target
    return record


def _input_of(sample: Record) -> str:
    """A text, or chat messages of which the users' count."""
    if isinstance(sample.get("input"), str):
        return text_of(sample, "input")
    messages = objects_of(sample.get("input"), "input")
    texts = [text_of(message, "content") for message in messages if message.get("role") == "user"]
    if not texts:
        raise InvalidRequest("input has no message of a user")
    return "\n\n".join(texts)


def write_sample(item: Item, verdict: Verdict, prompts: Prompts) -> Record:
    """The sample with a score."""
    value: Json = verdict.winner
    if not verdict.is_decided:
        value = "N"  # inspect_ai's value for no answer
    elif verdict.gold is not None:
        value = "C" if verdict.is_correct else "I"
    explanation = "\n\n".join(view.text for view in verdict.views if view.text)
    told = verdict.to_record()
    score: Record = {
        "value": value,
        "answer": verdict.winner,
        "explanation": explanation or None,
        "metadata": {name: told.get(name) for name in ("methods", "judge", "scores", "status", "usage")},
    }
    return {**origin_of(item), "epoch": 1, "scores": {"fairpos": score}}


register(
    Format(
        "inspect_ai", "samples: input, choices, target, id, metadata; samples with scores", read_samples, write_sample
    )
)
