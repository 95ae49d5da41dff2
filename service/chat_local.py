"""A chat completion by a local model, whole or as a stream."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from typing import Any

from fastapi import Request, Response
from fastapi.responses import JSONResponse

from fairpos import Decoding, Segment
from fairpos import Request as Question
from fairpos.passages import as_segments
from fairpos.types import Turn

from . import documents
from .answering import answer, submit, with_fallback
from .asking import CHAT, PLAIN, Ask, count_methods
from .chat_events import HEADERS, ChatEvents, event
from .connection import Relay
from .conversation import Conversation
from .engine import Engine
from .errors import ServiceError, as_service_error
from .logs import log
from .outcome import done, full_text, headers, usable_output, usage
from .replies import new_id
from .schemas.chat import ChatRequest
from .state import State, client_of, spend_tokens
from .tickets import Finished, Started, Text, Ticket

Opened = tuple[list[Started | Text | Finished], AsyncIterator[Started | Text | Finished], Ticket]

# OpenAI's fields that a local model can't honour: silently dropping them would change what the client gets.
_REFUSED = ("tools", "tool_choice", "functions", "function_call", "logprobs", "top_logprobs", "response_format",
            "frequency_penalty", "presence_penalty", "logit_bias", "audio", "prediction")  # fmt: skip
_HARMLESS: dict[str, tuple[object, ...]] = {
    "tool_choice": ("none", "auto"),
    "function_call": ("none", "auto"),
    "response_format": ({"type": "text"},),
}


async def complete_locally(
    request: Request, state: State, engine: Engine, body: ChatRequest, conversation: Conversation
) -> Response:
    """Answers a chat.

    Raises:
        ServiceError: 422 what a local model can't do; see the engine for others.
    """
    ask = _ask_of(body, conversation, state)
    count_methods(state.metrics, ask)
    if body.stream:
        return await _stream_reply(request, state, engine, body, ask)
    ask, found = await answer(engine, ask, client_of(request))
    output = usable_output(state.metrics, "answer", found.outputs)
    what = done(ask, found.outputs)
    tokens = usage(found.outputs)
    await spend_tokens(request, tokens.total_tokens)
    message = {"role": "assistant", "content": full_text(output), "refusal": None}
    reply = {
        "id": new_id("chatcmpl"),
        "object": "chat.completion",
        "created": int(time.time()),
        "model": engine.name,
        "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": found.finish or "stop"}],
        "usage": tokens.model_dump(),
        "fairpos": what.model_dump(),
    }
    return JSONResponse(reply, headers=headers(what))


def _ask_of(body: ChatRequest, conversation: Conversation, state: State) -> Ask:
    """The messages as the library's request; the last one must be the user's."""
    _refuse_unsupported(body, conversation)
    turns = tuple(_turn_of(message, i) for i, message in enumerate(body.messages[:-1]))
    query = conversation.query or documents.text_of(conversation.rest)
    given = [document.segment for document in conversation.documents]
    segments: tuple[Segment, ...] = as_segments(given) if given else ()
    question = replace(Question("answer", query, segments), history=turns)
    options = conversation.options
    decoding, notes = _decoding_of(body, state.settings.max_new_tokens, options.seed)
    ask = Ask.of(
        question,
        options if segments else options.model_copy(update={"methods": "none"}),
        state.settings,
        default=state.settings.methods,
        template=CHAT if segments else PLAIN,
        decoding=decoding,
    )
    if not segments:
        ask = replace(ask, template=PLAIN)
        if options.methods is not None:
            notes = (*notes, "no documents: no method was applied")
    return replace(ask, notes=notes, fills_context=(body.max_completion_tokens or body.max_tokens) is None)


def _refuse_unsupported(body: ChatRequest, conversation: Conversation) -> None:
    """Refuses what a local model can't do.

    Raises:
        ServiceError: 422.
    """
    extra = body.model_extra or {}
    for name in _REFUSED:
        value = extra.get(name)
        if value and value not in _HARMLESS.get(name, ()):
            raise ServiceError(422, "unsupported_parameter", f"a local model can't do {name!r}", param=name)
    if (body.n or 1) > 1:
        raise ServiceError(422, "unsupported_parameter", "a local model gives 1 choice (n)", param="n")
    if not body.messages or conversation.last != len(body.messages) - 1:
        raise ServiceError(
            422, "invalid_request", "the last message must be the user's, on a local model", param="messages"
        )
    parts = conversation.rest if isinstance(conversation.rest, list) else []
    others = [part.get("type") for part in parts if isinstance(part, dict) and part.get("type") != "text"]
    if others:
        raise ServiceError(422, "unsupported_content", f"a local model reads text; got {others[0]!r}", param="messages")


def _decoding_of(body: ChatRequest, most: int, seed: int) -> tuple[Decoding, tuple[str, ...]]:
    """How a reply of at most so many tokens is generated, and what a user should know of it."""
    wanted = body.max_completion_tokens or body.max_tokens
    notes: tuple[str, ...] = ()
    if wanted is not None and wanted > most:
        notes = (f"max_tokens was {wanted}; a reply gets at most {most} tokens here",)
    temperature = body.temperature or 0.0
    stop = [body.stop] if isinstance(body.stop, str) else body.stop or []
    decoding = Decoding(
        max_new_tokens=min(wanted or most, most),
        temperature=temperature,
        top_p=body.top_p or 1.0,
        # A request without a seed still repeats: the reply is the same for the same request.
        seed=(seed if body.seed is None else body.seed % 2**63) if temperature > 0 else None,
        stop=tuple(text for text in stop if text),
    )
    return decoding, notes


def _turn_of(message: dict[str, Any], place: int) -> Turn:
    role = message.get("role")
    if role not in ("system", "developer", "user", "assistant"):
        raise ServiceError(
            422,
            "unsupported_content",
            f"a local model takes no message of role {role!r}",
            param=f"messages.{place}.role",
        )
    content = documents.text_of(message.get("content"))
    return Turn("system" if role == "developer" else str(role), content)


async def _stream_reply(request: Request, state: State, engine: Engine, body: ChatRequest, ask: Ask) -> Response:
    """The stream; whatever fails before the first piece of text is a plain error."""

    async def open_stream(ask: Ask) -> tuple[Ask, Opened]:
        ready, ticket = await submit(engine, ask, client_of(request), stream=True)
        return ready, await _open_events(ticket)

    ask, (opening, events, ticket) = await with_fallback(ask, open_stream)
    orders: tuple[tuple[str, ...], ...] = ()
    for found in opening:
        if isinstance(found, Started):
            orders = found.orders
        elif isinstance(found, Finished):
            orders = tuple(view.order for output in found.outputs for view in output.views)
            usable_output(state.metrics, "answer", found.outputs)
    what = done(ask, [])
    what.orders = [list(order) for order in orders]
    what.order = what.orders[0] if orders and all(order == orders[0] for order in orders) else None
    what.calls = len(orders)
    chunks = _chunks_of(request, state, engine, body, ask, (opening, events, ticket))
    return Relay(chunks, headers={**HEADERS, **headers(what)}, told_end=True)


async def _chunks_of(
    request: Request, state: State, engine: Engine, body: ChatRequest, ask: Ask, opened: Opened
) -> AsyncIterator[bytes]:
    """The stream's bytes; one that fails ends with an error event."""
    opening, events, ticket = opened
    shape = ChatEvents(engine.name, bool((body.stream_options or {}).get("include_usage")))
    yield shape.chunk({"role": "assistant", "content": ""})
    told = False
    try:
        async for found in _all_events(opening, events):
            if isinstance(found, Text):
                told = True
                yield shape.chunk({"content": found.piece})
            elif isinstance(found, Finished):
                output = usable_output(state.metrics, "answer", found.outputs)
                tokens = usage(found.outputs)
                await spend_tokens(request, tokens.total_tokens)
                if not told and full_text(output):
                    yield shape.chunk({"content": full_text(output)})
                yield shape.chunk({}, found.finish or "stop", fairpos=done(ask, found.outputs).model_dump())
                yield shape.last(tokens.model_dump())
    except Exception as error:
        log.warning("stream failed", extra={"error": type(error).__name__})
        yield event(as_service_error(error).body)
    finally:
        ticket.cancel()


async def _open_events(ticket: Ticket) -> Opened:
    """Events up to the first text or the end, and those that follow."""
    events = ticket.events()
    opening: list[Started | Text | Finished] = []
    async for found in events:
        opening.append(found)
        if not isinstance(found, Started):
            break
    return opening, events, ticket


async def _all_events(
    opening: Sequence[Started | Text | Finished], events: AsyncIterator[Started | Text | Finished]
) -> AsyncIterator[Started | Text | Finished]:
    for found in opening:
        yield found
    if not isinstance(opening[-1], Finished):
        async for found in events:
            yield found
