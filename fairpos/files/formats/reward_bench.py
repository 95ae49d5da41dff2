"""RewardBench 1 (prompt, chosen, rejected) and 2 (one list of chosen, one of rejected); results are the record with
`results`: 1 where a chosen answer won, 0 where a rejected one did, the chosen answers' share for a tie (.5 of a pair,
.25 of one among four, as the tool counts), null where there is no verdict. Where the judge gave every answer a score,
`scores` has them, the chosen ones first: of these the tool makes its figure for the subset Ties.

The data has the chosen answer first. Here it takes a place that depends on the record's id alone, so that a judge that
prefers the first answer doesn't look right.
"""

from __future__ import annotations

import math

from fairpos.errors import InvalidRequest
from fairpos.files.formats.base import (
    Format,
    Prompts,
    Source,
    content_text,
    converted,
    origin_of,
    place_of,
    register,
)
from fairpos.files.items import Item
from fairpos.files.records import Json, Lines, Record, objects_of, optional_text
from fairpos.files.verdict import Verdict


def read_comparisons(source: Source) -> Lines:
    """Chosen and rejected answers as records of ours; all chosen ones are gold."""
    return converted(source.records(), _comparison_of)


def _comparison_of(record: Record, number: int) -> Record:
    for name in ("prompt", "chosen", "rejected"):
        if name not in record:
            raise InvalidRequest(f"no field {name!r}")
    id = optional_text(record, "id") or str(number)
    chosen, rejected = _answers_of(record, "chosen"), _answers_of(record, "rejected")
    shown = [*rejected[: (at := place_of(id, len(rejected) + 1))], *chosen, *rejected[at:]]
    return {
        "id": f"{record['subset']}:{id}" if optional_text(record, "subset") else id,
        "instruction": _prompt_of(record["prompt"]),
        "answers": [dict(answer) for answer in shown],
        "gold": [answer["id"] for answer in chosen],
        "group": id,
        "origin": record,
    }


def _prompt_of(value: Json) -> str:
    """A text, or the messages of a conversation."""
    if isinstance(value, str):
        text = value
    else:
        messages = objects_of(value, "prompt")
        users = [content_text(message.get("content"), "content") for message in messages]
        roles = [str(message.get("role") or "user").capitalize() for message in messages]
        text = users[0] if len(users) == 1 else "\n\n".join(f"{r}: {t}" for r, t in zip(roles, users, strict=True))
    if not text.strip():
        raise InvalidRequest(f"field 'prompt' must be non-empty text, got {value!r}")
    return text


def _answers_of(record: Record, kind: str) -> list[Record]:
    """The answers of a kind with their models."""
    value = record[kind]
    texts = value if isinstance(value, list) else [value]
    if not texts:
        raise InvalidRequest(f"field {kind!r} is empty")
    model = record.get(f"{kind}_model")
    models = model if isinstance(model, list) else [model] * len(texts)
    answers: list[Record] = []
    for place, text in enumerate(texts):
        if text is not None and not isinstance(text, str):
            raise InvalidRequest(f"field {kind!r} must be text or a list of texts, got {text!r}")
        answer: Record = {"id": kind if len(texts) == 1 else f"{kind}_{place + 1}", "text": text}
        if place < len(models) and models[place]:
            answer["model"] = str(models[place])
        answers.append(answer)
    return answers


def write_result(item: Item, verdict: Verdict, prompts: Prompts) -> Record:
    """The record with what came of it."""
    result: Json = None
    if verdict.is_decided:
        tied = len(verdict.gold) / len(verdict.ids)
        result = tied if verdict.winner is None else float(bool(verdict.is_correct))
    found: Record = {
        **origin_of(item),
        "results": result,
        "winner": verdict.winner,
        "judge": f"{verdict.judge} fairpos-{verdict.methods}",
    }
    scores = [verdict.scores.get(id) for id in (*verdict.gold, *(id for id in verdict.ids if id not in verdict.gold))]
    complete = all(score is not None and math.isfinite(score) for score in scores)
    return found | ({"scores": list(scores)} if complete else {})


register(
    Format(
        "reward_bench",
        "prompt, chosen, rejected, each a text or a list; the same with results",
        read_comparisons,
        write_result,
    )
)
