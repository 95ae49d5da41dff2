"""An event loop in a thread of its own, for code that is called from plain scripts, threads and running loops alike.

What runs in the loop is built there by an async context manager (an HTTP client, locks), opened with the thread when it
is first needed and closed with it.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import threading
from collections.abc import Callable, Coroutine
from contextlib import AbstractAsyncContextManager
from typing import Generic, TypeVar

S = TypeVar("S")
T = TypeVar("T")
_POLL_S = 0.1


class LoopTask:
    """A coroutine in the loop's thread, seen from another thread."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._cancelled = False
        self.task: asyncio.Task[None] | None = None  # set in the loop's thread, before anything else is called there
        self.ended = threading.Event()

    def cancel(self) -> None:
        """Breaks the coroutine off; `ended` says when it has come to its end."""
        if not self._cancelled and not self.ended.is_set():
            self._cancelled = True
            with contextlib.suppress(RuntimeError):  # the loop was closed, and has cancelled it
                self._loop.call_soon_threadsafe(lambda: self.task.cancel() if self.task else None)

    def raise_error(self) -> None:
        """Raises what the ended coroutine raised, if that was no cancellation."""
        if self.task is not None and not self.task.cancelled() and (error := self.task.exception()) is not None:
            raise error


class LoopThread(Generic[S]):
    """Runs coroutines in one thread, started when it is first needed; after `stop` it may start again.

    Args:
        name: Of the thread.
        opened: Makes, in the loop, what the coroutines share.
    """

    def __init__(self, name: str, opened: Callable[[], AbstractAsyncContextManager[S]]) -> None:
        self._name = name
        self._opened = opened
        self._guard = threading.Lock()
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop
        self._stopping: asyncio.Event
        self._shared: S

    def start(self, work: Callable[[S], Coroutine[None, None, None]], on_end: Callable[[], None]) -> LoopTask:
        """Runs a coroutine in the loop; `on_end` is called there when it has ended, however it did."""
        with self._guard:
            self._ensure_running()
            handle = LoopTask(self._loop)

            def end(_: asyncio.Task[None]) -> None:
                handle.ended.set()
                on_end()

            def begin() -> None:
                handle.task = self._loop.create_task(work(self._shared))
                handle.task.add_done_callback(end)

            self._loop.call_soon_threadsafe(begin)
            return handle

    def submit(self, work: Callable[[S], Coroutine[None, None, T]]) -> concurrent.futures.Future[T]:
        """Runs a coroutine in the loop; the future has its result, and cancelling the future cancels it."""
        with self._guard:
            self._ensure_running()
            return asyncio.run_coroutine_threadsafe(work(self._shared), self._loop)

    async def run(self, work: Callable[[S], Coroutine[None, None, T]]) -> T:
        """Runs a coroutine in the loop for whoever awaits it in another loop; cancelling one cancels the other."""
        if self._thread is None:  # a thread's start takes milliseconds, in which the caller's loop shall not stand
            return await asyncio.wrap_future(await asyncio.to_thread(self.submit, work))
        return await asyncio.wrap_future(self.submit(work))

    def wait_for(self, work: Callable[[S], Coroutine[None, None, T]]) -> T:
        """Runs a coroutine in the loop and waits for it; an interruption of the wait cancels it."""
        future = self.submit(work)
        try:
            while True:
                # Not without a limit: some systems can't interrupt such a wait.
                done, _ = concurrent.futures.wait([future], timeout=_POLL_S)
                if done:
                    return future.result()
        except BaseException:
            future.cancel()
            raise

    def stop(self) -> None:
        """Cancels what runs, closes what was opened and ends the thread."""
        with self._guard:
            thread, self._thread = self._thread, None
            if thread is None:
                return
            self._loop.call_soon_threadsafe(self._stopping.set)
        if thread is not threading.current_thread():  # the collector may run a finaliser anywhere
            thread.join()

    def _ensure_running(self) -> None:
        if self._thread is not None:
            return
        ready: concurrent.futures.Future[None] = concurrent.futures.Future()
        thread = threading.Thread(target=lambda: asyncio.run(self._serve_loop(ready)), name=self._name, daemon=True)
        thread.start()
        ready.result()
        self._thread = thread

    async def _serve_loop(self, ready: concurrent.futures.Future[None]) -> None:
        async with contextlib.AsyncExitStack() as stack:
            try:
                self._loop = asyncio.get_running_loop()
                self._stopping = asyncio.Event()
                self._shared = await stack.enter_async_context(self._opened())
            except BaseException as error:
                ready.set_exception(error)  # raised where the loop is used
                return
            ready.set_result(None)
            await self._stopping.wait()
            running = asyncio.all_tasks() - {asyncio.current_task()}
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)
