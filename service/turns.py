"""Places for work that goes on at once: so many overall, so many for each client, and clients take turns.

async with turns.place(client): ...
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class Turns:
    """Hands out places. Whoever waits longest of the client whose turn it is gets the next one.

    Args:
        overall: Places, at least 1.
        per_client: Of one client at once, at least 1.
    """

    def __init__(self, overall: int, per_client: int) -> None:
        self._free = overall
        self._per_client = per_client
        self._held: dict[str, int] = {}
        self._waiting: dict[str, deque[asyncio.Future[None]]] = {}
        self._served: dict[str, int] = {}  # when each was given its last place, counted in places
        self._count = 0

    @property
    def waiting(self) -> int:
        """How many wait for a place."""
        return sum(map(len, self._waiting.values()))

    @asynccontextmanager
    async def place(self, client: str) -> AsyncIterator[None]:
        """Waits for a place, and holds it."""
        await self._take_place(client)
        try:
            yield
        finally:
            self._give_back(client)

    async def _take_place(self, client: str) -> None:
        if self._free and not self._waiting.get(client) and self._held.get(client, 0) < self._per_client:
            self._hold_place(client)
            return
        turn = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(client, deque()).append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():  # it was given a place at the same moment
                self._give_back(client)
            else:
                self._forget_turn(client, turn)
            raise

    def _hold_place(self, client: str) -> None:
        self._free -= 1
        self._held[client] = self._held.get(client, 0) + 1
        self._count += 1
        self._served[client] = self._count

    def _give_back(self, client: str) -> None:
        self._free += 1
        self._held[client] -= 1
        self._forget_if_done(client)
        self._serve_next()

    def _serve_next(self) -> None:
        """Gives a free place to the client that was served longest ago, of those that may have one more."""
        may = [client for client in self._waiting if self._held.get(client, 0) < self._per_client]
        if not (self._free and may):
            return
        client = min(may, key=lambda client: self._served.get(client, 0))
        turn = self._waiting[client].popleft()
        if not self._waiting[client]:
            del self._waiting[client]
        self._hold_place(client)
        turn.set_result(None)

    def _forget_turn(self, client: str, turn: asyncio.Future[None]) -> None:
        self._waiting[client].remove(turn)
        if not self._waiting[client]:
            del self._waiting[client]
        self._forget_if_done(client)

    def _forget_if_done(self, client: str) -> None:
        """Keeps nothing of clients that have no place and wait for none: there may be any number of them."""
        if not self._held.get(client, 0):
            self._held.pop(client, None)
            if client not in self._waiting:
                self._served.pop(client, None)
