"""A client of OpenAI-compatible chat endpoints for many requests at once, where every call may fail and each one costs.

    with OpenAIClient("http://host:8000/v1", cache=ResponseCache("responses.sqlite")) as client:
        completions = client.complete_many([CompletionRequest({"model": ..., "messages": ...}), ...])

`complete_many` always ends with one `Completion` per request, in the order of the requests; what failed says so in its
status. Calls run at once up to a bound. Rate limits, server errors, lost connections, timeouts and responses that are
cut off are tried again after a growing, jittered wait, or after what the server asked for; errors that would only
repeat are not. Successful responses go into the cache the moment they arrive.

asyncio runs in a thread of its own, so that the client works from plain scripts, from threads and inside a running
event loop (a notebook) alike, and connections stay open from one call to the next.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import email.utils
import logging
import os
import queue
import random
import threading
import time
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, replace
from types import TracebackType
from typing import TYPE_CHECKING, Self, TypeAlias

from fairpos.backends.completion import (
    Completion,
    CompletionRequest,
    CompletionStatus,
    MalformedResponse,
    read_error,
    read_response,
)
from fairpos.backends.response_cache import ResponseCache
from fairpos.errors import BackendError, InvalidOption, MissingDependency

if TYPE_CHECKING:
    import httpx2

_LOG = logging.getLogger(__name__)
_CONNECT_S = 10.0
_POLL_S = 0.1
_RETRIED_STATUS = frozenset({408, 409, 429})  # and 5xx
# What the transport tells of a call that has found its connection, before it hands over the body.
_LEAVING = frozenset({"http11.send_request_headers.started", "http11.send_request_headers.complete"})

OnDone: TypeAlias = Callable[[int, Completion], None]
Trace: TypeAlias = Callable[[str, Mapping[str, object]], Awaitable[None]]  # (event, its fields), as httpcore reports
_Done: TypeAlias = (
    "queue.SimpleQueue[tuple[str, Completion] | None]"  # keys with completions; None only wakes the reader
)


@dataclass(frozen=True, slots=True)
class Backoff:
    """How long to wait before a call is tried again.

    Attributes:
        first_s: Seconds before the 2nd attempt; doubled for each further one. A random half of it is taken off, so that
            calls that failed together don't come back together.
        most_s: No wait is longer, whatever the server asks for.
    """

    first_s: float = 0.5
    most_s: float = 60.0

    def __post_init__(self) -> None:
        if not (self.first_s >= 0 and self.most_s >= 0):
            raise InvalidOption(f"first_s and most_s must be at least 0, got {self.first_s} and {self.most_s}")

    def seconds(self, attempt: int, asked_s: float | None, share: float) -> float:
        """The wait after a failed attempt.

        Args:
            attempt: Number of the attempt that failed, from 1.
            asked_s: What the server's Retry-After says; the wait is at least that long, up to `most_s`.
            share: A random number between 0 and 1.
        """
        own = self.first_s * 2.0 ** min(attempt - 1, 60) * (0.5 + share / 2)
        return min(self.most_s, (asked_s or 0.0) + own)


@dataclass(frozen=True, slots=True)
class _Call:
    """A request under its key."""

    key: str
    request: CompletionRequest


@dataclass(frozen=True, slots=True)
class _Attempt:
    """What one call came to; `raw` is there if it may be cached."""

    completion: Completion
    raw: str | None = None
    again: bool = False
    asked_s: float | None = None


class OpenAIClient:
    """Sends chat completions to one endpoint. Safe to use from several threads, which share its bound on calls at once.

    Costs: one background thread and up to `concurrency` connections, from the first call to `close`.

    Args:
        base_url: What the path `/chat/completions` follows, as in the OpenAI clients: "http://host:8000/v1".
        api_key: Sent as a bearer token; never logged, cached, or part of a cache key. None: the environment variable
            OPENAI_API_KEY; "": none, whatever the environment says.
        concurrency: Calls at once, at least 1.
        timeout_s: Seconds for one call, from connecting to the last byte.
        attempts: Calls per request at the most, at least 1.
        backoff: The waits between them.
        cache: Where responses are looked up and stored. The caller closes it.

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
        cache: ResponseCache | None = None,
    ) -> None:
        if concurrency < 1:
            raise InvalidOption(f"concurrency must be at least 1, got {concurrency}")
        if not timeout_s > 0:
            raise InvalidOption(f"timeout_s must be above 0, got {timeout_s}")
        if attempts < 1:
            raise InvalidOption(f"attempts must be at least 1, got {attempts}")
        self.base_url = _checked_url(base_url)
        self.concurrency = concurrency
        self.timeout_s = timeout_s
        self.attempts = attempts
        self.backoff = backoff or Backoff()
        self.cache = cache
        self._api_key = (os.environ.get("OPENAI_API_KEY", "") if api_key is None else api_key).strip()
        if not (self._api_key.isascii() and self._api_key.isprintable()):
            raise InvalidOption("api_key must be printable ASCII, and what was given is not; it is not shown here")
        self._jitter = random.Random()  # only waits depend on it, never a result
        self._loop = _LoopThread(self._api_key, concurrency, timeout_s)
        weakref.finalize(self, self._loop.stop)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.base_url!r}, concurrency={self.concurrency})"

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
        places: dict[str, list[int]] = {}
        for index, request in enumerate(requests):
            places.setdefault(request.key(self.base_url), []).append(index)
        results: list[Completion | None] = [None] * len(requests)

        def deliver(key: str, completion: Completion) -> None:
            for index in places[key]:
                results[index] = completion
                if on_done is not None and completion.status != "cancelled":
                    on_done(index, completion)
                copied = completion.cached or completion.status in ("ok", "refused", "empty")
                completion = replace(completion, attempts=0, cached=copied)

        calls = []
        for key, (first, *_) in places.items():
            stored = self._stored(key)
            if stored is None:
                calls.append(_Call(key, requests[first]))
            else:
                deliver(key, stored)
        if calls and not (cancel is not None and cancel.is_set()):
            self._run(calls, deliver, cancel)
        cancelled = Completion(status="cancelled", detail="cancelled before it was sent")
        return [cancelled if result is None else result for result in results]

    def close(self) -> None:
        """Breaks off what is on its way and closes the connections. A later call would open new ones."""
        self._loop.stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _stored(self, key: str) -> Completion | None:
        stored = None if self.cache is None else self.cache.get(key)
        if stored is None:
            return None
        try:
            return replace(read_response(stored.raw), cached=True, latency_s=stored.latency_s)
        except MalformedResponse:
            return None  # written by a release that read responses differently

    def _run(
        self, calls: Sequence[_Call], deliver: Callable[[str, Completion], None], cancel: threading.Event | None
    ) -> None:
        """Makes the calls in the loop's thread and delivers in this one, until the last call has ended."""
        done: _Done = queue.SimpleQueue()
        task = self._loop.start(lambda: self._make(calls, done), lambda: done.put(None))
        try:
            while not (task.ended.is_set() and done.empty()):
                if cancel is not None and cancel.is_set():
                    task.cancel()
                # Not without a limit: some systems can't interrupt such a wait, and `cancel` must be looked at.
                try:
                    item = done.get(timeout=_POLL_S)
                except queue.Empty:
                    continue
                if item is not None:
                    deliver(*item)
        except BaseException:
            task.cancel()
            task.ended.wait()
            raise
        task.raise_error()

    async def _make(self, calls: Sequence[_Call], done: _Done) -> None:
        waiting = iter(calls)

        async def work() -> None:
            for call in waiting:
                await self._complete(call, done)

        async with asyncio.TaskGroup() as group:
            for _ in range(min(self.concurrency, len(calls))):
                group.create_task(work())

    async def _complete(self, call: _Call, done: _Done) -> None:
        """Tries one call until it succeeds, can't, or has had its attempts; hands over what came of it."""
        number = 0
        try:
            while True:
                async with self._loop.slots:
                    number += 1
                    attempt = await self._attempt(call)
                if not attempt.again or number == self.attempts:
                    break
                wait = self.backoff.seconds(number, attempt.asked_s, self._jitter.random())
                _LOG.debug("attempt %d failed (%s); again in %.2f s", number, attempt.completion.detail, wait)
                await asyncio.sleep(wait)
        except asyncio.CancelledError:
            done.put((call.key, Completion(status="cancelled", attempts=number, detail="cancelled on its way")))
            raise
        done.put((call.key, replace(attempt.completion, attempts=number)))

    async def _attempt(self, call: _Call) -> _Attempt:
        """One call. No exception of the transport leaves it; a good response is in the cache when it returns."""
        import httpx2

        started = time.perf_counter()
        try:
            # The transport's own timeouts start anew with every byte: a server that trickles could hold a call forever.
            async with asyncio.timeout(self.timeout_s), self._loop.turn() as trace:
                response = await self._loop.http.post(
                    f"{self.base_url}/chat/completions",
                    content=call.request.canonical(),
                    headers={"Content-Type": "application/json"},
                    extensions={"trace": trace},
                )
        except (TimeoutError, httpx2.TimeoutException):
            failed = Completion(status="timeout", detail=f"no whole response within {self.timeout_s} s")
            attempt = _Attempt(failed, again=True)
        except httpx2.HTTPError as error:
            status: CompletionStatus = "malformed" if isinstance(error, httpx2.DecodingError) else "http_error"
            attempt = _Attempt(Completion(status=status, detail=f"{type(error).__name__}: {error}"), again=True)
        else:
            attempt = _read(response)
        latency_s = time.perf_counter() - started
        if attempt.raw is not None:
            self._store(call.key, attempt.raw, latency_s)
        completion = replace(
            attempt.completion, latency_s=latency_s, detail=self._without_key(attempt.completion.detail)
        )
        return replace(attempt, completion=completion)

    def _store(self, key: str, raw: str, latency_s: float) -> None:
        # In the loop's thread on purpose: nothing can come between a response and its commit, which takes 0.1 ms.
        if self.cache is None:
            return
        try:
            self.cache.put(key, raw, latency_s)
        except BackendError as error:
            # The response is paid for and still good: a full disk must not lose it for this run as well.
            _LOG.warning("a response can't be stored, so that a later run will ask for it again: %s", error)

    def _without_key(self, detail: str) -> str:
        return detail.replace(self._api_key, "***") if self._api_key else detail


