"""Values and rows of them for others: JSON, pandas, a terminal, a notebook. Knows nothing of what they are about."""

from __future__ import annotations

import dataclasses
import html
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from fairpos.extras import missing_extra

if TYPE_CHECKING:
    import pandas as pd
    from rich.table import Table

_BAR = "█"
_PARTS = " ▏▎▍▌▋▊▉"  # eighths of a character


def bar(share: float, width: int = 12) -> str:
    """A bar of text.

    Args:
        share: How much of it is filled, 0 to 1.
        width: Of a full one, in characters.
    """
    eighths = round(max(0.0, min(1.0, share)) * width * 8)
    return (_BAR * (eighths // 8) + _PARTS[eighths % 8]).strip()


def json_ready(value: object) -> object:
    """A value as JSON has it: dataclasses are objects, infinity and nan null, what JSON doesn't know is text."""
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if value is None or isinstance(value, bool | int | str):
        return value
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {each.name: json_ready(getattr(value, each.name)) for each in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): json_ready(each) for key, each in value.items()}
    if isinstance(value, Iterable):
        return [json_ready(each) for each in value]
    return str(value)


def frame_of(rows: Sequence[Mapping[str, object]]) -> pd.DataFrame:
    """The rows as a data frame.

    Raises:
        MissingDependency: pandas isn't installed.
    """
    try:
        import pandas as pd
    except ImportError as error:
        raise missing_extra("to_frame needs pandas", "frames", error) from None
    return pd.DataFrame(list(rows))


def rich_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]], caption: str = "") -> Table:
    """The rows for a terminal."""
    from rich.markup import escape
    from rich.table import Table

    table = Table(title=escape(title), caption=escape(caption) or None, title_justify="left", caption_justify="left")
    for column in columns:
        table.add_column(column)
    for row in rows:
        table.add_row(*map(escape, row))
    return table


def html_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]], caption: str = "") -> str:
    """The rows for a notebook; all values are escaped."""
    head = "".join(f"<th>{html.escape(column)}</th>" for column in columns)
    body = "".join("<tr>" + "".join(f"<td>{html.escape(value)}</td>" for value in row) + "</tr>" for row in rows)
    note = f"<p>{html.escape(caption)}</p>" if caption else ""
    return f"<p><b>{html.escape(title)}</b></p><table><tr>{head}</tr>{body}</table>{note}"
