"""Bytes on the disk as text and back: lines end at "\\n" alone, byte order marks go, `.gz` is opened by itself.

`str.splitlines` and text files also end a line at U+2028, U+0085, a vertical tab, ...: characters that may stand inside
of a JSON text. Nothing under `fairpos.files` uses them.
"""

from __future__ import annotations

import codecs
import gzip
import io
import json
import math
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import TypeAlias

from fairpos.errors import InvalidRequest

Json: TypeAlias = "bool | int | float | str | list[Json] | dict[str, Json] | None"

GZIP = b"\x1f\x8b"


def byte_lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """The lines of a file with their numbers, from 1, without their ends; read one by one, unpacked where it is gzip.

    Raises:
        InvalidRequest: the file can't be read, or is UTF-16.
    """
    try:
        with _open_unpacked(path) as file:
            for number, line in enumerate(file, 1):
                if number == 1:
                    _refuse_utf16(path, line)
                    line = line.removeprefix(codecs.BOM_UTF8)
                yield number, line.rstrip(b"\r\n")
    except (OSError, EOFError, zlib.error) as error:
        raise InvalidRequest(f"can't read {path}: {error}") from None


def text_lines(path: Path) -> Iterator[tuple[int, str]]:
    """The same as text.

    Raises:
        InvalidRequest: as `byte_lines`, and where a line isn't UTF-8.
    """
    for number, line in byte_lines(path):
        try:
            yield number, line.decode()
        except UnicodeDecodeError as error:
            raise InvalidRequest(f"can't read {path}: line {number} is not UTF-8 ({error})") from None


def read_text(path: Path) -> str:
    """A whole file as text, with its ends of lines as they are.

    Raises:
        InvalidRequest: the file can't be read, or isn't UTF-8.
    """
    try:
        with _open_unpacked(path) as file:
            data = file.read()
        _refuse_utf16(path, data)
        return data.removeprefix(codecs.BOM_UTF8).decode()
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise InvalidRequest(f"can't read {path}: {error}") from None


def write_text(path: Path, text: str) -> None:
    """Writes a file whole or not at all, packed where its name ends in `.gz`.

    Lone surrogates, which UTF-8 can't hold, are written as the escapes that JSON has for them.

    Raises:
        InvalidRequest: it can't be written.
    """
    data = text.encode(errors="backslashreplace")
    if path.suffix == ".gz":
        data = gzip.compress(data, mtime=0)  # the same text, the same bytes
    part = path.with_name(path.name + ".part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part.write_bytes(data)
        part.replace(path)
    except OSError as error:
        raise InvalidRequest(f"can't write {path}: {error}") from None


def json_text(value: object, *, indent: int | None = None) -> str:
    """JSON that every reader takes, on one line unless indented.

    Lone surrogates become escapes, and numbers that JSON doesn't have (NaN, infinities) null.
    """
    try:
        text = json.dumps(value, ensure_ascii=False, indent=indent, allow_nan=False)
    except ValueError:
        text = json.dumps(_without_non_finite(value), ensure_ascii=False, indent=indent)
    return text.encode(errors="backslashreplace").decode()


def _without_non_finite(value: object) -> object:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _without_non_finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_without_non_finite(item) for item in value]
    return value


def _refuse_utf16(path: Path, data: bytes) -> None:
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise InvalidRequest(f"can't read {path}: it is UTF-16; save it as UTF-8")


def _open_unpacked(path: Path) -> io.BufferedIOBase:
    """The file for reading. What is packed is told by its first bytes: names change on the way."""
    with path.open("rb") as file:
        packed = file.read(len(GZIP)) == GZIP
    return gzip.open(path, "rb") if packed else path.open("rb")
