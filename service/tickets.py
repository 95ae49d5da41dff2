"""A request's work on a local model, and what its route sees of it.

    ticket.events()    Started, Text, Text, ..., Finished; or the error, raised

A job is the library's own work (`fairpos.runner.start`): it yields lists of calls and receives replies. The engine puts
events in from its threads; the route takes them out in the event loop.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import TypeAlias

from fairpos.backends.base import Finish
from fairpos.backends.work import Work
from fairpos.types import Output

from .traces import request_context


@dataclass(frozen=True, slots=True)
class Started:
    """The first batch with a generation of this job begins; the order in which each call shows the segments."""

    orders: tuple[tuple[str, ...], ...]


@dataclass(frozen=True, slots=True)
class Text:
    """A new piece of the reply."""

    piece: str


@dataclass(frozen=True, slots=True)
class Finished:
    """All is done. `finish` is why the last generated text ended, `stopped_by` the stop text where it was one."""

    outputs: tuple[Output, ...]
    finish: Finish | None
    stopped_by: str = ""


Event: TypeAlias = Started | Text | Finished | Exception


@dataclass(frozen=True, slots=True)
class Job:
    """One request's work.

    Attributes:
        work: From `fairpos.runner.start`, not yet begun.
        client: Whose it is; clients take turns.
        stream: Whether pieces of text are wanted as they come. Only for work whose one generation is its answer.
        fills_context: Whether a generated text may be as long as there is room beside its prompt, and no longer.
        takes_model: Whether the work runs the model by itself; then nothing else runs meanwhile.
    """

    work: Work[list[Output]]
    client: str = ""
    stream: bool = False
    fills_context: bool = False
    takes_model: bool = False


class Ticket:
    """A submitted job, seen from the event loop."""

    def __init__(self, job: Job, loop: asyncio.AbstractEventLoop) -> None:
        self.job = job
        self.cancelled = threading.Event()
        self.context = request_context()
        self._loop = loop
        self._events: asyncio.Queue[Event] = asyncio.Queue()

    def cancel(self) -> None:
        """Gives the job up; its place in the queue and in the batch is free at the next token."""
        self.cancelled.set()

    def put(self, event: Event) -> None:
        """Called in the engine's threads."""
        if not self.cancelled.is_set():
            self._loop.call_soon_threadsafe(self._events.put_nowait, event)

    async def events(self) -> AsyncIterator[Started | Text | Finished]:
        """What happens, up to `Finished`. Leaving early cancels the job.

        Raises:
            Exception: what the job failed with.
        """
        try:
            while True:
                event = await self._events.get()
                if isinstance(event, Exception):
                    raise event
                yield event
                if isinstance(event, Finished):
                    return
        finally:
            self.cancel()

    async def result(self) -> Finished:
        """Waits for the end."""
        async for event in self.events():
            if isinstance(event, Finished):
                return event
        raise AssertionError("events end with Finished")
