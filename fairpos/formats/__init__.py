"""Files of other judging tools, in their own field names: one format a file."""

from __future__ import annotations

from collections.abc import Mapping

from fairpos.formats import alpaca_eval, arena_hard, fastchat, inspect_ai, own
from fairpos.formats.base import Format
from fairpos.registry import unknown

FORMATS: Mapping[str, Format] = {
    module.FORMAT.name: module.FORMAT for module in (own, fastchat, arena_hard, alpaca_eval, inspect_ai)
}


def find(name: str) -> Format:
    """The format of that name.

    Raises:
        UnknownName: there is none.
    """
    if name not in FORMATS:
        raise unknown("format", name, FORMATS)
    return FORMATS[name]


__all__ = ["FORMATS", "Format", "find"]
