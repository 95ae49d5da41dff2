"""A table with one row a record, for spreadsheets: our own fields in, verdicts without their views out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from fairpos.files.formats.base import Format, Prompts, Source, register
from fairpos.files.items import Item
from fairpos.files.records import Lines, Record
from fairpos.files.table import write_rows
from fairpos.files.verdict import Verdict


def read_rows_of(source: Source) -> Lines:
    """The rows as records; a cell of answers may be a JSON list."""
    return source.records()


def write_row(item: Item, verdict: Verdict, prompts: Prompts) -> Record:
    """A verdict as a row: who won, why there is no verdict, the scores and models by answer, and what it cost."""
    told = verdict.to_record()
    row: Record = {name: told.get(name) for name in ("id", "winner", "status", "gold", "correct", "tie", "group")}
    row |= {f"score_{id}": score for id, score in verdict.scores.items()}
    row |= {f"model_{id}": model for id, model in verdict.models.items()}
    row |= {"calls": verdict.usage.calls, "cached": verdict.usage.cached}
    row |= {"prompt_tokens": verdict.usage.prompt_tokens, "completion_tokens": verdict.usage.completion_tokens}
    return row | {"methods": verdict.methods, "judge": verdict.judge, "notes": "; ".join(verdict.notes)}


def save_table(path: Path, records: Sequence[Record], source: Source) -> None:
    """Writes the rows; tabs part them where the name ends in .tsv."""
    write_rows(path, records)


register(
    Format(
        "csv",
        "a table: id, instruction, response_a, response_b; verdicts a row",
        read_rows_of,
        write_row,
        save_table,
        holds_any=True,
    )
)
