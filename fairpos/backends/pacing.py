"""When calls may leave: one after the other, and no more of them in a minute than a server allows."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import TypeAlias

from fairpos.errors import InvalidOption

Trace: TypeAlias = Callable[[str, Mapping[str, object]], Awaitable[None]]  # (event, its fields), as httpcore reports
# What the transport tells of a call that has found its connection, before it hands over the body.
_LEAVING = frozenset({"http11.send_request_headers.started", "http11.send_request_headers.complete"})


class Departures:
    """Lets calls leave one after the other. Belongs to one event loop.

    Calls begun together would take every step together, and the first would leave as late as the last. No call waits
    for another's network: one that has to connect first lets the next one pass, and so does one that hands over its
    body, which a server may be slow to take.
    """

    def __init__(self) -> None:
        self._leaving = asyncio.Lock()

    @contextlib.asynccontextmanager
    async def turn(self) -> AsyncIterator[Trace]:
        """Waits for the call before, and gives what this one's transport shall report to."""
        await self._leaving.acquire()
        gone = False

        async def trace(event: str, _: Mapping[str, object]) -> None:
            nonlocal gone
            if not gone and event not in _LEAVING:
                gone = True
                self._leaving.release()

        try:
            yield trace
        finally:
            if not gone:
                self._leaving.release()


class Pace:
    """Spreads calls evenly: one every 60 / rpm seconds, retries too. Belongs to one event loop.

    Args:
        rpm: Calls a minute; None: as fast as they come.

    Raises:
        InvalidOption: rpm isn't above 0.
    """

    def __init__(self, rpm: float | None) -> None:
        if rpm is not None and not rpm > 0:
            raise InvalidOption(f"rpm must be above 0 calls a minute, got {rpm}")
        self._every_s = 0.0 if rpm is None else 60.0 / rpm
        self._next = 0.0

    async def wait(self) -> None:
        """Returns when the next call may leave."""
        if not self._every_s:
            return
        now = time.monotonic()
        start = max(now, self._next)
        self._next = start + self._every_s
        await asyncio.sleep(start - now)
