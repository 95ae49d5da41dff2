"""The core of the endpoint client: calls in one event loop, tried again where that helps, cached as they arrive.

    async with AsyncOpenAIClient(endpoint, limits, cache=cache) as client:
        completions = await client.run(requests)

Code that has an event loop and several threads to care for (the service) doesn't use this class itself but
`OpenAIClient.run`, which awaits it in the client's own loop.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import random
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import TracebackType
from typing import TYPE_CHECKING, Self, TypeAlias

from fairpos.backends.backoff import Backoff, retry_after_s
from fairpos.backends.completion import (
    JSON,
    Completion,
    CompletionRequest,
    CompletionStatus,
    MalformedResponse,
    read_error,
    read_response,
)
from fairpos.backends.dialect import Dialect
from fairpos.backends.endpoint import Endpoint
from fairpos.backends.pacing import Departures, Pace
from fairpos.backends.response_cache import Responses
from fairpos.errors import BackendError, InvalidOption

if TYPE_CHECKING:
    import httpx2

_LOG = logging.getLogger(__name__)
_CONNECT_S = 10.0
_MODELS = 1024  # whose dialects are kept
_RETRIED_STATUS = frozenset({408, 409, 429})  # and 5xx

OnCompletion: TypeAlias = Callable[[str, Completion], object]  # a call's key, and what came of it


@dataclass(frozen=True, slots=True)
class Limits:
    """What a client may do at once, in all and in time.

    Attributes:
        concurrency: Calls at once, at least 1.
        timeout_s: Seconds for one call, from connecting to the last byte.
        attempts: Calls per request at the most, at least 1. Calls that teach what an endpoint refuses come on top.
        backoff: The waits between them.
        rpm: Calls a minute, attempts included; None: no limit.

    Raises:
        InvalidOption: a value outside of what is allowed.
    """

    concurrency: int = 16
    timeout_s: float = 120.0
    attempts: int = 6
    backoff: Backoff = Backoff()
    rpm: float | None = None

    def __post_init__(self) -> None:
        if self.concurrency < 1:
            raise InvalidOption(f"concurrency must be at least 1, got {self.concurrency}")
        if not self.timeout_s > 0:
            raise InvalidOption(f"timeout_s must be above 0, got {self.timeout_s}")
        if self.attempts < 1:
            raise InvalidOption(f"attempts must be at least 1, got {self.attempts}")
        Pace(self.rpm)


@dataclass(frozen=True, slots=True)
class KeyedCall:
    """A request under its key."""

    key: str
    request: CompletionRequest


class Batch:
    """Requests and their completions. Requests equal in body and sample are one call, whose completion they share.

    Args:
        requests: What is asked for.
        endpoint: Of whom; part of the keys.
        cache: What is in there is not asked for again.
    """

    def __init__(self, requests: Sequence[CompletionRequest], endpoint: Endpoint, cache: Responses | None) -> None:
        self.requests = requests
        self._places: dict[str, list[int]] = {}
        for index, request in enumerate(requests):
            self._places.setdefault(request.key(endpoint.kept_under), []).append(index)
        self._found: list[Completion | None] = [None] * len(requests)
        stored = {key: read_stored(cache, key) for key in self._places}
        self.stored = {key: completion for key, completion in stored.items() if completion is not None}
        self.calls = [
            KeyedCall(key, requests[first]) for key, (first, *_) in self._places.items() if key not in self.stored
        ]

    def deliver(self, key: str, completion: Completion) -> list[tuple[int, Completion]]:
        """Takes what came of a call; returns the completion of each request that wanted it, by index."""
        delivered = []
        completion = replace(completion, key=key)
        for index in self._places[key]:
            self._found[index] = completion
            delivered.append((index, completion))
            copied = completion.cached or completion.status in ("ok", "refused", "empty")
            completion = replace(completion, attempts=0, cached=copied)
        return delivered

    @property
    def completions(self) -> list[Completion]:
        """One for each request, in their order."""
        cancelled = Completion(status="cancelled", detail="cancelled before it was sent")
        return [cancelled if found is None else found for found in self._found]


def read_stored(cache: Responses | None, key: str) -> Completion | None:
    """The completion that a cache has under a key, or None."""
    stored = None if cache is None else cache.get(key)
    if stored is None:
        return None
    try:
        return replace(read_response(stored.raw), cached=True, latency_s=stored.latency_s)
    except MalformedResponse:
        return None  # written by a release that read responses differently


@dataclass(frozen=True, slots=True)
class CallAttempt:
    """What one call came to; `raw` is there if it may be cached."""

    completion: Completion
    raw: str | None = None
    again: bool = False
    at_once: bool = False  # the endpoint wants it put another way: no failure that a wait would mend
    asked_s: float | None = None


@dataclass(frozen=True, slots=True)
class Posted:
    """What came of a call that is no chat.

    Attributes:
        call: Its status, attempts and seconds; it has no text.
        found: The JSON of the response; None where there is none.
    """

    call: Completion
    found: JSON = None


@dataclass
class Dialects:
    """What has been learnt of each model of an endpoint; outlives the loop in which it was learnt."""

    by_model: dict[str, Dialect] = field(default_factory=dict)

    def of(self, request: CompletionRequest) -> Dialect:
        """The dialect of the model that a request names; of so many models at most, because strangers may name them."""
        model = str(request.body["model"])
        if model not in self.by_model and len(self.by_model) >= _MODELS:
            del self.by_model[next(iter(self.by_model))]
        return self.by_model.setdefault(model, Dialect())


class AsyncOpenAIClient:
    """Makes calls in the event loop in which it is entered; all its users there share its bounds.

    Args:
        endpoint: Whom it asks.
        limits: Its bounds.
        cache: Where responses are looked up and stored.
        dialects: What is known of the endpoint's models.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        limits: Limits,
        *,
        cache: Responses | None = None,
        dialects: Dialects | None = None,
    ) -> None:
        self.endpoint = endpoint
        self.limits = limits
        self.cache = cache
        self.dialects = dialects or Dialects()
        self._jitter = random.Random()  # only waits depend on it, never a result

    async def __aenter__(self) -> Self:
        import httpx2

        limits = self.limits
        self._slots = asyncio.Semaphore(limits.concurrency)
        self._departures = Departures()
        self._pace = Pace(limits.rpm)
        self._http = httpx2.AsyncClient(
            headers=self.endpoint.call_headers(),
            timeout=httpx2.Timeout(limits.timeout_s, connect=min(_CONNECT_S, limits.timeout_s), pool=None),
            limits=httpx2.Limits(max_connections=limits.concurrency, max_keepalive_connections=limits.concurrency),
        )
        await self._http.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._http.__aexit__(kind, error, trace)

    async def run(self, requests: Sequence[CompletionRequest]) -> list[Completion]:
        """Completes all requests; what failed says so in its status. Cancelling it breaks off its calls."""
        batch = Batch(requests, self.endpoint, self.cache)
        for key, completion in batch.stored.items():
            batch.deliver(key, completion)
        await self.make(batch.calls, lambda key, completion: batch.deliver(key, completion))
        return batch.completions

    async def make(self, calls: Sequence[KeyedCall], on_completion: OnCompletion) -> None:
        """Makes calls, up to the bound at once, and hands over what comes of each, cancelled ones too."""
        waiting = iter(calls)

        async def work() -> None:
            for call in waiting:
                await self._complete_call(call, on_completion)

        async with asyncio.TaskGroup() as group:
            for _ in range(min(self.limits.concurrency, len(calls))):
                group.create_task(work())

    async def ask_server(self, method: str, url: str, body: JSON = None, *, timeout_s: float = 5.0) -> tuple[int, JSON]:
        """One small call beside the completions, such as GET /version: no retries, no cache, outside of the bounds.

        Returns:
            The HTTP status and the JSON of the response; status 0 and a text where nothing came, or no JSON.
        """
        import httpx2

        try:
            async with asyncio.timeout(timeout_s):
                response = await self._http.request(method, url, json=body)
            return response.status_code, response.json()
        except (TimeoutError, httpx2.HTTPError, ValueError, RecursionError) as error:
            return 0, self.endpoint.without_secrets(f"{type(error).__name__}: {error}")

    async def post(self, path: str, body: Mapping[str, JSON]) -> Posted:
        """One call to another path of the endpoint than chat's; bounds, attempts and cache are the same."""
        url = self.endpoint.url(path)
        content = json.dumps(body, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()
        key = hashlib.sha256(f"{self.endpoint.key_url(path)}\n".encode() + content).hexdigest()
        stored = None if self.cache is None else self.cache.get(key)
        if stored is not None:
            return Posted(Completion(status="ok", cached=True, latency_s=stored.latency_s), json.loads(stored.raw))

        async def attempt_post() -> CallAttempt:
            sent = await self._send(url, content)
            return sent if isinstance(sent, CallAttempt) else _read_answer(sent)

        attempt, made = await self._try_again(attempt_post)
        if attempt.raw is not None:
            self._store_response(key, attempt.raw, attempt.completion.latency_s)
        found = None if attempt.raw is None else json.loads(attempt.raw)
        return Posted(replace(attempt.completion, attempts=made), found)

    async def _complete_call(self, call: KeyedCall, on_completion: OnCompletion) -> None:
        """Tries one call until it succeeds, can't, or has had its attempts; hands over what came of it."""
        made = 0

        async def attempt_call() -> CallAttempt:
            nonlocal made
            made += 1
            return await self._attempt_call(call)

        try:
            attempt, made = await self._try_again(attempt_call)
        except asyncio.CancelledError:
            on_completion(call.key, Completion(status="cancelled", attempts=made, detail="cancelled on its way"))
            raise
        on_completion(call.key, replace(attempt.completion, attempts=made))

    async def _try_again(self, attempt_once: Callable[[], Awaitable[CallAttempt]]) -> tuple[CallAttempt, int]:
        """The attempt that succeeded, or the last one there may be; and how many were made."""
        made = counted = 0
        while True:
            async with self._slots:
                await self._pace.wait()
                made += 1
                attempt = await attempt_once()
            counted += not attempt.at_once
            if not attempt.again or counted == self.limits.attempts:
                return attempt, made
            if attempt.at_once:
                continue
            wait = self.limits.backoff.seconds(counted, attempt.asked_s, self._jitter.random())
            _LOG.debug("attempt %d failed (%s); again in %.2f s", made, attempt.completion.detail, wait)
            await asyncio.sleep(wait)

    async def _attempt_call(self, call: KeyedCall) -> CallAttempt:
        """One call. No exception of the transport leaves it; a good response is in the cache when it returns."""
        dialect = self.dialects.of(call.request)
        body = call.request.body
        adapted = dialect.adapted(body)
        started = time.perf_counter()
        content = call.request.canonical() if adapted is body else CompletionRequest(adapted).canonical()
        sent = await self._send(self.endpoint.url("/chat/completions"), content)
        if isinstance(sent, CallAttempt):
            attempt = sent
        else:
            attempt = _read_attempt(sent)
            message = sent.text if attempt.completion.status == "http_error" else ""
            if message and dialect.learns(body, adapted, sent.status_code, message):
                attempt = replace(attempt, again=True, at_once=True)
        latency_s = time.perf_counter() - started
        if attempt.raw is not None:
            self._store_response(call.key, attempt.raw, latency_s)
        detail = self.endpoint.without_secrets(attempt.completion.detail)
        return replace(attempt, completion=replace(attempt.completion, latency_s=latency_s, detail=detail))

    async def _send(self, url: str, content: bytes) -> httpx2.Response | CallAttempt:
        """The response to a body, or the attempt that failed because there was none."""
        import httpx2

        try:
            # The transport's own timeouts start anew with every byte: a server that trickles could hold a call forever.
            async with asyncio.timeout(self.limits.timeout_s), self._departures.turn() as trace:
                return await self._http.post(
                    url, content=content, headers={"Content-Type": "application/json"}, extensions={"trace": trace}
                )
        except (TimeoutError, httpx2.TimeoutException):
            failed = Completion(status="timeout", detail=f"no whole response within {self.limits.timeout_s} s")
        except httpx2.HTTPError as error:
            status: CompletionStatus = "malformed" if isinstance(error, httpx2.DecodingError) else "http_error"
            detail = self.endpoint.without_secrets(f"{type(error).__name__}: {error}")
            failed = Completion(status=status, detail=detail)
        return CallAttempt(failed, again=True)

    def _store_response(self, key: str, raw: str, latency_s: float) -> None:
        # In the loop's thread on purpose: nothing can come between a response and its commit, which takes 0.1 ms.
        if self.cache is None:
            return
        try:
            self.cache.put(key, raw, latency_s)
        except BackendError as error:
            # The response is paid for and still good: a full disk must not lose it for this run as well.
            _LOG.warning("a response can't be stored, so that a later run will ask for it again: %s", error)


def _read_attempt(response: httpx2.Response) -> CallAttempt:
    if not response.is_success:
        return _failed_attempt(response)
    try:
        raw = response.content.decode("utf-8")
        completion = replace(read_response(raw), http_status=response.status_code)
    except (MalformedResponse, UnicodeDecodeError) as error:
        return _malformed_attempt(response, str(error))
    return CallAttempt(completion, raw=raw)


def _read_answer(response: httpx2.Response) -> CallAttempt:
    """A response that isn't a chat's: any JSON is one."""
    if not response.is_success:
        return _failed_attempt(response)
    try:
        raw = response.content.decode("utf-8")
        json.loads(raw)
    except (ValueError, RecursionError) as error:
        return _malformed_attempt(response, f"not JSON: {error}")
    return CallAttempt(Completion(status="ok", http_status=response.status_code), raw=raw)


def _failed_attempt(response: httpx2.Response) -> CallAttempt:
    status = response.status_code
    asked_s = retry_after_s(response.headers, time.time())
    failed = replace(read_error(status, response.content.decode("utf-8", "replace")), retry_after_s=asked_s)
    return CallAttempt(failed, again=status in _RETRIED_STATUS or status >= 500, asked_s=asked_s)


def _malformed_attempt(response: httpx2.Response, detail: str) -> CallAttempt:
    completion = Completion(status="malformed", http_status=response.status_code, detail=detail)
    return CallAttempt(completion, again=True)
