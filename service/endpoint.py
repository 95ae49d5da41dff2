"""A model of the upstream as the library asks it, for methods that make calls of their own.

The calls are asynchronous all the way; each takes a place among all calls to the upstream and among its client's.
Control tokens in whatever the library writes are broken up. What an upstream says when it refuses is kept, so that the
client can be told that and not only that something failed.
"""

from __future__ import annotations

import asyncio
import contextvars
import math
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from dataclasses import replace
from functools import lru_cache
from typing import Any, TypeVar

from fairpos.backends.backoff import Backoff
from fairpos.backends.base import Call, Generate, Reply
from fairpos.backends.openai import OpenAIBackend
from fairpos.backends.openai_client import OpenAIClient
from fairpos.backends.server import Server, count_tokens
from fairpos.errors import BackendError
from fairpos.prompts import Prompt
from fairpos.types import Capability, Output

from .bodies import beside
from .control_tokens import neutral
from .errors import ServiceError
from .probes import Probes
from .sizing import Limits
from .traces import note_status, upstream_span
from .turns import Turns

T = TypeVar("T")

_PROBE_S = 30.0  # for a few small calls
_FAILED = ("http_error", "timeout", "malformed")
_RETRY = Backoff(first_s=0.25, most_s=2.0)  # a client waits, and may decide itself to wait longer
_ATTEMPTS = 2
_MODELS = 256  # of which something is remembered: their names come from clients


class CapabilityUnknown(Exception):
    """The library wants to know what the endpoint can do; that is found out without blocking, and then it may ask."""


class Endpoint:
    """One model, for one request.

    Args:
        access: Shared by all requests.
        model: Its name there.
        client: Whose request it is.
    """

    def __init__(self, access: Access, model: str, client: str) -> None:
        self.model = model or "default"
        self.limits = access.limits
        self._access = access
        self._client = client
        self._loop = asyncio.get_running_loop()
        self._given_up = False
        self._waiting: set[Future[Any]] = set()  # what threads wait for
        self._failed: Reply | None = None  # the last call that did

    @property
    def name(self) -> str:
        """What the model is called in messages and profiles."""
        return self._access.backend(self.model).name

    @property
    def capabilities(self) -> frozenset[Capability]:
        """What it can do, if that is known.

        Raises:
            CapabilityUnknown: it isn't, and this is no place to wait for it.
            ServiceError: it didn't answer a moment ago.
        """
        known = self._access.probes.known(self.model)
        if known is None:
            raise CapabilityUnknown
        return known

    @property
    def context(self) -> int | None:
        """Tokens that the model's context holds, where the upstream says it; waits for that, beside the loop."""
        return self._wait_for(self._server()).contexts.get(self.model)

    @property
    def counts_tokens(self) -> bool:
        """Whether the upstream counts tokens; waits for that, beside the loop."""
        return self._wait_for(self._server()).tokenizes

    def count_tokens(self, prompts: Sequence[Prompt]) -> list[int]:
        """Tokens of each prompt; waits for the upstream where that counts, beside the loop."""
        return self._wait_for(self._count_tokens(prompts))

    async def beside(self, step: Callable[[], T]) -> T:
        """Runs a step of the library's code, which may ask and wait here, in a thread of its own kind.

        Cancelling it ends what the step waits for: a client that has gone leaves no thread behind.
        """
        context = contextvars.copy_context()
        try:
            return await self._loop.run_in_executor(self._access.threads, lambda: context.run(step))
        except asyncio.CancelledError:
            self.give_up()
            raise

    async def find_capabilities(self) -> None:
        """Finds out what it can do.

        Raises:
            ServiceError: it doesn't answer.
        """
        await self._access.probes.find(self.model)

    async def run_async(self, calls: Sequence[Call]) -> list[Reply]:
        """One reply per call. Cancelling it breaks off its calls.

        Raises:
            ServiceError: none of them was answered; with what the upstream said.
        """
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(self._run_one(call)) for call in calls]
        replies = [task.result() for task in tasks]
        if replies and all(reply.status in _FAILED for reply in replies):
            raise refused(replies[-1], own_key=self._access.own_key)
        return replies

    def check_outputs(self, outputs: Sequence[Output]) -> None:
        """Looks whether there is no result where calls failed.

        Raises:
            ServiceError: there is none; with what the upstream said.
        """
        if self._failed is not None and any(output.status not in ("ok", "partial") for output in outputs):
            raise refused(self._failed, own_key=self._access.own_key)

    def run(self, calls: Sequence[Call]) -> list[Reply]:
        """The same for the library's own code, in a thread; the calls are made in the event loop.

        Raises:
            ServiceError: see `run_async`; or the client has gone.
        """
        return self._wait_for(self.run_async(calls))

    def give_up(self) -> None:
        """Ends what is waited for, and lets nothing more be asked."""
        self._given_up = True
        for waiting in tuple(self._waiting):
            waiting.cancel()

    def _wait_for(self, asked: Coroutine[None, None, T]) -> T:
        """What came of something that the event loop does; for threads."""
        waiting = asyncio.run_coroutine_threadsafe(asked, self._loop)
        self._waiting.add(waiting)
        if self._given_up:
            waiting.cancel()
        try:
            return waiting.result()
        except CancelledError:
            raise ServiceError(499, "client_gone", "the client went away") from None
        finally:
            self._waiting.discard(waiting)

    async def _server(self) -> Server:
        return await self._access.backend(self.model).server()

    async def _count_tokens(self, prompts: Sequence[Prompt]) -> list[int]:
        backend = self._access.backend(self.model)
        server = await backend.server()
        return await backend.client.do(lambda core: count_tokens(core, server, self.model, prompts))

    async def _run_one(self, call: Call) -> Reply:
        safe = await beside(len(call.prompt.text), lambda: guarded_call(call))
        kind = type(call).__name__.lower()
        async with self._access.turns.place(self._client):
            with upstream_span("upstream_call", kind=kind, model=self.model) as span:
                [reply] = await self._access.backend(self.model).run_async([safe])
                note_status(span, reply.status, reply.http_status)
        if reply.status in _FAILED:
            self._failed = reply
        return reply


