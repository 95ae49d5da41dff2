"""AlpacaEval: annotations with instruction, output_1, output_2, and the preference 1, 2 or 1.5.

`preference` is 1 + P(output_2) where the judge gave a distribution, as in the tool's weighted annotators; otherwise 1,
2, or 1.5 for a tie; null where there is no verdict.
"""

from __future__ import annotations

import math

from fairpos.files.formats.base import (
    Format,
    Prompts,
    Source,
    array_or_lines,
    converted,
    origin_of,
    register,
    save_array,
)
from fairpos.files.items import Item
from fairpos.files.records import Json, Lines, Record, text_of
from fairpos.files.verdict import Verdict, two_games


def read_pairs(source: Source) -> Lines:
    """Pairs of outputs as records of ours."""
    return converted(array_or_lines(source.path), _pair_of)


def _pair_of(record: Record, number: int) -> Record:
    answers: list[Json] = []
    for slot in ("1", "2"):
        answer: Record = {"id": f"output_{slot}", "text": text_of(record, f"output_{slot}")}
        if record.get(f"generator_{slot}") is not None:
            answer["model"] = text_of(record, f"generator_{slot}")
        answers.append(answer)
    return {"id": str(number), "instruction": text_of(record, "instruction"), "answers": answers, "origin": record}


def write_annotation(item: Item, verdict: Verdict, prompts: Prompts) -> Record:
    """The tool's own record with the judge's preference."""
    one, two = (game.evidence for game in two_games(verdict, "output_1", "output_2"))
    kept = {name: value for name, value in origin_of(item).items() if name not in ("preference", "raw_completion")}
    return {
        **kept,
        "annotator": f"{verdict.judge} fairpos-{verdict.methods}",
        "preference": preference(verdict),
        "raw_completion": one if one == two else f"{one}\n\n{two}",
    }


def preference(verdict: Verdict) -> float | None:
    """1 to 2: how much output_2 is preferred; None: there is no verdict."""
    if not verdict.is_decided:
        return None
    scores = verdict.scores
    if set(scores) == {"output_1", "output_2"} and verdict.tie is None and verdict.winner:
        first, second = scores["output_1"], scores["output_2"]
        if not (math.isfinite(first) and math.isfinite(second)):
            return 2.0 if first < second else 1.0
        return 1.0 + 1.0 / (1.0 + math.exp(min(700.0, first - second)))
    return {"output_1": 1.0, "output_2": 2.0}.get(str(verdict.winner), 1.5)


register(
    Format(
        "alpaca_eval",
        "JSON array: instruction, output_1, output_2; annotations with preference",
        read_pairs,
        write_annotation,
        save_array,
    )
)
