"""AlpacaEval: annotations with instruction, output_1, output_2 and preference; or two files of outputs.

With `--baseline FILE` the input holds a model's outputs (`instruction, output, generator`) and FILE those of the
reference, which is output_1, as in the tool; they are matched by their instruction and, where there is one, its input;
of several outputs for one the first meets the first.

`preference` is 1 + P(output_2) where the judge gave a distribution, as in the tool's weighted annotators; otherwise 1,
2, or 1.5 for a tie; null where there is no verdict.
"""

from __future__ import annotations

import dataclasses
import math
from collections import defaultdict, deque
from pathlib import Path

from fairpos.files.formats.base import Format, Prompts, Source, converted, origin_of, register, save_array
from fairpos.files.items import Item
from fairpos.files.records import Bad, Json, Lines, Record, answer_of, optional_text, text_of
from fairpos.files.verdict import Verdict, two_games


def read_pairs(source: Source) -> Lines:
    """Pairs of outputs as records of ours."""
    lines = source.records() if source.baseline is None else _match_outputs(source, Path(source.baseline))
    return converted(lines, _pair_of)


def _match_outputs(source: Source, reference: Path) -> Lines:
    """The two files' outputs for each instruction as one record."""
    outputs, references = source.records(), dataclasses.replace(source, path=reference).records()
    lines = Lines(bad=outputs.bad + [Bad(bad.line, f"in {reference.name}: {bad.reason}") for bad in references.bad])
    waiting: dict[tuple[str, str], deque[Record]] = defaultdict(deque)
    for _, record in references.records:
        waiting[_asked_in(record)].append(record)
    for number, record in outputs.records:
        same = waiting.get(_asked_in(record))
        first = same.popleft() if same else None
        if first is None:
            lines.bad.append(Bad(number, f"{reference.name} has no output for its instruction"))
            continue
        pair: Record = {name: value for name, value in record.items() if name not in ("output", "generator")}
        for slot, output in (("1", first), ("2", record)):
            if "output" in output:
                pair[f"output_{slot}"] = output["output"]
            pair[f"generator_{slot}"] = output.get("generator")
        lines.records.append((number, pair))
    return lines


def _asked_in(record: Record) -> tuple[str, str]:
    return str(record.get("instruction")), str(record.get("input") or "")


def _pair_of(record: Record, number: int) -> Record:
    answers: list[Json] = []
    for slot in ("1", "2"):
        answer: Record = {"id": f"output_{slot}", "text": answer_of(record, f"output_{slot}")}
        model = optional_text(record, f"generator_{slot}")
        if model is not None:
            answer["model"] = model
        answers.append(answer)
    instruction = text_of(record, "instruction")
    if optional_text(record, "input") is not None:
        instruction += f"\n\n{record['input']}"
    return {
        "id": str(number),
        "instruction": instruction,
        "answers": answers,
        "group": instruction,
        "origin": record,
    }


def write_annotation(item: Item, verdict: Verdict, prompts: Prompts) -> Record:
    """The tool's own record with the judge's preference."""
    one, two = (game.evidence for game in two_games(verdict, "output_1", "output_2"))
    kept = {
        name: value
        for name, value in origin_of(item).items()
        if name not in ("preference", "raw_completion", "annotator")
    }
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
        "instruction, output_1, output_2, or two files of outputs (--baseline FILE); annotations with preference",
        read_pairs,
        write_annotation,
        save_array,
    )
)