def _read(response: httpx2.Response) -> _Attempt:
    status = response.status_code
    if not response.is_success:
        failed = read_error(status, response.content.decode("utf-8", "replace"))
        again = status in _RETRIED_STATUS or status >= 500
        return _Attempt(failed, again=again, asked_s=_retry_after(response.headers, time.time()))
    try:
        raw = response.content.decode("utf-8")
        completion = replace(read_response(raw), http_status=status)
    except (MalformedResponse, UnicodeDecodeError) as error:
        return _Attempt(Completion(status="malformed", http_status=status, detail=str(error)), again=True)
    return _Attempt(completion, raw=raw)


def _retry_after(headers: Mapping[str, str], now: float) -> float | None:
    """Seconds that the server asks to wait: `Retry-After-Ms`, or `Retry-After` in seconds or as a date."""
    for header, unit in (("retry-after-ms", 1e-3), ("retry-after", 1.0)):
        value = headers.get(header, "")
        try:
            return max(0.0, float(value) * unit)
        except ValueError:
            pass
    try:
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - now)
    except (ValueError, OverflowError):
        return None


def _checked_url(base_url: str) -> str:
    try:
        import httpx2
    except ImportError as error:
        raise MissingDependency("an endpoint is asked through httpx2: run `pip install 'fairpos[remote]'`") from error
    try:
        url = httpx2.URL(base_url)
    except httpx2.InvalidURL as error:
        raise InvalidOption(f"base_url must look like http://host:8000/v1, got {base_url!r}: {error}") from error
    if url.userinfo or url.query or url.fragment:  # not shown: these are places where people put keys
        raise InvalidOption("base_url must be without a user, a query and a fragment; a key goes into api_key")
    if url.scheme not in ("http", "https") or not url.host or not 0 < (url.port or 80) < 65536:
        raise InvalidOption(f"base_url must look like http://host:8000/v1, got {base_url!r}")
    if url.path.rstrip("/").endswith("/chat/completions"):
        raise InvalidOption(f"base_url must be what comes before /chat/completions, got {base_url!r}")
    return str(url).rstrip("/")


