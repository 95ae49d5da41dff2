"""fairpos's own JSONL: `id, instruction, answers: [{id, text}]`, or `response_a, response_b` (ids A and B)."""

from __future__ import annotations

from fairpos.files.formats.base import Format, Prompts, Source, register
from fairpos.files.items import Item
from fairpos.files.records import Lines, Record
from fairpos.files.verdict import Verdict


def read_records(source: Source) -> Lines:
    """The records as they are."""
    return source.records()


def write_verdict(item: Item, verdict: Verdict, prompts: Prompts) -> Record:
    """The verdict's own line."""
    return verdict.to_record()


register(
    Format(
        "fairpos",
        "JSONL, JSON or CSV: id, instruction, answers or response_a and response_b",
        read_records,
        write_verdict,
        holds_any=True,
    )
)
