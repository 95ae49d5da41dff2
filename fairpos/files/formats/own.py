"""fairpos's own JSONL: `id, instruction, answers: [{id, text}]`, or `response_a, response_b` (ids A and B)."""

from __future__ import annotations

from pathlib import Path

from fairpos.files.formats.base import Format, Prompts, register
from fairpos.files.records import Lines, Record, read


def _read(path: Path, baseline: str | None) -> Lines:
    return read(path)


def _write(record: Record, verdict: Record, prompts: Prompts) -> Record:
    return verdict


register(Format("fairpos", "JSONL: id, instruction, answers or response_a and response_b", _read, _write))
