"""Tables with a header, parted by commas, semicolons or tabs: `.csv` and `.tsv`, packed or not."""

from __future__ import annotations

import csv
import io
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from fairpos.errors import InvalidRequest
from fairpos.files.text import Json, read_text, write_text

# Fields that hold lists: their cells are JSON, if they look like it.
_LISTS = frozenset({"answers", "passages", "options", "pairs", "gold", "questions"})


def is_table(path: Path) -> bool:
    """Whether a file's name says so."""
    return path.name.lower().removesuffix(".gz").endswith((".csv", ".tsv"))


def read_rows(path: Path) -> Iterator[tuple[int, dict[str, Json] | str]]:
    """(line number, row by column) of each row; instead of a row that can't be used, why.

    Raises:
        InvalidRequest: the file can't be read, or its header isn't one.
    """
    text = read_text(path)
    csv.field_size_limit(min(sys.maxsize, 2**31 - 1))  # answers are longer than the 128 KB that are the default
    rows = csv.reader(io.StringIO(text, newline=""), delimiter=_delimiter_of(path, text.partition("\n")[0]))
    try:
        header = [name.strip() for name in next(rows, [])]
        if len(set(header)) < len(header) or not any(header):
            raise InvalidRequest(f"{path} needs a header with different names, got {', '.join(header) or 'nothing'}")
        end = rows.line_num
        for cells in rows:
            number, end = end + 1, rows.line_num
            if not any(cells):
                continue
            if len(cells) != len(header):
                yield number, f"has {len(cells)} cells, the header has {len(header)}"
            else:
                yield number, {name: _value_of(name, cell) for name, cell in zip(header, cells, strict=True)}
    except csv.Error as error:
        raise InvalidRequest(f"can't read {path} line {rows.line_num}: {error}") from None


def write_rows(path: Path, rows: Sequence[Mapping[str, object]]) -> None:
    """Writes rows under a header of all their columns, in the order in which they first occur.

    Raises:
        InvalidRequest: it can't be written.
    """
    columns = list(dict.fromkeys(name for row in rows for name in row))
    out = io.StringIO(newline="")
    writer = csv.DictWriter(out, columns, lineterminator="\n", delimiter=_delimiter_of(path, ""))
    writer.writeheader()
    writer.writerows(rows)
    write_text(path, out.getvalue())


def _delimiter_of(path: Path, header: str) -> str:
    if path.name.lower().removesuffix(".gz").endswith(".tsv"):
        return "\t"
    return ";" if ";" in header and "," not in header else ","


def _value_of(name: str, cell: str) -> Json:
    if name in _LISTS and cell.lstrip().startswith("["):
        try:
            found: Json = json.loads(cell)
            return found
        except ValueError:
            return cell
    return cell
