"""Asks whoever answers for a model: a local engine, in the client's turn, or the endpoint behind us.

Nothing here blocks the event loop: what the library does between two calls of the model (orders, prompts, aggregates,
files) runs in a thread, and the calls of an endpoint are awaited.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TypeVar

from fairpos.backends.base import Backend, Call, Finish, Generate, Reply
from fairpos.backends.work import Work
from fairpos.fitting.error import Refuse
from fairpos.prompts import Prompt
from fairpos.types import Output

from .asking import Ask
from .endpoint import CapabilityUnknown, Endpoint
from .engine import Engine
from .errors import UNSUPPORTED
from .sizing import check_number, check_request
from .tickets import Finished, Job, Ticket

T = TypeVar("T")


async def answer(target: Engine | Endpoint, ask: Ask, client: str) -> tuple[Ask, Finished]:
    """Asks, and waits for the end.

    Returns:
        What was asked in the end, and what came of it.
    """

    async def run(ask: Ask) -> tuple[Ask, Finished]:
        if isinstance(target, Engine):
            ask, ticket = await submit(target, ask, client)
            return ask, await ticket.result()
        return await _run_on_endpoint(target, ask)

    return await with_fallback(ask, run)


async def first_prompt(endpoint: Endpoint, ask: Ask) -> tuple[Ask, Prompt | None]:
    """Lets the methods work up to the one prompt that they want answered.

    Returns:
        What was asked, and that prompt; None where the methods want several.
    """

    async def run(ask: Ask) -> tuple[Ask, Prompt | None]:
        ready, work = await _begin_on_endpoint(endpoint, ask)
        replies: list[Reply] | None = None
        while True:
            calls = await endpoint.beside(partial(_next_calls, work, replies))
            if isinstance(calls, Finished):
                return ready, None
            prompts = [call.prompt for call in calls if isinstance(call, Generate)]
            if prompts:
                work.close()
                return ready, prompts[0] if len(calls) == 1 and ready.one_text(endpoint) else None
            replies = await endpoint.run_async(calls)

    return await with_fallback(ask, lambda ask: _with_capabilities(endpoint, lambda: run(ask)))


async def submit(engine: Engine, ask: Ask, client: str, *, stream: bool = False) -> tuple[Ask, Ticket]:
    """Puts what is asked into the engine's queue, once it is known not to be too large.

    Args:
        engine: Whose model is asked.
        ask: What.
        client: Whose turn it takes.
        stream: Whether pieces of text are wanted as they come, where the methods give one text.
    """
    if ask.fit == Refuse():
        check_request(ask.request, engine.limits, engine.backend.context)
    else:
        ask = ask.within(engine.limits.prompt_tokens)
    ready, work = await asyncio.to_thread(_begin_work, ask, engine.backend)
    stream = stream and ready.one_text(engine.backend)
    return ready, engine.submit(Job(work, client, stream=stream, fills_context=ask.fills_context))


async def with_fallback(ask: Ask, run: Callable[[Ask], Awaitable[tuple[Ask, T]]]) -> tuple[Ask, T]:
    """Runs what was asked; where the methods can't be used and the client may do without, runs it plainly."""
    try:
        return await run(ask)
    except UNSUPPORTED as error:
        if not (ask.passing and ask.methods):
            raise
        return await run(ask.plain(str(error)))


async def _run_on_endpoint(endpoint: Endpoint, ask: Ask) -> tuple[Ask, Finished]:
    async def run() -> tuple[Ask, Finished]:
        ready, work = await _begin_on_endpoint(endpoint, ask)
        replies: list[Reply] | None = None
        finish: Finish | None = None
        while True:
            calls = await endpoint.beside(partial(_next_calls, work, replies))
            if isinstance(calls, Finished):
                endpoint.check_outputs(calls.outputs)
                return ready, Finished(calls.outputs, finish)
            check_number(len(calls), endpoint.limits)
            replies = await endpoint.run_async(calls)
            finish = next((reply.finish for reply in replies if reply.finish), finish)

    return await _with_capabilities(endpoint, run)


async def _begin_on_endpoint(endpoint: Endpoint, ask: Ask) -> tuple[Ask, Work[list[Output]]]:
    return await endpoint.beside(lambda: _begin_work(ask, endpoint))


async def _with_capabilities(endpoint: Endpoint, run: Callable[[], Awaitable[T]]) -> T:
    """Runs; where the library had to know what the endpoint can do, finds that out and runs anew."""
    try:
        return await run()
    except CapabilityUnknown:
        await endpoint.find_capabilities()
        return await run()


def _begin_work(ask: Ask, backend: Backend) -> tuple[Ask, Work[list[Output]]]:
    """What is asked with its calibrations at hand, and its work."""
    ready = ask.ready(backend)
    return ready, ready.work(backend)


def _next_calls(work: Work[list[Output]], replies: list[Reply] | None) -> list[Call] | Finished:
    """One step of the library's work."""
    try:
        return next(work) if replies is None else work.send(replies)
    except StopIteration as stop:
        return Finished(tuple(stop.value), None)
