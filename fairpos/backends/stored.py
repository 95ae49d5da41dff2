"""Responses of an endpoint in two places: the cache that one process owns, and other processes that make the calls.

The owner looks a call up (`StoredOnly`), and hands it on with what it found of it; whoever makes the call gets that
from, and puts what comes of it into, `CollectedResponses`; and the owner stores that.
"""

from __future__ import annotations

import threading
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from fairpos.backends.async_client import AsyncOpenAIClient, CallAttempt
from fairpos.backends.base import Call, Reply
from fairpos.backends.completion import JSON, Completion
from fairpos.backends.response_cache import CachedResponse, Responses

# Nothing of the like is ever stored: a call that wasn't found is said to be cancelled.
NOT_STORED = frozenset({"cancelled", "http_error", "timeout", "malformed"})
Entries: TypeAlias = tuple[tuple[str, CachedResponse], ...]  # responses by key


@dataclass(frozen=True, slots=True)
class Stored:
    """What a cache has of one call.

    Attributes:
        reply: The reply; None where it isn't there, or not all of it.
        entries: Responses that it takes, as far as they are there.
    """

    reply: Reply | None = None
    entries: Entries = ()


class SeenResponses:
    """A cache, and what was found in it."""

    def __init__(self, cache: Responses | None) -> None:
        self._cache = cache
        self.found: dict[str, CachedResponse] = {}

    def get(self, key: str) -> CachedResponse | None:
        """The response, remembered."""
        stored = None if self._cache is None else self._cache.get(key)
        if stored is not None:
            self.found[key] = stored
        return stored

    def put(self, key: str, raw: str, latency_s: float) -> None:
        """Into the cache itself."""
        if self._cache is not None:
            self._cache.put(key, raw, latency_s)

    def remove(self, keys: Iterable[str]) -> None:
        """Out of the cache itself."""
        if self._cache is not None:
            self._cache.remove(keys)


class StoredOnly(AsyncOpenAIClient):
    """A client beside another one, in its loop, that makes no call: what isn't stored is "cancelled".

    What a server is asked beside the completions (its version, tokens of a text) is still asked.
    """

    def __init__(self, core: AsyncOpenAIClient, cache: Responses) -> None:
        super().__init__(core.endpoint, core.limits, cache=cache, dialects=core.dialects)
        self._core = core

    async def ask_server(self, method: str, url: str, body: JSON = None, *, timeout_s: float = 5.0) -> tuple[int, JSON]:
        """By the client beside."""
        return await self._core.ask_server(method, url, body, timeout_s=timeout_s)

    async def _try_again(self, attempt_once: Callable[[], Awaitable[CallAttempt]]) -> tuple[CallAttempt, int]:  # noqa: ARG002
        return CallAttempt(Completion(status="cancelled", detail="not in the cache")), 0


async def look_up(
    core: AsyncOpenAIClient,
    calls: Sequence[Call],
    run: Callable[[AsyncOpenAIClient, Sequence[Call]], Awaitable[list[Reply]]],
) -> list[Stored]:
    """What a client's cache has of each call.

    Args:
        core: The client, in its loop.
        calls: Any number.
        run: Runs calls with a client; whatever else they ask comes from the cache too.
    """
    found = []
    for call in calls:
        seen = SeenResponses(core.cache)
        [reply] = await run(StoredOnly(core, seen), [call])
        found.append(Stored(None if reply.status in NOT_STORED else reply, tuple(seen.found.items())))
    return found


class CollectedResponses:
    """Responses in memory until somebody takes them. Threads share it; another process starts with an empty one."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._given: dict[str, CachedResponse] = {}
        self._new: dict[str, CachedResponse] = {}

    def give(self, entries: Entries) -> None:
        """Responses that are there already; they aren't taken again."""
        with self._lock:
            self._given |= entries

    def get(self, key: str) -> CachedResponse | None:
        """One that was given, or has come."""
        with self._lock:
            return self._given.get(key) or self._new.get(key)

    def put(self, key: str, raw: str, latency_s: float) -> None:
        """One that has come."""
        with self._lock:
            self._new.setdefault(key, CachedResponse(raw, latency_s))

    def remove(self, keys: Iterable[str]) -> None:
        """Forgets responses."""
        with self._lock:
            for key in keys:
                self._given.pop(key, None)
                self._new.pop(key, None)

    def __reduce__(self) -> tuple[type[CollectedResponses], tuple[()]]:
        return type(self), ()

    def take(self, given: Entries = ()) -> Entries:
        """What has come since the last time; forgets it, and what was given for a work that is done."""
        with self._lock:
            taken, self._new = tuple(self._new.items()), {}
            for key, _ in given:
                self._given.pop(key, None)
            return taken
