"""One worker owns one local model; the requests of all users wait in one queue and share its batches.

    submit(job) -> Ticket        in the event loop; 429 when the queue is full
    ticket.events()              Started, Text, Text, ..., Finished; or the error, raised

A job is the library's own work (`fairpos.runner.start`): it yields lists of calls and receives replies. The worker
takes calls of one kind from all jobs, in turn between clients, as many as fit into one batch, runs them, and hands the
replies back. So the views of one request and the requests of many users meet in one batch.

A batch of generations runs until its longest is done; a row whose client goes away ends at its next token, and a job
that waits is dropped at once.
"""

from __future__ import annotations

import asyncio
import itertools
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field, replace
from typing import Protocol, TypeAlias, TypeVar

from fairpos.backends.base import Backend, Call, Finish, Generate, Live, Reply
from fairpos.backends.work import Work
from fairpos.errors import TooLong
from fairpos.prompts import Prompt
from fairpos.types import Layout, Output

from .errors import ServiceError
from .logs import log
from .metrics import Metrics

T = TypeVar("T")


class LocalBackend(Backend, Protocol):
    """What the engine needs of a local model beyond running calls."""

    @property
    def context(self) -> int:
        """Tokens that the model can hold."""

    def layout(self, prompt: Prompt) -> Layout:
        """The prompt in tokens."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Of one engine; see the settings of these names."""

    queue: int = 256
    batch_tokens: int = 8192
    batch_calls: int = 32
    prompt_tokens: int = 32768
    vote_tokens: int = 32768
    calls: int = 2000


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
    """All is done. `finish` is why the last generated text ended."""

    outputs: tuple[Output, ...]
    finish: Finish | None


Event: TypeAlias = Started | Text | Finished | Exception


@dataclass(frozen=True, slots=True)
class Job:
    """One request's work.

    Attributes:
        work: From `fairpos.runner.start`, not yet begun.
        client: Whose it is; clients take turns.
        stream: Whether pieces of text are wanted as they come. Only for work whose one generation is its answer.
    """

    work: Work[list[Output]]
    client: str = ""
    stream: bool = False


class Ticket:
    """A submitted job, seen from the event loop."""

    def __init__(self, job: Job, loop: asyncio.AbstractEventLoop) -> None:
        self.job = job
        self.cancelled = threading.Event()
        self.ended = False  # set by the worker
        self._loop = loop
        self._events: asyncio.Queue[Event] = asyncio.Queue()

    def cancel(self) -> None:
        """Gives the job up; its place in the queue and in the batch is free at the next token."""
        self.cancelled.set()

    def put(self, event: Event) -> None:
        """Called in the worker's thread."""
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


@dataclass(eq=False)
class _Running:
    """A job in the worker's hands."""

    ticket: Ticket
    arrived: float
    begun: bool = False
    announced: bool = False
    emitted: bool = False
    todo: deque[tuple[int, Call, int]] = field(default_factory=deque)  # place, call, prompt tokens
    replies: list[Reply | None] = field(default_factory=list)
    orders: tuple[tuple[str, ...], ...] = ()  # of the generations in this step
    finish: Finish | None = None


@dataclass(frozen=True, slots=True)
class _Item:
    """One call of a batch."""

    running: _Running
    place: int
    call: Call
    tokens: int