class Access:
    """What the requests of one upstream share: its connections, the places for calls, what its models can do.

    Args:
        url: Of the upstream.
        key: Sent to it; empty: none.
        own_key: Whether the operator, not the client, is to blame for a key that is refused.
        timeout_s: For one call.
        overall: Calls at once.
        per_client: Of one client at once.
        most_calls: In one step of one request.
    """

    def __init__(
        self, url: str, key: str, *, own_key: bool, timeout_s: float, overall: int, per_client: int, most_calls: int
    ) -> None:
        self.own_key = own_key
        self.limits = Limits(calls=most_calls)
        self.turns = Turns(overall, per_client)
        self.probes: Probes[frozenset[Capability]] = Probes(self._probe_model)
        self.threads = ThreadPoolExecutor(overall, "fairpos-endpoint")  # what waits for the upstream holds up no other
        self.backend = lru_cache(maxsize=_MODELS)(self._backend_of)
        self._calls = OpenAIClient(
            url, api_key=key, timeout_s=timeout_s, attempts=_ATTEMPTS, backoff=_RETRY, concurrency=overall
        )

    async def close(self) -> None:
        """Breaks off what is on its way and closes the connections."""
        await self.probes.close()
        self.threads.shutdown(wait=False, cancel_futures=True)
        await asyncio.to_thread(self._calls.close)

    def _backend_of(self, model: str) -> OpenAIBackend:
        return OpenAIBackend(self._calls, model)

    async def _probe_model(self, model: str) -> frozenset[Capability]:
        """Asks what a model can do.

        Raises:
            ServiceError: it doesn't answer.
        """
        try:
            async with asyncio.timeout(_PROBE_S):
                return await self.backend(model).probe()
        except TimeoutError:
            raise ServiceError(504, "upstream_timeout", "the upstream did not answer in time") from None
        except BackendError as error:
            reply = Reply(
                "timeout" if error.timed_out else "http_error", detail=str(error), http_status=error.http_status
            )
            raise refused(replace(reply, retry_after_s=error.retry_after_s), own_key=self.own_key) from None


def refused(reply: Reply, *, own_key: bool) -> ServiceError:
    """What a client is told of an upstream that refused, fell silent or spoke nonsense: its status, words and wait."""
    status, words = reply.http_status, reply.detail
    if reply.status == "timeout":
        return ServiceError(504, "upstream_timeout", f"the upstream did not answer in time: {words}")
    if reply.status == "malformed" or status is None or status < 400:
        return ServiceError(502, "upstream_broken", f"the upstream's reply can't be used: {words}")
    if status in (401, 403) and own_key:
        return ServiceError(502, "upstream_key", "the upstream refuses the key that this service was given for it")
    wait = reply.retry_after_s
    return ServiceError(
        status,
        "upstream_refused",
        f"the upstream says {words}",
        headers=None if wait is None else {"retry-after": str(math.ceil(wait))},
    )


def guarded_call(call: Call) -> Call:
    """The call without control tokens in its prompts."""
    safe = replace(call, prompt=guarded(call.prompt))
    return replace(safe, voters=tuple(map(guarded, safe.voters))) if isinstance(safe, Generate) else safe


def guarded(prompt: Prompt) -> Prompt:
    """The prompt without control tokens."""
    history = tuple(replace(turn, content=neutral(turn.content)) for turn in prompt.request.history)
    return replace(
        prompt,
        request=replace(prompt.request, history=history),
        instruction=neutral(prompt.instruction),
        segments=tuple(map(neutral, prompt.segments)),
        question=neutral(prompt.question),
    )