class _Task:
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


class _LoopThread:
    """An event loop with an HTTP client in a thread, started when it is first needed."""

    http: httpx2.AsyncClient
    slots: asyncio.Semaphore

    def __init__(self, api_key: str, concurrency: int, timeout_s: float) -> None:
        self._api_key = api_key
        self._concurrency = concurrency
        self._timeout_s = timeout_s
        self._guard = threading.Lock()
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop
        self._stop: asyncio.Event
        self._leaving: asyncio.Lock

    def start(self, coroutine: Callable[[], Coroutine[None, None, None]], on_end: Callable[[], None]) -> _Task:
        """Runs a coroutine in the loop; `on_end` is called there when it has ended, however it did."""
        with self._guard:
            if self._thread is None:
                ready: concurrent.futures.Future[None] = concurrent.futures.Future()
                thread = threading.Thread(
                    target=lambda: asyncio.run(self._serve(ready)), name="fairpos-openai", daemon=True
                )
                thread.start()
                ready.result()
                self._thread = thread
            handle = _Task(self._loop)

            def end(_: asyncio.Task[None]) -> None:
                handle.ended.set()
                on_end()

            def begin() -> None:
                handle.task = self._loop.create_task(coroutine())
                handle.task.add_done_callback(end)

            self._loop.call_soon_threadsafe(begin)
            return handle

    @contextlib.asynccontextmanager
    async def turn(self) -> AsyncIterator[Trace]:
        """Calls leave one after the other: waits for the one before, and gives what its transport shall report to.

        Calls begun together would take every step together, and the first would leave as late as the last. No call
        waits for another's network: one that has to connect first lets the next one pass, and so does one that hands
        over its body, which a server may be slow to take.
        """
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

    def stop(self) -> None:
        """Cancels what runs, closes the connections and ends the thread."""
        with self._guard:
            thread, self._thread = self._thread, None
            if thread is None:
                return
            self._loop.call_soon_threadsafe(self._stop.set)
        if thread is not threading.current_thread():  # the collector may run a finaliser anywhere
            thread.join()

    async def _serve(self, ready: concurrent.futures.Future[None]) -> None:
        try:
            self._loop = asyncio.get_running_loop()
            self._stop = asyncio.Event()
            self.slots = asyncio.Semaphore(self._concurrency)
            self._leaving = asyncio.Lock()
            self.http = self._make_http()
        except BaseException as error:
            ready.set_exception(error)  # raised where the client is used
            return
        async with self.http:
            ready.set_result(None)
            await self._stop.wait()
            running = asyncio.all_tasks() - {asyncio.current_task()}
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)

    def _make_http(self) -> httpx2.AsyncClient:
        import httpx2

        return httpx2.AsyncClient(
            headers={"Authorization": f"Bearer {self._api_key}"} if self._api_key else {},
            timeout=httpx2.Timeout(self._timeout_s, connect=min(_CONNECT_S, self._timeout_s), pool=None),
            limits=httpx2.Limits(max_connections=self._concurrency, max_keepalive_connections=self._concurrency),
        )
