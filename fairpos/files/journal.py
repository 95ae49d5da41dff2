"""A result file that is its own journal: results are appended as they come, and runs resume.

Each result is one line, written and flushed at once. A line that a killed process left unfinished is cut off when the
run resumes, which is logged, and its record is done again; no other line is ever dropped. Where the file's name ends in
`.gz`, each line is a gzip member of its own, so that the same holds.
"""

from __future__ import annotations

import gzip
import json
import logging
import os
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import IO

from fairpos.errors import InvalidRequest
from fairpos.files.records import Record
from fairpos.files.text import GZIP, json_text

_LOG = logging.getLogger(__name__)
_CHUNK = 8192  # bytes that are unpacked at a time


class Journal:
    """A result file that is appended to, one flushed line a result.

    Args:
        path: The file.
        resume: Keep what is there and skip its ids; otherwise the file must not exist (or be empty).
        key: The field that names a result.

    Raises:
        InvalidRequest: the file can't be opened; it is there and `resume` is off; or a line in it is damaged other
            than the last.
    """

    def __init__(self, path: Path, *, resume: bool, key: str = "id") -> None:
        self.path = path
        self.key = key
        self.done: set[str] = set()
        try:
            if path.exists() and path.stat().st_size:
                if not resume:
                    raise InvalidRequest(f"{path} exists; add --resume to go on with it, or name another file")
                self._mend_end()
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file: IO[bytes] = path.open("ab")
        except OSError as error:
            raise InvalidRequest(f"can't open {path}: {error}") from None

    def append(self, record: Mapping[str, object]) -> None:
        """Writes one result; it is on its way to the disk when this returns."""
        line = f"{json_text(record)}\n".encode()
        self._file.write(self._pack_line(line))
        self._file.flush()
        self.done.add(str(record[self.key]))

    def results(self) -> Iterator[Record]:
        """All results so far, in the order written.

        Raises:
            InvalidRequest: somebody else damaged the file meanwhile.
        """
        for _, record in self._parse_lines(_unpack_whole(self.path, self.path.read_bytes())[0]):
            yield record

    def _mend_end(self) -> None:
        """Reads what is there, and mends the end where the process died while it wrote a line."""
        stored = self.path.read_bytes()
        text, whole = _unpack_whole(self.path, stored)
        end = text.rfind(b"\n") + 1
        self.done = {name for name, _ in self._parse_lines(text[:end])}
        if whole < len(stored) or (end < len(text) and not self._is_result(text[end:])):
            _LOG.warning("%s: its last line was not finished and is cut off; that record is done again", self.path)
            os.truncate(self.path, whole if stored.startswith(GZIP) else end)
        elif end < len(text):  # whole but for the end of its line, as editors leave it
            self.done |= {name for name, _ in self._parse_lines(text[end:])}
            with self.path.open("ab") as file:
                file.write(self._pack_line(b"\n"))

    def _pack_line(self, line: bytes) -> bytes:
        return gzip.compress(line, mtime=0) if self.path.suffix == ".gz" else line

    def _is_result(self, line: bytes) -> bool:
        try:
            return bool(list(self._parse_lines(line)))
        except InvalidRequest:
            return False

    def _parse_lines(self, data: bytes) -> Iterator[tuple[str, Record]]:
        """(name, result) of every line."""
        for number, line in enumerate(data.split(b"\n"), 1):
            if not line.strip():
                continue
            try:
                record = json.loads(line)
                name = str(record[self.key])
            except (ValueError, KeyError, TypeError, RecursionError):
                raise InvalidRequest(f"{self.path} line {number} is no result of ours; it can't be resumed") from None
            yield name, record

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._file.close()


def _unpack_whole(path: Path, stored: bytes) -> tuple[bytes, int]:
    """The text of a file and how many of its bytes are whole: all but a gzip member that was not finished.

    Raises:
        InvalidRequest: what isn't finished holds more than the one line that a killed process may leave.
    """
    if not stored.startswith(GZIP):
        return stored, len(stored)
    texts, whole = [], 0
    while whole < len(stored):
        member, text, end = zlib.decompressobj(wbits=31), b"", whole
        try:
            while not member.eof and end < len(stored):
                text += member.decompress(stored[end : end + _CHUNK])
                end += _CHUNK
        except zlib.error as error:
            raise InvalidRequest(f"can't read {path}: {error}") from None
        if not member.eof:
            if b"\n" in text[:-1]:
                raise InvalidRequest(f"can't read {path}: its end is missing")
            break
        texts.append(text)
        whole = min(end, len(stored)) - len(member.unused_data)
    return b"".join(texts), whole
