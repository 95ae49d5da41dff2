"""Tables with a header: `.csv`, parted by commas, semicolons, tabs or bars, and `.tsv`; packed or not.

A `.tsv` file whose quotes don't pair has none: every line is a row. A `.csv` file whose quotes don't pair is refused,
since all that follows a quote that isn't closed would be one cell.
"""

from __future__ import annotations

import csv
import io
import json
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from fairpos.errors import InvalidRequest
from fairpos.files.text import Json, read_text, write_text

# Fields that hold lists: their cells are JSON, if they look like it.
_LISTS = frozenset({"answers", "passages", "options", "pairs", "gold", "questions"})


_NAMED_DELIMITER = re.compile(r"sep=(.)\r?\n")


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
    named = _NAMED_DELIMITER.match(text)  # as Excel writes and reads it
    text = text[named.end() :] if named else text
    delimiter = named[1] if named else _delimiter_of(path, text)
    quoted = not _is_tsv(path) or _quotes_pair(text)
    rows = csv.reader(
        io.StringIO(text, newline=""),
        delimiter=delimiter,
        quoting=csv.QUOTE_MINIMAL if quoted else csv.QUOTE_NONE,
        strict=True,
    )
    before = 1 if named else 0  # lines
    end = before
    try:
        header = [name.strip() for name in next(rows, [])]
        if len(set(header)) < len(header) or not any(header):
            raise InvalidRequest(f"{path} needs a header with different names, got {', '.join(header) or 'nothing'}")
        end = rows.line_num + before
        for cells in rows:
            number, end = end + 1, rows.line_num + before
            if not any(cells):
                continue
            if len(cells) != len(header):
                yield number, f"has {len(cells)} cells, the header has {len(header)}"
            else:
                yield number, {name: _value_of(name, cell) for name, cell in zip(header, cells, strict=True)}
    except csv.Error as error:
        raise InvalidRequest(f"can't read {path}: {error}; the row that begins in line {end + 1}") from None


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


def _is_tsv(path: Path) -> bool:
    return path.name.lower().removesuffix(".gz").endswith(".tsv")


def _delimiter_of(path: Path, text: str) -> str:
    """What parts the header into the most names; a comma where none is ahead."""
    if _is_tsv(path):
        return "\t"
    return max(",;\t|", key=lambda delimiter: _count_names(text, delimiter))


def _count_names(text: str, delimiter: str) -> int:
    try:
        return len(next(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True), []))
    except csv.Error:
        return 0


def _quotes_pair(text: str) -> bool:
    try:
        for _ in csv.reader(io.StringIO(text, newline=""), delimiter="\t", strict=True):
            pass
    except csv.Error:
        return False
    return True


def _value_of(name: str, cell: str) -> Json:
    if name in _LISTS and cell.lstrip().startswith("["):
        try:
            found: Json = json.loads(cell)
            return found
        except ValueError:
            return cell
    return cell
