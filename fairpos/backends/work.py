"""Work for a backend: generators that yield lists of calls, receive their replies, and return a result.

Whoever asks a model in steps is such a generator. So the calls of any number of them meet in one list before the
backend sees any: batched on a local model, concurrent on an endpoint.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import replace
from typing import TypeAlias, TypeVar

from fairpos.backends.base import Backend, Call, Reply

T = TypeVar("T")
Work: TypeAlias = Generator[list[Call], list[Reply], T]


def finish(work: Work[T], backend: Backend) -> T:
    """Runs a work to its end; returns its result."""
    replies: list[Reply] | None = None
    while True:
        try:
            calls = next(work) if replies is None else work.send(replies)
        except StopIteration as stop:
            result: T = stop.value
            return result
        replies = backend.run(calls)


def together(works: Sequence[Work[T]], progress: Callable[[int, int], None] | None = None) -> Work[list[T]]:
    """Several works in step: their calls as one list, their results in order.

    Args:
        works: Any number.
        progress: Called with (works done, works in all).
    """
    results: dict[int, T] = {}
    wanted: dict[int, list[Call]] = {}

    def advance(i: int, replies: list[Reply] | None) -> None:
        try:
            wanted[i] = next(works[i]) if replies is None else works[i].send(replies)
        except StopIteration as stop:
            wanted.pop(i, None)
            results[i] = stop.value
            if progress is not None:
                progress(len(results), len(works))

    for i in range(len(works)):
        advance(i, None)
    while wanted:
        asked = dict(wanted)
        replies = yield [call for calls in asked.values() for call in calls]
        first = 0
        for i, calls in asked.items():
            advance(i, replies[first : first + len(calls)])
            first += len(calls)
    return [results[i] for i in range(len(works))]


def batch_invariant(work: Work[T]) -> Work[T]:
    """The work, its calls marked as those whose replies may not depend on what runs beside them."""
    try:
        calls = next(work)
        while True:
            calls = work.send((yield [replace(call, batch_invariant=True) for call in calls]))
    except StopIteration as stop:
        result: T = stop.value
        return result
