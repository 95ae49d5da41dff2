"""Responses of an endpoint, kept in one SQLite file, so that no call is paid twice.

Every response is its own transaction, written as soon as it is there: what a killed process had received is there for
the next one. Threads share one object; processes share the file (write-ahead log: readers never wait, writers take
turns). The file must lie on a local disk: SQLite's write-ahead log doesn't work over a network file system.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
import time
import weakref
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

from fairpos.errors import BackendError, InvalidOption

_APPLICATION_ID = 0x66706F73  # "fpos": tells a cache of ours from anyone else's database
_BUSY_S = 30.0
_INHERITED: list[sqlite3.Connection] = []  # kept from the collector, which would close them


@dataclass(frozen=True, slots=True)
class CachedResponse:
    """The body of a successful response as it came, and the seconds that its call took."""

    raw: str
    latency_s: float


class Responses(Protocol):
    """Where a client looks responses up and stores them. The first response to a key stays."""

    def get(self, key: str) -> CachedResponse | None:
        """The response stored under `key`, or None."""

    def put(self, key: str, raw: str, latency_s: float) -> None:
        """Stores a response."""

    def remove(self, keys: Iterable[str]) -> None:
        """Forgets responses; keys that aren't there don't matter."""


class ResponseCache:
    """A mapping from a request's key to the response it got. The first response to a key stays.

    Costs: about 0.1 ms a read and a write; the size of the responses on disk. Keys are hashes, and requests are not
    stored; responses are, as they came.

    Args:
        path: The file; it and its folder are made if they aren't there.

    Raises:
        InvalidOption: the file is something else, or can't be opened.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path).expanduser().absolute()
        self._open_file()

    def get(self, key: str) -> CachedResponse | None:
        """The response stored under `key`, or None.

        Raises:
            BackendError: the file can't be read any more.
        """
        with self._usable_connection() as connection:
            row = connection.execute("SELECT raw, latency_s FROM responses WHERE key = ?", (key,)).fetchone()
        return None if row is None else CachedResponse(*row)

    def put(self, key: str, raw: str, latency_s: float) -> None:
        """Stores a response; on disk when this returns. A key that is there already keeps what it has.

        Raises:
            BackendError: the file can't be written any more.
        """
        row = (key, raw, latency_s, time.time())
        with self._usable_connection() as connection:
            connection.execute("INSERT OR IGNORE INTO responses VALUES (?, ?, ?, ?)", row)

    def remove(self, keys: Iterable[str]) -> None:
        """Forgets responses, so that a later run asks for them again; keys that aren't there don't matter.

        Raises:
            BackendError: the file can't be written any more.
        """
        with self._usable_connection() as connection:
            connection.executemany("DELETE FROM responses WHERE key = ?", [(key,) for key in keys])

    def __reduce__(self) -> tuple[type[ResponseCache], tuple[Path]]:
        return type(self), (self.path,)  # another process opens the file anew

    def __len__(self) -> int:
        with self._usable_connection() as connection:
            [count] = connection.execute("SELECT count(*) FROM responses").fetchone()
        return int(count)

    def close(self) -> None:
        """Closes the file; the object can't be used afterwards."""
        with self._lock:
            self._finalizer()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _open_file(self) -> None:
        self._pid = os.getpid()
        self._lock = threading.Lock()
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._connection = _connect_to(self.path)
        except (OSError, sqlite3.Error) as error:
            raise InvalidOption(f"{self.path} can't be used as a response cache: {error}") from error
        self._finalizer = weakref.finalize(self, self._connection.close)

    @contextlib.contextmanager
    def _usable_connection(self) -> Iterator[sqlite3.Connection]:
        """The connection, for one thread at a time."""
        if self._pid != os.getpid():
            # Forked: SQLite forbids using, and even closing, a connection that another process opened.
            self._finalizer.detach()
            _INHERITED.append(self._connection)
            self._open_file()
        try:
            with self._lock:
                yield self._connection
        except sqlite3.Error as error:
            raise BackendError(f"response cache {self.path}: {error}") from error


def _connect_to(path: Path) -> sqlite3.Connection:
    # Autocommit: each statement is a transaction of its own unless one is begun.
    connection = sqlite3.connect(path, timeout=_BUSY_S, isolation_level=None, check_same_thread=False)
    try:
        _refuse_others(connection)
        _use_write_ahead_log(connection)
        # A process that is killed loses nothing at this level; a power failure could lose the last responses.
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute("BEGIN IMMEDIATE")
        connection.execute(f"PRAGMA application_id = {_APPLICATION_ID}")
        connection.execute(
            "CREATE TABLE IF NOT EXISTS responses "
            "(key TEXT PRIMARY KEY, raw TEXT NOT NULL, latency_s REAL NOT NULL, stored_at REAL NOT NULL)"
        )
        connection.execute("COMMIT")
    except BaseException:
        connection.close()
        raise
    return connection


def _refuse_others(connection: sqlite3.Connection) -> None:
    """Raises before anything is changed in a database that is not a cache of ours."""
    connection.execute("BEGIN")  # both answers from one moment: another process may be making the cache
    [tables] = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    [application] = connection.execute("PRAGMA application_id").fetchone()
    connection.execute("COMMIT")
    if tables and application != _APPLICATION_ID:
        raise sqlite3.DatabaseError("it is a database of something else")


def _use_write_ahead_log(connection: sqlite3.Connection) -> None:
    """Switches the file over; when processes do so at once, SQLite says "locked" at once instead of waiting."""
    give_up = time.monotonic() + _BUSY_S
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > give_up:
                raise
            time.sleep(0.01)
        else:
            return
