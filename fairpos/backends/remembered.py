"""The result of one coroutine, shared by all who ask for it, and remembered; a failure only for some seconds."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from typing import Generic, TypeVar

T = TypeVar("T")


class Remembered(Generic[T]):
    """Used in one event loop at a time. Whoever stops waiting doesn't take the result from the others; the last does.

    Args:
        failure_s: Seconds for which an error is raised again without another try.

    Attributes:
        value: The result; None before there is one.
    """

    def __init__(self, failure_s: float) -> None:
        self.failure_s = failure_s
        self.value: T | None = None
        self._running: asyncio.Task[T] | None = None
        self._waiting = 0
        self._failed: Exception | None = None
        self._failed_at = 0.0

    async def get(self, find: Callable[[], Coroutine[None, None, T]]) -> T:
        """The result, found by the first who asks.

        Raises:
            Exception: what `find` raises, now or a moment ago.
        """
        if self.value is not None:
            return self.value
        if self._failed is not None and time.monotonic() < self._failed_at + self.failure_s:
            raise self._failed
        if self._running is None or self._running.done():
            self._running = asyncio.get_running_loop().create_task(self._find_once(find))
        running = self._running
        self._waiting += 1
        try:
            return await asyncio.shield(running)
        finally:
            self._waiting -= 1
            if not self._waiting:
                running.cancel()  # nobody wants it any more; one that is done isn't touched by it

    async def _find_once(self, find: Callable[[], Coroutine[None, None, T]]) -> T:
        try:
            self.value = await find()
        except Exception as error:
            self._failed, self._failed_at = error, time.monotonic()
            raise
        return self.value
