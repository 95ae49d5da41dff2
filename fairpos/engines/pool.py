"""Workers that each hold a model, and the pieces of work that are handed to them.

The pool knows nothing of what a worker is: an actor of Ray, a thread of a test. A worker may die with its pieces, be
told of twice, or answer in any order; every piece has one result, the first that came. So whoever hands out work (it
keeps journals, caches and budgets) never has to ask whether something was done already.

    submit -> queue -> the least busy worker that is ready -> its answer, or its death -> result, or the queue again
"""

from __future__ import annotations

import concurrent.futures
import itertools
import logging
import queue
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol, TypeAlias, TypeVar

from fairpos.backends.base import Backend
from fairpos.errors import BackendError

_LOG = logging.getLogger(__name__)
_POLL_S = 0.1
_DEATHS = 5  # of workers over the same piece, or of workers in a row that never got ready
T = TypeVar("T")
R = TypeVar("R")
Work: TypeAlias = Callable[[Backend, Sequence[T]], R]


class WorkerLost(Exception):
    """A worker died, or can't be reached; what it was doing may have been done or not."""


class Worker(Protocol):
    """A process with a model."""

    def ready(self) -> Future[None]:
        """Done when the model is loaded. Its error: `WorkerLost`, or why the model can't be loaded."""

    def ask(self, work: Work[T, R], items: Sequence[T]) -> Future[R]:
        """Does the work with the worker's model. Its error: `WorkerLost`, or what the work raised."""

    def close(self) -> None:
        """Ends the process; it needn't be alive."""


@dataclass(eq=False, slots=True)
class _PieceOfWork:
    """Items that one worker does together, who keeps their result, and how many workers have died over them."""

    work: Work[Any, Any]
    items: Sequence[Any]
    keep: Callable[[Any], None] | None = None
    result: Future[Any] = field(default_factory=Future)
    deaths: int = 0


@dataclass(eq=False, slots=True)
class _WorkerPlace:
    """One worker of the pool and what it does now; a worker that dies is replaced by another place."""

    number: int
    worker: Worker
    is_ready: bool = False
    running: set[_PieceOfWork] = field(default_factory=set)


