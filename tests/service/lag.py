"""How long an event loop stands still while something happens, beside how long any thread of this machine does."""

import asyncio
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

STEP_S = 0.005


@dataclass
class Lag:
    """The longest that each came too late, in seconds."""

    loop_s: float = 0.0
    thread_s: float = 0.0

    @property
    def is_small(self) -> bool:
        """At most 50 ms, or no more than five times what an idle thread was late on this busy machine.

        A call that blocks is seen because the faults that it would wait for last much longer than that.
        """
        return self.loop_s <= max(0.05, 5 * self.thread_s)


@contextmanager
def watched(loop: asyncio.AbstractEventLoop) -> Iterator[Lag]:
    """Watches a loop that runs in another thread."""
    lag, done = Lag(), threading.Event()

    async def watch_loop() -> None:
        while not done.is_set():
            started = time.perf_counter()
            await asyncio.sleep(STEP_S)
            lag.loop_s = max(lag.loop_s, time.perf_counter() - started - STEP_S)

    def watch_threads() -> None:
        while not done.is_set():
            started = time.perf_counter()
            time.sleep(STEP_S)
            lag.thread_s = max(lag.thread_s, time.perf_counter() - started - STEP_S)

    thread = threading.Thread(target=watch_threads, daemon=True)
    thread.start()
    watching = asyncio.run_coroutine_threadsafe(watch_loop(), loop)
    try:
        yield lag
    finally:
        done.set()
        thread.join()
        watching.result(60)
