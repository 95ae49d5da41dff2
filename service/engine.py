"""One worker owns one local model; the requests of all users wait in one queue and share its batches.

    submit(job) -> Ticket        in the event loop; 429 when the queue is full

The worker lets jobs yield their calls, takes calls of one kind from all jobs, in turn between clients, as many as fit
into one batch, runs them, and hands the replies back. So the views of one request and the requests of many users meet
in one batch. Beside the worker a job's work goes on to its next calls and their prompts are counted in tokens, so that
an encoder, an aggregation or a long prompt holds up nobody but its own client.

A batch of generations runs until its longest is done; a row whose client goes away ends at its next token, and a job
that waits is dropped at once.
"""

from __future__ import annotations

import asyncio
import itertools
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import TypeVar

from fairpos.backends.base import Call, Generate, Live, Reply
from fairpos.backends.work import Work
from fairpos.types import Output

from .batching import BatchItem, RunningJob, SizedCall, choose_batch, jobs_to_begin
from .beside import SharedThreads
from .errors import ServiceError
from .logs import log
from .metrics import Metrics
from .sizing import Limits, LocalBackend, check_number, sized_call
from .tickets import Event, Finished, Job, Started, Text, Ticket
from .traces import note_batch

T = TypeVar("T")

_PREPARING_THREADS = 4
_PREPARING_S = 0.1  # how long a batch waits for a job that is on the way to its next calls
_LOOK_S = 0.25  # how soon a cancelled job leaves an idle engine
_JOIN_S = 0.5  # how long the end of the process waits for a batch that runs


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
        self._clients: dict[str, deque[RunningJob]] = {}  # in the order of their turns
        self._change = threading.Condition()
        self._open = 0  # jobs that wait or run
        self._state = "open"  # then "draining", "stopped"
        self._call_seconds = 0.1  # of one call in a batch, lately
        self._thread = threading.Thread(target=self._work_until_stopped, name=f"fairpos-engine-{name}", daemon=True)
        self._beside = SharedThreads(_PREPARING_THREADS, f"fairpos-beside-{name}")
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
            self._clients.setdefault(job.client, deque()).append(RunningJob(ticket, time.perf_counter()))
            self._change.notify()
        return ticket

    async def run_alone(self, function: Callable[[], T], client: str) -> T:
        """Runs a function in the worker's thread, when its turn comes; nothing else runs meanwhile."""
        found: list[T] = []

        def work() -> Work[list[Output]]:
            found.append(function())
            yield from ()
            return []

        await self.submit(Job(work(), client, takes_model=True)).result()
        return found[0]

    async def stop(self, drain_s: float) -> None:
        """Takes no more jobs, gives those that are there `drain_s` seconds, then cancels what is left."""
        with self._change:
            self._state = "draining"
            self._change.notify()
        end = time.monotonic() + drain_s
        while self._open and self.alive and time.monotonic() < end:
            await asyncio.sleep(0.02)
        self.cancel_all()
        with self._change:
            self._state = "stopped"
            self._change.notify()
        await asyncio.to_thread(self._thread.join, _JOIN_S)
        self._beside.close()  # what is left are cancelled jobs, which end at once

    def cancel_all(self) -> None:
        """Gives up every job; who waits for one is told that the service shuts down."""
        with self._change:
            for job in itertools.chain(*self._clients.values()):
                job.ticket.put(ServiceError(503, "shutting_down", "the service was shut down before this was done"))
                job.ticket.cancel()
            self._change.notify()

    # Everything below runs in the worker's thread, `_prepare_step` in one beside it.

    def _work_until_stopped(self) -> None:
        while True:
            with self._change:
                self._change.wait_for(lambda: self._state == "stopped" or self._has_work(), _LOOK_S)
                if self._state == "stopped" and not self._clients:
                    return
            self._drop_cancelled()
            batch = self._next_batch()
            if batch:
                self._run_batch(batch)

    def _has_work(self) -> bool:
        return any(job.wants_worker for jobs in self._clients.values() for job in jobs)

    def _drop_cancelled(self) -> None:
        with self._change:
            gone = [job for jobs in self._clients.values() for job in jobs if job.ticket.cancelled.is_set()]
        for job in gone:
            if job.preparing:  # its thread comes to the next calls first
                continue
            self._metrics.cancelled.labels(self.name).inc()
            self._end_job(job, None)

    def _next_batch(self) -> list[BatchItem]:
        self._wait_for_steps()  # a job that ends makes room for one that begins
        with self._change:
            queues = {client: list(jobs) for client, jobs in self._clients.items()}
        for job in jobs_to_begin(queues, self.limits):
            self._advance_job(job)
        self._wait_for_steps()  # so that requests which came together run together
        batch = choose_batch(queues, self.limits, self.backend.context)
        with self._change:  # whoever was first is last the next time
            for client in dict.fromkeys(item.job.ticket.job.client for item in batch):
                if client in self._clients:
                    self._clients[client] = self._clients.pop(client)
        return batch

    def _wait_for_steps(self) -> None:
        """Waits for jobs that are on the way to their next calls; what takes longer waits for the next batch."""

        def any_will_soon_be_ready() -> bool:
            since = [job.prepares_since for jobs in self._clients.values() for job in jobs]
            return any(each is not None and time.perf_counter() - each < _PREPARING_S for each in since)

        with self._change:
            self._change.wait_for(lambda: not any_will_soon_be_ready(), _PREPARING_S)

    def _advance_job(self, job: RunningJob, replies: list[Reply] | None = None) -> None:
        """Lets the job's work go on, to its next calls or to its end."""
        job.begun, job.prepares_since = True, time.perf_counter()
        if job.ticket.job.takes_model:
            self._prepare_step(job, replies)
        else:
            self._beside.submit(job.ticket.job.client, partial(self._prepare_step, job, replies))

    def _prepare_step(self, job: RunningJob, replies: list[Reply] | None) -> None:
        try:
            if not job.ticket.cancelled.is_set():
                self._find_next_calls(job, replies)
        finally:
            with self._change:
                job.prepares_since = None
                self._change.notify()

    def _find_next_calls(self, job: RunningJob, replies: list[Reply] | None) -> None:
        """Runs the job's work to its next calls, counts their tokens, and lets them wait for their batch."""
        work = job.ticket.job.work
        try:
            calls = next(work) if replies is None else work.send(replies)
            check_number(len(calls), self.limits)
            sized = self._sized_calls(job, calls)
        except StopIteration as stop:
            self._end_job(job, Finished(tuple(stop.value), job.finish, job.stopped_by))
        except Exception as error:
            self._end_job(job, error)
        else:
            job.waiting.extend(sized)
            job.replies = [None] * len(calls)
            job.orders = tuple(call.prompt.request.ids for call in calls if isinstance(call, Generate))

    def _sized_calls(self, job: RunningJob, calls: list[Call]) -> list[SizedCall]:
        given_up = job.ticket.cancelled.is_set
        fills = job.ticket.job.fills_context
        sized = []
        for place, call in enumerate(calls):
            call, tokens = sized_call(call, self.backend, self.limits, fills_context=fills, given_up=given_up)
            sized.append(SizedCall(place, self._followed_by_client(job, call, calls), tokens))
        return sized

    def _followed_by_client(self, job: RunningJob, call: Call, step: list[Call]) -> Call:
        """Generations are followed row by row, so that they share a batch and can be cancelled."""
        if not isinstance(call, Generate) or call.listing:
            return call
        decoding = call.decoding
        if decoding.generation_config or decoding.logits_processor or decoding.stopping_criteria or decoding.streamer:
            return call  # transformers' own, chosen by the method
        ticket = job.ticket
        streams = ticket.job.stream and len(step) == 1

        def on_text(piece: str) -> None:
            if streams:
                job.emitted = True
                ticket.put(Text(piece))

        return replace(call, decoding=replace(decoding, live=Live(on_text, ticket.cancelled.is_set)))

    def _run_batch(self, batch: list[BatchItem]) -> None:
        jobs = list(dict.fromkeys(item.job for item in batch))
        for job in jobs:
            self._announce_start(job)
        kind = type(batch[0].sized.call).__name__.lower()
        started, began_ns = time.perf_counter(), time.time_ns()
        try:
            replies = self.backend.run([item.sized.call for item in batch])
        except Exception as error:
            self._isolate_failure(batch, error)
            return
        seconds = time.perf_counter() - started
        for job in jobs:
            own = sum(item.job is job for item in batch)
            told: dict[str, str | int] = {"kind": kind, "model": self.name, "calls": own, "batch_calls": len(batch)}
            note_batch(job.ticket.context, began_ns, time.time_ns(), **told)
        self._call_seconds = 0.8 * self._call_seconds + 0.2 * seconds / len(batch)
        self._metrics.batch_calls.labels(self.name, kind).observe(len(batch))
        self._metrics.batch_seconds.labels(self.name, kind).observe(seconds)
        for item, reply in zip(batch, replies, strict=True):
            self._metrics.tokens.labels(self.name, "prompt").inc(reply.usage.prompt_tokens)
            self._metrics.tokens.labels(self.name, "completion").inc(reply.usage.completion_tokens)
            item.job.replies[item.sized.place] = reply
            if reply.finish:
                item.job.finish, item.job.stopped_by = reply.finish, reply.stopped_by
        for job in jobs:
            whole = [reply for reply in job.replies if reply is not None]
            if not job.ended and not job.ticket.cancelled.is_set() and len(whole) == len(job.replies):
                self._advance_job(job, whole)

    def _announce_start(self, job: RunningJob) -> None:
        if not job.announced:
            self._metrics.wait_seconds.labels(self.name).observe(time.perf_counter() - job.arrived)
            job.announced = True
        if job.ticket.job.stream and job.orders:
            job.ticket.put(Started(job.orders))
            job.orders = ()

    def _isolate_failure(self, batch: list[BatchItem], error: Exception) -> None:
        """One bad call must not take its neighbours with it: what has shown nothing yet runs again alone."""
        if all(item.job is batch[0].job for item in batch):
            log.warning("batch failed", extra={"model": self.name, "calls": len(batch), "error": type(error).__name__})
            self._end_job(batch[0].job, error)
            return
        for item in batch:
            if item.job.ended:
                continue
            if item.job.emitted:
                self._end_job(item.job, error)
            else:
                self._run_batch([item])

    def _end_job(self, job: RunningJob, event: Event | None) -> None:
        ticket = job.ticket
        with self._change:
            if job.ended:
                return
            job.ended = True
            job.waiting.clear()
            jobs = self._clients[ticket.job.client]
            jobs.remove(job)
            if not jobs:
                del self._clients[ticket.job.client]
            self._open -= 1
        ticket.job.work.close()
        if event is not None:
            ticket.put(event)