class Pool:
    """Hands pieces of work to workers, to another one where the first dies. Safe to use from several threads.

    COST: a thread, which does all the bookkeeping.

    Args:
        start: Starts a worker; gets its number, from 0. One that replaces another has the same number.
        workers: How many.
        at_once: Pieces that a worker has at the same time, the one that it does and those that wait there.
    """

    def __init__(self, start: Callable[[int], Worker], workers: int, *, at_once: int = 2) -> None:
        self.workers = workers
        self.at_once = at_once
        self._start = start
        self._queue: deque[_PieceOfWork] = deque()
        self._places: list[_WorkerPlace] = []
        self._never_ready = 0  # workers in a row that died before they were ready
        self._broken: Exception | None = None
        self._events: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._handle_events, name="fairpos-pool", daemon=True)
        self._thread.start()
        for number in range(workers):
            self._events.put(partial(self._start_worker, number))

    def results(
        self, work: Work[T, R], pieces: Sequence[Sequence[T]], keep: Callable[[R], None] | None = None
    ) -> Iterator[tuple[int, R]]:
        """Does all pieces; yields (number of the piece, result) as they come, each once.

        Args:
            work: What is done.
            pieces: With what.
            keep: Gets each result, in the pool's thread, before more work goes out: what is paid for and not kept is
                never more than what the workers have.

        Raises:
            BackendError: workers die over and over, of one piece or before they are ready.
            Exception: what the work raised; what nobody has begun of the other pieces isn't begun.
        """
        numbers = {self.submit(work, items, keep): number for number, items in enumerate(pieces)}
        left = set(numbers)
        try:
            while left:
                # Not without a limit: some systems can't interrupt such a wait.
                done, left = concurrent.futures.wait(
                    left, timeout=_POLL_S, return_when=concurrent.futures.FIRST_COMPLETED
                )
                for future in done:
                    yield numbers[future], future.result()
        finally:
            for future in left:
                future.cancel()

    def submit(self, work: Work[T, R], items: Sequence[T], keep: Callable[[R], None] | None = None) -> Future[R]:
        """Does one piece; its result, once it is there and kept."""
        piece = _PieceOfWork(work, items, keep)
        self._events.put(partial(self._take_in, piece))
        return piece.result

    def close(self) -> None:
        """Ends the workers; work that isn't done fails."""
        self._events.put(None)
        self._thread.join()

    def _handle_events(self) -> None:
        """The pool's thread: everything below runs here alone, so that nothing needs a lock."""
        while (event := self._events.get()) is not None:
            event()
        for place in self._places:
            place.worker.close()
        for piece in [*self._queue, *(piece for place in self._places for piece in place.running)]:
            _settle_piece(piece, BackendError("the workers were closed"))

    def _take_in(self, piece: _PieceOfWork) -> None:
        if self._broken is not None:
            _settle_piece(piece, self._broken)
        else:
            self._queue.append(piece)
            self._hand_out()

    def _start_worker(self, number: int) -> None:
        try:
            place = _WorkerPlace(number, self._start(number))
        except Exception as error:
            self._leave_out(number, error)
            return
        self._places.append(place)
        place.worker.ready().add_done_callback(
            lambda ready: self._events.put(partial(self._admit_worker, place, ready))
        )

    def _admit_worker(self, place: _WorkerPlace, ready: Future[None]) -> None:
        """A worker is ready, or will never be."""
        error = ready.exception()
        if error is None:
            self._never_ready = 0
            place.is_ready = True
            self._hand_out()
            return
        self._places.remove(place)
        if not isinstance(error, WorkerLost):
            self._leave_out(place.number, error)
            return
        self._never_ready += 1
        if self._never_ready < _DEATHS:
            self._start_worker(place.number)
        else:
            told = f"{self._never_ready} workers died before they were ready: {error}"
            self._leave_out(place.number, BackendError(told))

    def _leave_out(self, number: int, error: BaseException) -> None:
        """Goes on without a worker that can't get ready, unless there is no other."""
        if any(other.is_ready for other in self._places):
            _LOG.warning("going on without worker %d: %s", number, error)
            return
        self._broken = error if isinstance(error, Exception) else BackendError(str(error))
        for piece in self._queue:
            _settle_piece(piece, self._broken)
        self._queue.clear()

    def _hand_out(self) -> None:
        while self._queue:
            free = [place for place in self._places if place.is_ready and len(place.running) < self.at_once]
            if not free:
                return
            piece = self._queue.popleft()
            if piece.result.cancelled():
                continue
            place = min(free, key=lambda each: len(each.running))
            self._ask_worker(place, piece)

    def _ask_worker(self, place: _WorkerPlace, piece: _PieceOfWork) -> None:
        def tell(answer: Future[Any]) -> None:
            self._events.put(partial(self._take_back, place, piece, answer))

        place.running.add(piece)
        place.worker.ask(piece.work, piece.items).add_done_callback(tell)

    def _take_back(self, place: _WorkerPlace, piece: _PieceOfWork, answer: Future[Any]) -> None:
        """A worker answered, or died."""
        place.running.discard(piece)
        error = answer.exception()
        if isinstance(error, WorkerLost):
            piece.deaths += 1
            if place in self._places:  # the first of its pieces to tell
                _LOG.warning("worker %d is lost; its work is done again: %s", place.number, str(error).split("\n")[0])
                self._places.remove(place)
                place.worker.close()
                self._start_worker(place.number)
            if piece.deaths < _DEATHS:
                self._queue.appendleft(piece)
            else:
                _settle_piece(
                    piece, BackendError(f"{_DEATHS} workers died over the same {len(piece.items)} calls: {error}")
                )
        else:
            _settle_piece(piece, error or _error_of_keeping(piece, answer.result()), None if error else answer.result())
        self._hand_out()


def _error_of_keeping(piece: _PieceOfWork, result: object) -> Exception | None:
    """Lets the result be kept by whoever wants to; what went wrong with that."""
    try:
        if piece.keep is not None:
            piece.keep(result)
    except Exception as error:
        return error
    return None


def _settle_piece(piece: _PieceOfWork, error: BaseException | None, result: object = None) -> None:
    """Gives a piece its result, unless it has one already or nobody waits for it any more."""
    with suppress(concurrent.futures.InvalidStateError):
        if error is not None:
            piece.result.set_exception(error)
        else:
            piece.result.set_result(result)


def cut_into_pieces(count: int, workers: int, most: int) -> list[slice]:
    """Even pieces of so many items, in their order: two a worker, so that none is idle while another is late.

    Args:
        count: Items.
        workers: How many share them.
        most: Items of one piece, at most.
    """
    pieces = max(min(count, 2 * workers), -(-count // most))
    ends = [count * number // pieces for number in range(pieces + 1)] if pieces else [0]
    return list(itertools.starmap(slice, itertools.pairwise(ends)))
