"""inspect_ai: datasets of samples (input, choices, target, id, metadata), and its logs, `.eval` and `.json`.

The choices are the candidates, in slots A, B, ...; a target that is one of these letters is the gold verdict. A log has
a sample once an epoch: they hold the same choices, so it is judged once, and every epoch gets the score. Results are
the samples, or the whole log, with a score named "fairpos".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from fairpos.errors import InvalidOption, InvalidRequest
from fairpos.files.eval_log import is_eval_log, read_eval_log, write_eval_log
from fairpos.files.formats.base import (
    Format,
    Prompts,
    Source,
    content_text,
    converted,
    origin_of,
    register,
    save_array,
    save_lines,
)
from fairpos.files.items import Item
from fairpos.files.records import Json, Lines, Record, objects_of, renamed, text_of
from fairpos.files.verdict import Verdict
from fairpos.prompts import slot_labels

_SCORE = "fairpos"
_REFERENCE = "attachment://"  # long texts of a log stand apart


def read_samples(source: Source) -> Lines:
    """Samples as records of ours."""
    if not is_eval_log(source.path):
        return converted(source.records(), _record_of)
    lines = Lines()
    seen: set[str] = set()
    for number, sample in enumerate(read_eval_log(source.path).samples, 1):
        name = str(sample.get("id"))
        if name not in seen:
            seen.add(name)
            lines.add(number, _resolve_attachments(sample))
    return converted(renamed(lines, source.fields), _record_of)


def _resolve_attachments(sample: Record) -> Record:
    """The sample with the texts that its input and choices refer to."""
    attachments = sample.get("attachments")
    texts: Mapping[str, Json] = attachments if isinstance(attachments, dict) else {}

    def put_in(value: Json) -> Json:
        if isinstance(value, str) and value.startswith(_REFERENCE):
            return texts.get(value.removeprefix(_REFERENCE), value)
        if isinstance(value, list):
            return [put_in(item) for item in value]
        return {key: put_in(item) for key, item in value.items()} if isinstance(value, dict) else value

    return {key: put_in(value) if key in ("input", "choices") else value for key, value in sample.items()}


def _record_of(sample: Record, number: int) -> Record:
    choices = sample.get("choices")
    if not isinstance(choices, list) or len(choices) < 2:
        raise InvalidRequest(f"choices must be a list of 2 or more texts, got {choices!r}")
    letters = slot_labels("choose", len(choices))
    answers: list[Json] = []
    for letter, choice in zip(letters, choices, strict=True):
        answers.append({"id": letter, "text": content_text(choice, f"choice {letter}")})
    record: Record = {
        "id": text_of(sample, "id") if sample.get("id") is not None else str(number),
        "instruction": _input_of(sample),
        "answers": answers,
        "origin": {name: value for name, value in sample.items() if name not in ("events", "events_data")},
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
    texts = [content_text(message.get("content"), "input") for message in messages if message.get("role") == "user"]
    if not any(text.strip() for text in texts):
        raise InvalidRequest("input has no message of a user")
    return "\n\n".join(texts)


def write_sample(item: Item, verdict: Verdict, prompts: Prompts) -> Record:
    """The sample with a score."""
    # A bare letter is a mark to inspect_ai: it reads the choice "C" as correct, "I" as incorrect, "P" as half of it.
    value: Json = "tie" if verdict.winner is None else f"choice {verdict.winner}"
    if not verdict.is_decided:
        value = "N"  # its value for no answer
    elif verdict.gold:
        value = "C" if verdict.is_correct else "I"
    explanation = "\n\n".join(view.text for view in verdict.views if view.text)
    told = verdict.to_record()
    score: Record = {
        "value": value,
        "answer": verdict.winner,
        "explanation": explanation or None,
        "metadata": {name: told.get(name) for name in ("methods", "judge", "scores", "status", "usage")},
    }
    sample = origin_of(item)
    scores = sample.get("scores")
    kept = scores if isinstance(scores, dict) else {}
    return {**sample, "epoch": sample.get("epoch", 1), "scores": {**kept, _SCORE: score}}


def save_samples(path: Path, records: Sequence[Record], source: Source) -> None:
    """Writes the whole log with the scores in it; of a dataset, its samples.

    Raises:
        InvalidOption: a log is wanted of a dataset that is none.
    """
    if path.suffix == ".jsonl":
        save_lines(path, records, source)
    elif is_eval_log(source.path):
        scores = {str(record["id"]): record["scores"] for record in records}
        _save_log(path, source.path, {id: found[_SCORE] for id, found in scores.items() if isinstance(found, dict)})
    elif path.suffix == ".eval":
        raise InvalidOption(f"{source.path} is a dataset, not a log; name a .json or .jsonl file instead of {path}")
    elif path.suffix == ".json":
        save_array(path, records, source)
    else:
        save_lines(path, records, source)


def _save_log(path: Path, log: Path, scores: Mapping[str, Json]) -> None:
    values = [score.get("value") for score in scores.values() if isinstance(score, dict)]
    right = [float(value == "C") for value in values if value in ("C", "I", "N")]

    def with_score(sample: Record) -> Record:
        had = sample.get("scores")
        score = scores.get(str(sample.get("id")))
        return (
            sample if score is None else {**sample, "scores": {**(had if isinstance(had, dict) else {}), _SCORE: score}}
        )

    def with_result(header: Record) -> Record:
        results = header.get("results")
        if not isinstance(results, dict) or not right:
            return header
        accuracy: Json = {"name": "accuracy", "value": sum(right) / len(right), "params": {}}
        entry: Json = {"name": _SCORE, "scorer": _SCORE, "params": {}, "metrics": {"accuracy": accuracy}}
        had = [each for each in objects_of(results.get("scores") or [], "scores") if each.get("name") != _SCORE]
        return {**header, "results": {**results, "scores": [*had, entry]}}

    write_eval_log(path, read_eval_log(log).changed(with_score, with_result))


register(
    Format(
        "inspect_ai",
        "datasets (input, choices, target) and logs, .eval or .json; the same with scores",
        read_samples,
        write_sample,
        save_samples,
    )
)
