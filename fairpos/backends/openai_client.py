"""A client of OpenAI-compatible chat endpoints for many requests at once, where every call may fail and each one costs.

    with OpenAIClient("http://host:8000/v1", cache=ResponseCache("responses.sqlite")) as client:
        completions = client.complete_many([CompletionRequest({"model": ..., "messages": ...}), ...])

`complete_many` always ends with one `Completion` per request, in the order of the requests; what failed says so in its
status. Calls run at once up to a bound. Rate limits, server errors, lost connections, timeouts and responses that are
cut off are tried again after a growing, jittered wait, or after what the server asked for; errors that would only
repeat are not. Successful responses go into the cache the moment they arrive.

The calls are made by `AsyncOpenAIClient` in an event loop of the client's own, in a thread of its own, so that the
client works from plain scripts, from threads and inside of a running event loop (a notebook) alike, and connections
stay open from one call to the next. A server with an event loop awaits `run` instead: the calls are made in that same
loop of the client's, so that neither reading large responses nor SQLite stands in the way of the server's own loop, all
awaiting tasks share one bound, and cancelling a task breaks off its calls.
"""

from __future__ import annotations

import queue
import threading
import weakref
from collections.abc import Callable, Coroutine, Mapping, Sequence
from types import TracebackType
from typing import Any, Self, TypeAlias, TypeVar

from fairpos.backends.async_client import AsyncOpenAIClient, Batch, Dialects, KeyedCall, Limits
from fairpos.backends.backoff import Backoff
from fairpos.backends.completion import Completion, CompletionRequest
from fairpos.backends.endpoint import Endpoint
from fairpos.backends.loop_thread import LoopThread
from fairpos.backends.response_cache import Responses

__all__ = ["Backoff", "OpenAIClient"]

T = TypeVar("T")

_POLL_S = 0.1

OnDone: TypeAlias = Callable[[int, Completion], None]
_Arrivals: TypeAlias = (
    "queue.SimpleQueue[tuple[str, Completion] | None]"  # keys with completions; None only wakes the reader
)


