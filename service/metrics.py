"""What Prometheus sees. One registry an app, so that several apps in a process don't mix."""

from __future__ import annotations

import asyncio
import time

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

_LOOK_S = 0.02
_LAG_SECONDS = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1, 5)
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)


class Metrics:
    """The service's counters; labels never hold what a client made up."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        r = self.registry
        self.requests = Counter("fairpos_requests", "Requests by route and status.", ["route", "status"], registry=r)
        self.seconds = Histogram(
            "fairpos_request_seconds", "Whole requests, streams included.", ["route"], registry=r, buckets=_SECONDS
        )
        self.first_byte = Histogram(
            "fairpos_first_byte_seconds", "To the first byte of the reply.", ["route"], registry=r, buckets=_SECONDS
        )
        self.open = Gauge("fairpos_open_requests", "Requests being answered.", registry=r)
        self.loop_lag = Histogram(
            "fairpos_loop_lag_seconds", "How late the event loop comes.", registry=r, buckets=_LAG_SECONDS
        )
        self.queue = Gauge("fairpos_queue_jobs", "Requests that wait or run on a local model.", ["model"], registry=r)
        self.batch_calls = Histogram(
            "fairpos_batch_calls",
            "Calls that ran as one batch.",
            ["model", "kind"],
            registry=r,
            buckets=(1, 2, 4, 8, 16, 32, 64),
        )
        self.batch_seconds = Histogram(
            "fairpos_batch_seconds", "One batch.", ["model", "kind"], registry=r, buckets=_SECONDS
        )
        self.wait_seconds = Histogram(
            "fairpos_queue_seconds", "From arrival to the first batch.", ["model"], registry=r, buckets=_SECONDS
        )
        self.tokens = Counter("fairpos_tokens", "Tokens on local models.", ["model", "kind"], registry=r)
        self.cancelled = Counter("fairpos_cancelled", "Requests whose client went away.", ["model"], registry=r)
        self.rejected = Counter(
            "fairpos_rejected", "Requests refused because the queue was full.", ["model"], registry=r
        )
        self.upstream_errors = Counter("fairpos_upstream_errors", "Upstream failures by kind.", ["kind"], registry=r)
        self.unparsable = Counter(
            "fairpos_unparsable", "Model replies that could not be used, by status.", ["task", "status"], registry=r
        )
        self.methods = Counter("fairpos_methods", "Requests by method.", ["method", "task"], registry=r)

    async def watch_loop(self) -> None:
        """Measures, until it is cancelled, how late the event loop comes to what is due."""
        while True:
            due = time.perf_counter() + _LOOK_S
            await asyncio.sleep(_LOOK_S)
            self.loop_lag.observe(max(0.0, time.perf_counter() - due))

    def text(self) -> bytes:
        """The exposition format."""
        return generate_latest(self.registry)
