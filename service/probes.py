"""What an upstream's models can do, found out once for all who ask at the same time, and remembered for a while.

Failures are remembered too, for a few seconds, so that an upstream that is down isn't asked by every request. Model
names come from clients: only so many are kept.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter, OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from .errors import ServiceError

T = TypeVar("T")

_KEPT = 256
_GOOD_S = 3600.0
_FAILED_S = 5.0


@dataclass(frozen=True, slots=True)
class _KnownAnswer(Generic[T]):
    """What came of a probe, and until when it holds."""

    found: T | ServiceError
    until: float


class Probes(Generic[T]):
    """What each model can do.

    Args:
        ask: Asks a model; raises `ServiceError` if it doesn't answer.
        clock: Seconds; for tests.
    """

    def __init__(self, ask: Callable[[str], Awaitable[T]], clock: Callable[[], float] = time.monotonic) -> None:
        self._ask = ask
        self._clock = clock
        self._known: OrderedDict[str, _KnownAnswer[T]] = OrderedDict()
        self._asking: dict[str, asyncio.Task[T]] = {}
        self._waiting: Counter[asyncio.Task[T]] = Counter()  # clients of each

    def known(self, model: str) -> T | None:
        """What is known without asking.

        Raises:
            ServiceError: what a probe that failed a moment ago failed with.
        """
        known = self._known.get(model)
        if known is None or known.until < self._clock():
            return None
        if isinstance(known.found, ServiceError):
            raise known.found
        return known.found

    async def find(self, model: str) -> T:
        """What is known, or what the model says; who asks meanwhile waits for the same answer.

        Raises:
            ServiceError: it doesn't answer.
        """
        known = self.known(model)
        if known is not None:
            return known
        task = self._asking.get(model)
        if task is None:
            task = self._asking[model] = asyncio.ensure_future(self._ask_and_remember(model))
            task.add_done_callback(lambda _: self._asking.pop(model, None))
        self._waiting[task] += 1
        try:
            return await asyncio.shield(task)  # one client that goes away doesn't end it for the others
        finally:
            self._waiting[task] -= 1
            if not self._waiting[task]:
                del self._waiting[task]
                task.cancel()  # the last one does; a task that is done isn't touched by it

    async def close(self) -> None:
        """Gives up what is being asked."""
        tasks = list(self._asking.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _ask_and_remember(self, model: str) -> T:
        try:
            found = await self._ask(model)
        except ServiceError as error:
            self._remember_answer(model, _KnownAnswer(error, self._clock() + _FAILED_S))
            raise
        self._remember_answer(model, _KnownAnswer(found, self._clock() + _GOOD_S))
        return found

    def _remember_answer(self, model: str, known: _KnownAnswer[T]) -> None:
        self._known[model] = known
        self._known.move_to_end(model)
        while len(self._known) > _KEPT:
            self._known.popitem(last=False)
