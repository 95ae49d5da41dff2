"""Texts for one request, whole or piece by piece; in words that every API's shape is made from.

whole_reply    -> Told
open_stream    -> OpenStream: Piece, Piece, ..., ChoiceEnd (of each choice), StreamEnd
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

from fastapi import Request

from fairpos.backends.base import Finish
from fairpos.types import Output

from .answering import answer, submit, with_fallback
from .asking import Ask, count_methods
from .endpoint import Endpoint
from .engine import Engine
from .outcome import done, full_text, usable_output, usage
from .schemas.base import Usage
from .schemas.options import Done
from .state import State, client_of, spend_tokens
from .tickets import Finished, Started, Text, Ticket

if TYPE_CHECKING:
    from fairpos.backends.token_log_probs import TokenLogProb


@dataclass(frozen=True, slots=True)
class Choice:
    """One text, and why it ends: `stopped_by` is the stop text, where it was one and is known."""

    text: str
    finish: Finish
    output: Output
    stopped_by: str = ""
    log_probs: tuple[TokenLogProb, ...] = ()


@dataclass(frozen=True, slots=True)
class Told:
    """All that a reply is made from."""

    choices: tuple[Choice, ...]
    usage: Usage
    done: Done


@dataclass(frozen=True, slots=True)
class Piece:
    """More of a choice's text."""

    index: int
    text: str
    log_probs: tuple[TokenLogProb, ...] = ()


@dataclass(frozen=True, slots=True)
class ChoiceEnd:
    """A choice is whole."""

    index: int
    choice: Choice


@dataclass(frozen=True, slots=True)
class StreamEnd:
    """All are."""

    told: Told


StreamEvent: TypeAlias = Piece | ChoiceEnd | StreamEnd


@dataclass(frozen=True, slots=True)
class OpenStream:
    """A stream whose first piece is there: whatever fails before it is a plain error.

    Attributes:
        done: What is known of what was done.
        events: Each once; ends with `StreamEnd`.
    """

    done: Done
    events: AsyncGenerator[StreamEvent]


async def whole_reply(request: Request, state: State, target: Engine | Endpoint, asks: Sequence[Ask]) -> Told:
    """Waits for all choices.

    Raises:
        ServiceError: see the engine and the endpoint.
    """
    count_methods(state.metrics, asks[0])
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(answer(target, ask, client_of(request))) for ask in asks]
    found = [task.result() for task in tasks]
    told = _told_of(state, target, found)
    await spend_tokens(request, told.usage.total_tokens)
    return told


async def open_stream(request: Request, state: State, target: Engine | Endpoint, asks: Sequence[Ask]) -> OpenStream:
    """Begins a stream; an upstream's texts come in one piece each.

    Raises:
        ServiceError: see `whole_reply`.
    """
    if not isinstance(target, Engine):
        told = await whole_reply(request, state, target, asks)
        return OpenStream(told.done, _pieces_of(told))
    count_methods(state.metrics, asks[0])
    engine = target
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(_open_choice(request, engine, ask)) for ask in asks]
    opened = [task.result() for task in tasks]
    for choice in opened:
        if isinstance(choice.opening[-1], Finished):
            usable_output(state.metrics, "answer", choice.opening[-1].outputs)
    return OpenStream(_done_so_far(opened), _merged_events(request, state, engine, opened))


@dataclass(slots=True)
class _OpenChoice:
    """One choice of a stream: its events up to the first text or the end, and those that follow."""

    ask: Ask
    ticket: Ticket
    events: AsyncIterator[Started | Text | Finished]
    opening: list[Started | Text | Finished] = field(default_factory=list)


async def _open_choice(request: Request, engine: Engine, ask: Ask) -> _OpenChoice:
    async def run(ask: Ask) -> tuple[Ask, _OpenChoice]:
        ready, ticket = await submit(engine, ask, client_of(request), stream=True)
        choice = _OpenChoice(ready, ticket, ticket.events())
        async for found in choice.events:
            choice.opening.append(found)
            if not isinstance(found, Started):
                break
        return ready, choice

    return (await with_fallback(ask, run))[1]


def _done_so_far(opened: Sequence[_OpenChoice]) -> Done:
    """What was done, as far as it is known when the first piece comes."""
    outputs = [o for choice in opened for found in choice.opening if isinstance(found, Finished) for o in found.outputs]
    what = done(opened[0].ask, outputs)
    started = [found for choice in opened for found in choice.opening if isinstance(found, Started)]
    if not outputs:
        orders = [list(order) for found in started for order in found.orders]
        what.orders, what.calls = orders, len(orders)
        what.order = orders[0] if orders and all(order == orders[0] for order in orders) else None
    return what


