"""Pairs of answers in a CSV file: columns instruction, a, b and, where it is known, gold (a or b)."""

from __future__ import annotations

from fairpos.errors import InvalidRequest
from fairpos.files.formats.base import Format, Prompts, Source, converted, register
from fairpos.files.items import Item
from fairpos.files.records import Lines, Record, text_of
from fairpos.files.verdict import Verdict


def read_csv(source: Source) -> Lines:
    """The rows as records of ours; rows without the columns are bad lines."""
    return converted(source.records(), pair_of)


def pair_of(row: Record, number: int) -> Record:
    """One row as a record; raises InvalidRequest for a row that can't be used, which then is a bad line."""
    answers = [{"id": name, "text": text_of(row, name)} for name in ("a", "b")]
    record: Record = {"id": str(number), "instruction": text_of(row, "instruction"), "answers": [*answers]}
    gold = row.get("gold")
    if gold:
        if gold not in ("a", "b"):
            raise InvalidRequest(f"gold must be a or b, got {gold!r}")
        record["gold"] = gold
    return record


def write_row(item: Item, verdict: Verdict, prompts: Prompts) -> Record:
    """The verdict as a flat record; a tie and no verdict at all are not the same."""
    return {"id": item.id, "winner": verdict.winner, "status": verdict.status, "methods": verdict.methods}


CSV_PAIRS = register(Format("csv_pairs", "CSV: instruction, a, b, gold; verdicts as JSONL", read_csv, write_row))