class OpenAIClient:
    """Sends chat completions to one endpoint. Safe to use from several threads, which share its bound on calls at once.

    A pickled client connects anew where it is unpickled, with the key that it had.

    Costs: one background thread and up to `concurrency` connections, from the first call to `close`.

    Args:
        base_url: What the path `/chat/completions` follows, as in the OpenAI clients: "http://host:8000/v1". Azure's
            form ends in "?api-version=...".
        api_key: Sent as a bearer token; never logged, cached, or part of a cache key. None: the environment variable
            OPENAI_API_KEY; "": none, whatever the environment says.
        concurrency: Calls at once, at least 1.
        timeout_s: Seconds for one call, from connecting to the last byte.
        attempts: Calls per request at the most, at least 1.
        backoff: The waits between them.
        cache: Where responses are looked up and stored. The caller closes it.
        headers: Further headers of every call.
        rpm: Calls a minute at the most; None: no limit.

    Raises:
        InvalidOption: an argument outside of what is allowed.
        MissingDependency: httpx2 isn't installed.
    """

    def __init__(
        self,
        base_url: str,
        *,
        api_key: str | None = None,
        concurrency: int = 16,
        timeout_s: float = 120.0,
        attempts: int = 6,
        backoff: Backoff | None = None,
        cache: Responses | None = None,
        headers: Mapping[str, str] | None = None,
        rpm: float | None = None,
    ) -> None:
        self.limits = Limits(concurrency, timeout_s, attempts, backoff or Backoff(), rpm)
        self.endpoint = Endpoint(base_url, api_key, headers or {})
        self.cache = cache
        self._start_loop()

    def _start_loop(self) -> None:
        dialects = Dialects()
        endpoint, limits, cache = self.endpoint, self.limits, self.cache  # not self: the finaliser must be able to run
        self._loop: LoopThread[AsyncOpenAIClient] = LoopThread(
            "fairpos-openai", lambda: AsyncOpenAIClient(endpoint, limits, cache=cache, dialects=dialects)
        )
        weakref.finalize(self, self._loop.stop)

    @property
    def base_url(self) -> str:
        """The endpoint's address."""
        return self.endpoint.base_url

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.base_url!r}, concurrency={self.limits.concurrency})"

    def rebuilt(self, endpoint: Endpoint, limits: Limits, cache: Responses | None) -> OpenAIClient:
        """A client of the same model at another address, with other bounds, or with another cache."""
        other = object.__new__(OpenAIClient)
        other.__setstate__({"endpoint": endpoint, "limits": limits, "cache": cache})
        return other

    def __getstate__(self) -> dict[str, Any]:
        return {"endpoint": self.endpoint, "limits": self.limits, "cache": self.cache}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._start_loop()

    def complete_many(
        self,
        requests: Sequence[CompletionRequest],
        *,
        on_done: OnDone | None = None,
        cancel: threading.Event | None = None,
    ) -> list[Completion]:
        """Completes all requests and waits for them.

        Requests equal in body and sample are one call; the others of them get its completion, with `attempts` 0.

        Args:
            requests: What to ask for.
            on_done: Called in this thread with the index and the completion of each request, in the order in which they
                finish, after its response is in the cache; not for cancelled ones.
            cancel: When it is set, calls on their way are broken off and the rest are not made; all these get status
                "cancelled".

        Returns:
            One completion per request, in their order.

        Raises:
            KeyboardInterrupt: after the calls on their way have been broken off; what had arrived is in the cache.
            Exception: whatever `on_done` raises, in the same way.
        """
        batch = Batch(requests, self.endpoint, self.cache)

        def deliver(key: str, completion: Completion) -> None:
            for index, delivered in batch.deliver(key, completion):
                if on_done is not None and delivered.status != "cancelled":
                    on_done(index, delivered)

        for key, completion in batch.stored.items():
            deliver(key, completion)
        if batch.calls and not (cancel is not None and cancel.is_set()):
            self._make_calls(batch.calls, deliver, cancel)
        return batch.completions

    async def run(self, requests: Sequence[CompletionRequest]) -> list[Completion]:
        """`complete_many` for whoever has an event loop: `await` it there, from any number of tasks.

        The calls are made in the client's own loop. Cancelling the awaiting task breaks off its calls, and leaves those
        of others alone.
        """
        return await self._loop.run(lambda core: core.run(requests))

    async def do(self, work: Callable[[AsyncOpenAIClient], Coroutine[None, None, T]]) -> T:
        """Runs a coroutine on the core, in the client's own loop, for whoever awaits it in another one."""
        return await self._loop.run(work)

    def wait_for(self, work: Callable[[AsyncOpenAIClient], Coroutine[None, None, T]]) -> T:
        """Runs a coroutine on the core, in the client's own loop, and waits for it."""
        return self._loop.wait_for(work)

    def close(self) -> None:
        """Breaks off what is on its way and closes the connections. A later call would open new ones."""
        self._loop.stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _make_calls(
        self,
        calls: Sequence[KeyedCall],
        deliver: Callable[[str, Completion], None],
        cancel: threading.Event | None,
    ) -> None:
        """Makes the calls in the loop's thread and delivers in this one, until the last call has ended."""
        arrivals: _Arrivals = queue.SimpleQueue()
        task = self._loop.start(
            lambda core: core.make(calls, lambda key, completion: arrivals.put((key, completion))),
            lambda: arrivals.put(None),
        )
        try:
            while not (task.ended.is_set() and arrivals.empty()):
                if cancel is not None and cancel.is_set():
                    task.cancel()
                # Not without a limit: some systems can't interrupt such a wait, and `cancel` must be looked at.
                try:
                    item = arrivals.get(timeout=_POLL_S)
                except queue.Empty:
                    continue
                if item is not None:
                    deliver(*item)
        except BaseException:
            task.cancel()
            task.ended.wait()
            raise
        task.raise_error()