async def _merged_events(
    request: Request, state: State, engine: Engine, opened: Sequence[_OpenChoice]
) -> AsyncGenerator[StreamEvent]:
    """The events of all choices as they come."""
    queue: asyncio.Queue[tuple[int, Started | Text | Finished | Exception]] = asyncio.Queue()

    async def pump(index: int, choice: _OpenChoice) -> None:
        try:
            for found in choice.opening:
                queue.put_nowait((index, found))
            if not isinstance(choice.opening[-1], Finished):
                async for found in choice.events:
                    queue.put_nowait((index, found))
        except Exception as error:
            queue.put_nowait((index, error))

    pumps = [asyncio.ensure_future(pump(index, choice)) for index, choice in enumerate(opened)]
    texts = [_GrowingChoice(index, engine, choice.ask) for index, choice in enumerate(opened)]
    ended: dict[int, tuple[Ask, Finished]] = {}
    try:
        while len(ended) < len(opened):
            index, found = await queue.get()
            if isinstance(found, Exception):
                raise found
            if isinstance(found, Text):
                yield texts[index].add(found.piece)
            elif isinstance(found, Finished):
                ended[index] = opened[index].ask, found
                choice = _choice_of(state, engine, opened[index].ask, found)
                rest = texts[index].rest_of(choice)
                if rest.text or rest.log_probs:
                    yield rest
                yield ChoiceEnd(index, choice)
        told = _told_of(state, engine, [ended[index] for index in range(len(opened))], counted=True)
        await spend_tokens(request, told.usage.total_tokens)
        yield StreamEnd(told)
    finally:
        for task in pumps:
            task.cancel()
        for one in opened:
            one.ticket.cancel()


class _GrowingChoice:
    """What a stream has told of one choice."""

    def __init__(self, index: int, engine: Engine, ask: Ask) -> None:
        self._index, self._engine, self._ask = index, engine, ask
        self._text = ""
        self._tokens = 0

    def add(self, piece: str) -> Piece:
        """A piece, and the tokens that begin in it."""
        self._text += piece
        return Piece(self._index, piece, self._new_tokens(_log_probs_of(self._engine, self._ask, self._text)))

    def rest_of(self, choice: Choice) -> Piece:
        """What the stream hasn't told when the choice is whole: all of it, where it came in one piece."""
        return Piece(self._index, "" if self._text else choice.text, self._new_tokens(choice.log_probs))

    def _new_tokens(self, tokens: Sequence[TokenLogProb]) -> tuple[TokenLogProb, ...]:
        new = tuple(tokens[self._tokens :])
        self._tokens += len(new)
        return new


async def _pieces_of(told: Told) -> AsyncGenerator[StreamEvent]:
    for index, choice in enumerate(told.choices):
        yield Piece(index, choice.text, choice.log_probs)
        yield ChoiceEnd(index, choice)
    yield StreamEnd(told)


def _told_of(
    state: State, target: Engine | Endpoint, found: Sequence[tuple[Ask, Finished]], *, counted: bool = False
) -> Told:
    """The reply. `counted`: its outputs were looked at, and are in the metrics."""
    outputs = [output for _, finished in found for output in finished.outputs]
    if counted:
        choices = [_choice_from(target, ask, finished.outputs[0], finished) for ask, finished in found]
    else:
        choices = [_choice_of(state, target, ask, finished) for ask, finished in found]
    return Told(tuple(choices), usage(outputs), done(found[0][0], outputs))


def _choice_of(state: State, target: Engine | Endpoint, ask: Ask, finished: Finished) -> Choice:
    """One text, if it can be used.

    Raises:
        ServiceError: see `usable_output`.
    """
    return _choice_from(target, ask, usable_output(state.metrics, "answer", finished.outputs), finished)


def _choice_from(target: Engine | Endpoint, ask: Ask, output: Output, finished: Finished) -> Choice:
    text = full_text(output)
    log_probs = tuple(_log_probs_of(target, ask, text))
    return Choice(text, finished.finish or "stop", output, finished.stopped_by, log_probs)


def _log_probs_of(target: Engine | Endpoint, ask: Ask, text: str) -> Sequence[TokenLogProb]:
    """Those of the tokens that begin within the text, where they are wanted."""
    if not ask.decoding.guides or not isinstance(target, Engine):
        return ()
    from fairpos.backends.token_log_probs import TokenRecorder

    from .token_text import tokens_within

    recorders = [guide for guide in ask.decoding.guides if isinstance(guide, TokenRecorder)]
    return tokens_within(target.backend.tokenizer, recorders[0].tokens, text) if recorders else ()
