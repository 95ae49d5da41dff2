"""AlpacaEval: annotations with instruction, output_1, output_2, and the preference 1, 2 or 1.5.

`preference` is 1 + P(output_2) where the judge gave a distribution, as in the tool's weighted annotators; otherwise 1,
2, or 1.5 for a tie; null where there is no verdict.
"""

from __future__ import annotations

import math
from pathlib import Path

from fairpos.files.formats.base import Format, Prompts, array_or_lines, converted, games, register
from fairpos.files.records import Json, Lines, Record, text_of


def _read(path: Path, baseline: str | None) -> Lines:
    return converted(array_or_lines(path), _record)


def _record(record: Record, number: int) -> Record:
    answers: list[Json] = []
    for slot in ("1", "2"):
        answer: Record = {"id": f"output_{slot}", "text": text_of(record, f"output_{slot}")}
        if record.get(f"generator_{slot}") is not None:
            answer["model"] = text_of(record, f"generator_{slot}")
        answers.append(answer)
    return {"id": str(number), "instruction": text_of(record, "instruction"), "answers": answers, "origin": record}


def _write(record: Record, verdict: Record, prompts: Prompts) -> Record:
    origin = record["origin"]
    assert isinstance(origin, dict)
    _, _, one, two = games(verdict, "output_1", "output_2")
    kept = {name: value for name, value in origin.items() if name not in ("preference", "raw_completion")}
    return {
        **kept,
        "annotator": f"{verdict.get('judge')} fairpos-{verdict.get('methods')}",
        "preference": preference(verdict),
        "raw_completion": one if one == two else f"{one}\n\n{two}",
    }


def preference(verdict: Record) -> float | None:
    """1 to 2: how much output_2 is preferred."""
    scores, tie = verdict.get("scores"), verdict.get("tie")
    if verdict.get("status") not in ("ok", "partial"):
        return None
    if isinstance(scores, dict) and set(scores) == {"output_1", "output_2"} and tie is None and verdict.get("winner"):
        first, second = (scores[f"output_{slot}"] for slot in ("1", "2"))
        if not isinstance(first, int | float) or not isinstance(second, int | float):
            return 2.0 if first is None else 1.0  # one has probability 0
        return 1.0 + 1.0 / (1.0 + math.exp(min(700.0, first - second)))
    return {"output_1": 1.0, "output_2": 2.0}.get(str(verdict.get("winner")), 1.5)


register(
    Format(
        "alpaca_eval", "JSON array: instruction, output_1, output_2; annotations with preference", _read, _write, True
    )
)