class Engine:
    """The worker of one local model.

    Args:
        name: What the model is called here.
        backend: The model. Only the worker's thread runs it.
        limits: Of queue and batches.
        metrics: Where batches are counted.
    """

    def __init__(self, name: str, backend: LocalBackend, limits: Limits, metrics: Metrics) -> None:
        self.name = name
        self.backend = backend
        self.limits = limits
        self._metrics = metrics
        self._clients: dict[str, deque[_Running]] = {}  # in the order of their turns
        self._change = threading.Condition()
        self._open = 0  # jobs that wait or run
        self._state = "open"  # then "draining", "stopped"
        self._call_seconds = 0.1  # of one call in a batch, lately
        self._thread = threading.Thread(target=self._loop, name=f"fairpos-engine-{name}", daemon=True)
        metrics.queue.labels(name).set_function(lambda: self._open)

    def start(self) -> None:
        """Starts the worker."""
        self._thread.start()

    @property
    def alive(self) -> bool:
        """Whether the worker runs."""
        return self._thread.is_alive()

    @property
    def waiting(self) -> int:
        """Jobs that wait or run."""
        return self._open

    def submit(self, job: Job) -> Ticket:
        """Queues a job.

        Raises:
            ServiceError: 429 with retry-after when the queue is full, 503 on shutdown.
        """
        ticket = Ticket(job, asyncio.get_running_loop())
        with self._change:
            if self._state != "open":
                raise ServiceError(503, "shutting_down", "the service is shutting down", headers={"retry-after": "5"})
            if self._open >= self.limits.queue:
                self._metrics.rejected.labels(self.name).inc()
                wait = max(1, min(60, round(self._open * self._call_seconds)))
                raise ServiceError(
                    429,
                    "queue_full",
                    f"{self._open} requests wait for {self.name!r}, as many as may; try again in about {wait} s",
                    headers={"retry-after": str(wait)},
                )
            self._open += 1
            self._clients.setdefault(job.client, deque()).append(_Running(ticket, time.perf_counter()))
            self._change.notify()
        return ticket

    async def alone(self, function: Callable[[], T], client: str) -> T:
        """Runs a function in the worker's thread, when its turn comes; nothing else runs meanwhile."""
        found: list[T] = []

        def work() -> Work[list[Output]]:
            found.append(function())
            yield from ()
            return []

        await self.submit(Job(work(), client)).result()
        return found[0]

    async def stop(self, drain_s: float) -> None:
        """Takes no more jobs, gives those that are there `drain_s` seconds, then cancels what is left."""
        with self._change:
            self._state = "draining"
            self._change.notify()
        end = time.monotonic() + drain_s
        while self._open and self.alive and time.monotonic() < end:
            await asyncio.sleep(0.02)
        with self._change:
            self._state = "stopped"
            for running in itertools.chain(*self._clients.values()):
                running.ticket.put(ServiceError(503, "shutting_down", "the service was shut down before this was done"))
                running.ticket.cancel()
            self._change.notify()
        await asyncio.to_thread(self._thread.join, 30.0)

    # Everything below runs in the worker's thread.

    def _loop(self) -> None:
        while True:
            with self._change:
                self._change.wait_for(lambda: self._clients or self._state == "stopped")
                if self._state == "stopped" and not self._clients:
                    return
            self._drop_cancelled()
            batch = self._batch()
            if batch:
                self._run(batch)

    def _drop_cancelled(self) -> None:
        with self._change:
            gone = [r for jobs in self._clients.values() for r in jobs if r.ticket.cancelled.is_set()]
        for running in gone:
            self._metrics.cancelled.labels(self.name).inc()
            self._end(running, None)

    def _batch(self) -> list[_Item]:
        """Calls of one kind, one of each client in turn, as many as fit."""
        batch: list[_Item] = []
        with self._change:
            turns = deque(self._clients)
        while turns and len(batch) < self.limits.batch_calls:
            client = turns.popleft()
            item = self._next(client, batch)
            if item is not None:
                batch.append(item)
                turns.append(client)
        with self._change:  # whoever was first is last the next time
            for client in dict.fromkeys(item.running.ticket.job.client for item in batch):
                if client in self._clients:
                    self._clients[client] = self._clients.pop(client)
        return batch

    def _next(self, client: str, batch: list[_Item]) -> _Item | None:
        """The client's next call that can join the batch."""
        with self._change:
            jobs = list(self._clients.get(client, ()))
        for running in jobs:
            if running.ticket.cancelled.is_set():
                continue
            if not running.begun:
                running.begun = True
                self._advance(running, None)
            for at, (place, call, tokens) in enumerate(running.todo):
                if self._joins(call, tokens, batch):
                    del running.todo[at]
                    return _Item(running, place, call, tokens)
        return None

    def _joins(self, call: Call, tokens: int, batch: list[_Item]) -> bool:
        if not batch:
            return True
        if _kind(call) != _kind(batch[0].call):
            return False
        longest = max(tokens, *(item.tokens for item in batch))
        new = max(_new(call), *(_new(item.call) for item in batch))
        padded = (longest + new) * (len(batch) + 1)
        return padded <= self.limits.batch_tokens and longest + new <= self.backend.context

    def _advance(self, running: _Running, replies: list[Reply] | None) -> None:
        """Lets the job's work go on, to its next calls or to its end."""
        work = running.ticket.job.work
        try:
            calls = next(work) if replies is None else work.send(replies)
            if len(calls) > self.limits.calls:
                raise ServiceError(
                    422,
                    "too_many_calls",
                    f"the methods want {len(calls)} calls of the model; at most {self.limits.calls} are allowed here",
                )
            sizes = [self._checked(call) for call in calls]
        except StopIteration as stop:
            self._end(running, Finished(tuple(stop.value), running.finish))
        except Exception as error:
            self._end(running, error)
        else:
            running.todo = deque(
                (i, self._followed(running, c, calls), n) for i, (c, n) in enumerate(zip(calls, sizes, strict=True))
            )
            running.replies = [None] * len(calls)
            running.orders = tuple(call.prompt.request.ids for call in calls if isinstance(call, Generate))

    def _checked(self, call: Call) -> int:
        """Tokens of the call's prompt.

        Raises:
            TooLong: over the service's limit, or more than the model can hold.
        """
        prompts = [call.prompt, *(call.voters if isinstance(call, Generate) else ())]
        tokens = max(len(self.backend.layout(prompt)) for prompt in prompts)
        padded = len(prompts) * (tokens + _new(call))
        if len(prompts) > 1 and padded > self.limits.vote_tokens:
            raise TooLong(
                f"{len(prompts)} views that decode together take {padded} tokens; "
                f"at most {self.limits.vote_tokens} are allowed here: ask for fewer views or documents"
            )
        if tokens > self.limits.prompt_tokens:
            raise TooLong(f"got a prompt of {tokens} tokens; at most {self.limits.prompt_tokens} are allowed here")
        if tokens + _new(call) > self.backend.context:
            raise TooLong(
                f"got a prompt of {tokens} tokens and up to {_new(call)} new ones; "
                f"the model's context is {self.backend.context} tokens"
            )
        return tokens

    def _followed(self, running: _Running, call: Call, step: list[Call]) -> Call:
        """Generations are followed row by row, so that they share a batch and can be cancelled."""
        if not isinstance(call, Generate) or call.listing:
            return call
        decoding = call.decoding
        if decoding.generation_config or decoding.logits_processor or decoding.stopping_criteria or decoding.streamer:
            return call  # transformers' own, chosen by the method
        ticket = running.ticket
        streams = ticket.job.stream and len(step) == 1

        def on_text(piece: str) -> None:
            if streams:
                running.emitted = True
                ticket.put(Text(piece))

        return replace(call, decoding=replace(decoding, live=Live(on_text, ticket.cancelled.is_set)))

    def _run(self, batch: list[_Item]) -> None:
        for running in dict.fromkeys(item.running for item in batch):
            self._announce(running)
        kind = type(batch[0].call).__name__.lower()
        started = time.perf_counter()
        try:
            replies = self.backend.run([item.call for item in batch])
        except Exception as error:
            self._failed(batch, error)
            return
        seconds = time.perf_counter() - started
        self._call_seconds = 0.8 * self._call_seconds + 0.2 * seconds / len(batch)
        self._metrics.batch_calls.labels(self.name, kind).observe(len(batch))
        self._metrics.batch_seconds.labels(self.name, kind).observe(seconds)
        for item, reply in zip(batch, replies, strict=True):
            self._metrics.tokens.labels(self.name, "prompt").inc(reply.usage.prompt_tokens)
            self._metrics.tokens.labels(self.name, "completion").inc(reply.usage.completion_tokens)
            item.running.replies[item.place] = reply
            item.running.finish = reply.finish or item.running.finish
        for running in dict.fromkeys(item.running for item in batch):
            whole = [reply for reply in running.replies if reply is not None]
            if (
                not running.ticket.ended
                and not running.ticket.cancelled.is_set()
                and len(whole) == len(running.replies)
            ):
                self._advance(running, whole)

    def _announce(self, running: _Running) -> None:
        if not running.announced:
            self._metrics.wait_seconds.labels(self.name).observe(time.perf_counter() - running.arrived)
            running.announced = True
        if running.ticket.job.stream and running.orders:
            running.ticket.put(Started(running.orders))
            running.orders = ()

    def _failed(self, batch: list[_Item], error: Exception) -> None:
        """One bad call must not take its neighbours with it: what has shown nothing yet runs again alone."""
        if len(batch) == 1 or all(item.running is batch[0].running for item in batch):
            log.warning("batch failed", extra={"model": self.name, "calls": len(batch), "error": type(error).__name__})
            self._end(batch[0].running, error)
            return
        for item in batch:
            if item.running.ticket.ended:
                continue
            if item.running.emitted:
                self._end(item.running, error)
            else:
                self._run([item])

    def _end(self, running: _Running, event: Event | None) -> None:
        ticket = running.ticket
        if ticket.ended:
            return
        ticket.ended = True
        ticket.job.work.close()
        running.todo.clear()
        with self._change:
            jobs = self._clients[ticket.job.client]
            jobs.remove(running)
            if not jobs:
                del self._clients[ticket.job.client]
            self._open -= 1
        if event is not None:
            ticket.put(event)


def _kind(call: Call) -> tuple[object, ...]:
    """Calls of one kind go through the model together. Views that vote are a batch of their own."""
    if isinstance(call, Generate):
        return "generate", call.attend, bool(call.listing), id(call) if call.voters else None
    return "score", call.attend


def _new(call: Call) -> int:
    """Tokens that the call may add to its prompt."""
    return call.decoding.max_new_tokens if isinstance(call, Generate) else 0
