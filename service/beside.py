"""Threads that clients share in turn, for what a request computes beside the model: encoders, aggregation, tokens."""

from __future__ import annotations

import threading
from collections import Counter, deque
from collections.abc import Callable


class SharedThreads:
    """Runs functions, of each client in turn; all but one of the threads may be busy for one client.

    Args:
        count: Threads, at least 2.
        name: What they are called.
    """

    def __init__(self, count: int, name: str) -> None:
        self._most = count - 1
        self._waiting: dict[str, deque[Callable[[], None]]] = {}  # by client, in the order of their turns
        self._running: Counter[str] = Counter()
        self._change = threading.Condition()
        self._open = True
        for number in range(count):
            threading.Thread(target=self._work_until_closed, name=f"{name}-{number}", daemon=True).start()

    def submit(self, client: str, function: Callable[[], None]) -> None:
        """Runs it when the client's turn comes; the function must not raise."""
        with self._change:
            self._waiting.setdefault(client, deque()).append(function)
            self._change.notify()

    def close(self) -> None:
        """Ends the threads, after what is waiting."""
        with self._change:
            self._open = False
            self._change.notify_all()

    def _work_until_closed(self) -> None:
        while True:
            with self._change:
                self._change.wait_for(lambda: self._next_client() is not None or not (self._open or self._waiting))
                client = self._next_client()
                if client is None:
                    return
                waiting = self._waiting.pop(client)
                function = waiting.popleft()
                if waiting:  # at the end: the others come first
                    self._waiting[client] = waiting
                self._running[client] += 1
            try:
                function()
            finally:
                with self._change:
                    self._running[client] -= 1
                    self._running += Counter()  # forgets who has nothing left
                    self._change.notify_all()

    def _next_client(self) -> str | None:
        return next((client for client in self._waiting if self._running[client] < self._most), None)
