"""POST /v1/chat/completions: OpenAI's, with documents.

Without documents, on an upstream: a transparent proxy. With documents: they are arranged, or the model's attention is
changed, or several orders vote, as the methods say; the reply tells what was done.
"""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse

from fairpos import Decoding, Segment
from fairpos import Request as Question
from fairpos.backends.base import Finish
from fairpos.types import Turn, as_segments

from .. import documents
from ..asking import CHAT, PLAIN, Ask, checked, count, done, first_prompt, headers, on_endpoint, on_engine, usage
from ..connection import Relay
from ..documents import Document
from ..engine import Engine, Finished, Job, Started, Text, Ticket
from ..errors import UNSUPPORTED, ServiceError, as_service_error
from ..logs import log
from ..replies import ERRORS, new_id, parse_object, read_as
from ..schemas import ChatRequest, Done, Options
from ..state import State, client_of, state_of
from ..upstream import Upstream

router = APIRouter(tags=["chat"], responses=ERRORS)

# OpenAI's fields that a local model can't honour: silently dropping them would change what the client gets.
_REFUSED = ("tools", "tool_choice", "functions", "function_call", "logprobs", "top_logprobs", "response_format",
            "frequency_penalty", "presence_penalty", "logit_bias", "audio", "prediction")  # fmt: skip
_HARMLESS: dict[str, tuple[object, ...]] = {
    "tool_choice": ("none", "auto"),
    "function_call": ("none", "auto"),
    "response_format": ({"type": "text"},),
}


@router.post(
    "/v1/chat/completions",
    response_class=Response,
    responses={
        200: {
            "description": "A completion, or its stream; beside OpenAI's fields there is `fairpos`.",
            "content": {"application/json": {"schema": {"type": "object"}}, "text/event-stream": {}},
        }
    },
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": {"$ref": "#/components/schemas/ChatRequest"}}},
        }
    },
)
async def chat(request: Request) -> Response:
    """Completes a chat, from documents where there are some."""
    state = state_of(request)
    content = await request.body()
    body = parse_object(content)
    model = body.get("model")
    if model is not None and not isinstance(model, str):
        raise ServiceError(422, "invalid_request", "model must be text", param="model")
    target, name = state.target(model)
    conversation = _conversation(body, state)
    if isinstance(target, Engine):
        return await _local(request, state, target, read_as(ChatRequest, body), conversation)
    if conversation.documents:
        return await _with_documents(request, state, target, name, body, conversation)
    own = {"fairpos", "documents"} & body.keys()
    if own or name != (model or ""):
        for field in own:
            del body[field]
        content = json.dumps(body | ({"model": name} if name else {})).encode()
    return await target.relay(request, "/chat/completions", content)


@dataclass(frozen=True, slots=True)
class _Conversation:
    """The messages as one question with documents.

    Attributes:
        last: Place of the last user message; -1: there is none.
        query: Its text, without document blocks.
        rest: Its content without document blocks.
        documents: From the field and from the blocks.
        options: The `fairpos` field.
    """

    last: int
    query: str
    rest: Any
    documents: list[Document]
    options: Options


def _conversation(body: dict[str, Any], state: State) -> _Conversation:
    options = read_as(Options, body.get("fairpos") or {}, "fairpos")
    found = documents.read(body["documents"]) if body.get("documents") else []
    messages: list[Any] = body["messages"] if isinstance(body.get("messages"), list) else []
    users = [i for i, m in enumerate(messages) if isinstance(m, dict) and m.get("role") == "user"]
    last, rest, query = -1, None, ""
    if users:
        last = users[-1]
        blocks, rest = documents.split_blocks(messages[last].get("content"), len(found) + 1)
        if blocks or found:
            found = [*found, *blocks]
            query = documents.text_of(rest)
    if len(found) > state.settings.max_documents:
        raise ServiceError(
            422,
            "too_many_documents",
            f"got {len(found)} documents; at most {state.settings.max_documents} are allowed",
            param="documents",
        )
    if found and last < 0:
        raise ServiceError(422, "invalid_request", "there are documents, but no user message", param="messages")
    return _Conversation(last, query, rest, found, options)


# On a local model


async def _local(
    request: Request, state: State, engine: Engine, body: ChatRequest, conversation: _Conversation
) -> Response:
    ask = _ask(body, conversation, state)
    count(state.metrics, ask)
    if body.stream:
        return await _streamed(request, state, engine, body, ask)
    ask, found = await on_engine(engine, ask, client_of(request))
    output = checked(state.metrics, "answer", found.outputs)
    what = done(ask, found.outputs)
    reply = {
        "id": new_id("chatcmpl"),
        "object": "chat.completion",
        "created": int(time.time()),
        "model": engine.name,
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": output.text, "refusal": None},
                "logprobs": None,
                "finish_reason": found.finish or "stop",
            }
        ],
        "usage": usage(found.outputs).model_dump(),
        "fairpos": what.model_dump(),
    }
    return JSONResponse(reply, headers=headers(what))


def _ask(body: ChatRequest, conversation: _Conversation, state: State) -> Ask:
    """The messages as the library's request; the last one must be the user's."""
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
    turns = tuple(_turn(message, i) for i, message in enumerate(body.messages[:-1]))
    query = conversation.query or documents.text_of(conversation.rest)
    left = [part.get("type") for part in conversation.rest if isinstance(part, dict) and part.get("type") != "text"] \
        if isinstance(conversation.rest, list) else []  # fmt: skip
    if left:
        raise ServiceError(422, "unsupported_content", f"a local model reads text; got {left[0]!r}", param="messages")
    given = [document.segment for document in conversation.documents]
    segments: tuple[Segment, ...] = as_segments(given) if given else ()
    wanted = body.max_completion_tokens or body.max_tokens or state.settings.max_new_tokens
    temperature = body.temperature or 0.0
    stop = [body.stop] if isinstance(body.stop, str) else body.stop or []
    options = conversation.options
    ask = Ask.of(
        replace(Question("answer", query, segments), history=turns),
        options if segments else options.model_copy(update={"methods": "none"}),
        state.settings,
        default=state.settings.methods,
        template=CHAT if segments else PLAIN,
        decoding=Decoding(
            max_new_tokens=min(wanted, state.settings.max_new_tokens),
            temperature=temperature,
            top_p=body.top_p or 1.0,
            # A request without a seed still repeats: the reply is the same for the same request.
            seed=(options.seed if body.seed is None else body.seed % 2**63) if temperature > 0 else None,
            stop=tuple(text for text in stop if text),
        ),
    )
    if not segments:
        ask = replace(ask, template=PLAIN)
        if options.methods is not None:
            ask = replace(ask, notes=("no documents: no method was applied",))
    return ask


def _turn(message: dict[str, Any], place: int) -> Turn:
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


async def _streamed(request: Request, state: State, engine: Engine, body: ChatRequest, ask: Ask) -> Response:
    """The stream; whatever fails before the first piece of text is a plain error."""
    client = client_of(request)
    try:
        ready, work = await ask.begun(engine.backend)
        ticket = engine.submit(Job(work, client, stream=ask.one_text(engine.backend)))
        opening, events = await _opening(ticket)
        ask = ready
    except UNSUPPORTED as error:
        if not (ask.passing and ask.methods):
            raise
        ask = ask.plain(str(error))
        ticket = engine.submit(Job(ask.work(engine.backend), client, stream=True))
        opening, events = await _opening(ticket)
    orders: tuple[tuple[str, ...], ...] = ()
    for event in opening:
        if isinstance(event, Started):
            orders = event.orders
        elif isinstance(event, Finished):
            orders = tuple(view.order for output in event.outputs for view in output.views)
            checked(state.metrics, "answer", event.outputs)
    what = done(ask, [])
    what.orders = [list(order) for order in orders]
    what.order = what.orders[0] if orders and all(order == orders[0] for order in orders) else None
    what.calls = len(orders)

    async def chunks() -> AsyncIterator[bytes]:
        shared = {"id": new_id("chatcmpl"), "object": "chat.completion.chunk", "created": int(time.time()),
                  "model": engine.name}  # fmt: skip
        with_usage = bool((body.stream_options or {}).get("include_usage"))
        empty = {"usage": None} if with_usage else {}

        def event(delta: dict[str, Any], finish: Finish | None = None, **more: object) -> bytes:
            choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
            return _data({**shared, "choices": [choice], **empty, **more})

        yield event({"role": "assistant", "content": ""})
        told = False
        try:
            async for found in _both(opening, events):
                if isinstance(found, Text):
                    told = True
                    yield event({"content": found.piece})
                elif isinstance(found, Finished):
                    output = checked(state.metrics, "answer", found.outputs)
                    if not told and output.text:
                        yield event({"content": output.text})
                    yield event({}, found.finish or "stop", fairpos=done(ask, found.outputs).model_dump())
                    if with_usage:
                        yield _data({**shared, "choices": [], "usage": usage(found.outputs).model_dump()})
                    yield b"data: [DONE]\n\n"
        except Exception as error:
            log.warning("stream failed", extra={"error": type(error).__name__})
            yield _data(as_service_error(error).body)
        finally:
            ticket.cancel()

    return Relay(
        chunks(),
        headers={"content-type": "text/event-stream; charset=utf-8", "cache-control": "no-cache", **headers(what)},
    )


async def _opening(ticket: Ticket) -> tuple[list[Started | Text | Finished], AsyncIterator[Started | Text | Finished]]:
    """Events up to the first text or the end, and those that follow."""
    events = ticket.events()
    opening: list[Started | Text | Finished] = []
    async for event in events:
        opening.append(event)
        if not isinstance(event, Started):
            break
    return opening, events


async def _both(
    opening: Sequence[Started | Text | Finished], events: AsyncIterator[Started | Text | Finished]
) -> AsyncIterator[Started | Text | Finished]:
    for event in opening:
        yield event
    if not isinstance(opening[-1], Finished):
        async for event in events:
            yield event


def _data(value: object) -> bytes:
    return b"data: " + json.dumps(value, ensure_ascii=False).encode() + b"\n\n"


# On an upstream


async def _with_documents(
    request: Request, state: State, upstream: Upstream, model: str, body: dict[str, Any], conversation: _Conversation
) -> Response:
    """Arranges the documents, and passes the conversation on with them; or lets several orders vote."""
    options = conversation.options
    given = as_segments([document.segment for document in conversation.documents])
    safe = tuple(
        replace(s, text=documents.neutral(s.text), title=None if s.title is None else documents.neutral(s.title))
        for s in given
    )
    messages: list[Any] = body["messages"]
    before = messages[: conversation.last]
    ask = Ask.of(
        replace(Question("answer", conversation.query, safe), history=_plain_turns(before)),
        options,
        state.settings,
        default=state.settings.methods,
        template=CHAT,
        decoding=_decoding(body, options),
    )
    count(state.metrics, ask)
    backend = upstream.model(model)
    ask, prompt = await first_prompt(backend, ask)
    if prompt is None:
        return await _voted(state, upstream, model, body, ask)
    order = prompt.request.ids
    what = Done(methods=ask.spec, order=list(order), orders=[list(order)], calls=1, notes=list(ask.notes))
    what.profile = done(ask, []).profile
    sent = {key: value for key, value in body.items() if key not in ("documents", "fairpos")}
    message = messages[conversation.last]
    if options.documents == "pass":
        by_id = {s.id: d.original for s, d in zip(given, conversation.documents, strict=True)}
        sent["documents"] = [by_id[id] for id in order]
        content = conversation.rest
    else:
        content = prompt.text
        if isinstance(conversation.rest, list):  # pictures and the like stay
            others = [p for p in conversation.rest if not (isinstance(p, dict) and p.get("type") == "text")]
            content = [{"type": "text", "text": prompt.text}, *others] if others else prompt.text
    sent["messages"] = [*before, {**message, "content": content}, *messages[conversation.last + 1 :]]
    if model:
        sent["model"] = model
    places = {s.id: i for i, s in enumerate(given)}

    def edit(reply: dict[str, Any]) -> dict[str, Any]:
        _unpermute(reply, [places[id] for id in order])
        return {**reply, "fairpos": what.model_dump()}

    return await upstream.relay(
        request, "/chat/completions", json.dumps(sent).encode(), edit=edit, headers=headers(what)
    )


async def _voted(state: State, upstream: Upstream, model: str, body: dict[str, Any], ask: Ask) -> Response:
    """Several calls, folded into one answer; a stream gets it in one piece."""
    for name in ("tools", "functions", "response_format", "logprobs"):
        if body.get(name):
            raise ServiceError(
                422, "unsupported_parameter", f"{ask.spec} asks the model several times, which doesn't go with {name!r}"
            )
    ask, found = await on_endpoint(upstream.model(model), ask)
    output = checked(state.metrics, "answer", found.outputs)
    what = done(ask, found.outputs)
    shared = {"id": new_id("chatcmpl"), "created": int(time.time()), "model": model}
    tokens = usage(found.outputs).model_dump()
    finish = found.finish or "stop"
    if not body.get("stream"):
        message = {"role": "assistant", "content": output.text, "refusal": None}
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": finish}
        reply = {**shared, "object": "chat.completion", "choices": [choice], "usage": tokens}
        return JSONResponse({**reply, "fairpos": what.model_dump()}, headers=headers(what))

    async def chunks() -> AsyncIterator[bytes]:
        part = {**shared, "object": "chat.completion.chunk"}
        delta = {"role": "assistant", "content": output.text}
        yield _data({**part, "choices": [{"index": 0, "delta": delta, "finish_reason": None}]})
        last = {"index": 0, "delta": {}, "finish_reason": finish}
        yield _data({**part, "choices": [last], "fairpos": what.model_dump()})
        if isinstance(body.get("stream_options"), dict) and body["stream_options"].get("include_usage"):
            yield _data({**part, "choices": [], "usage": tokens})
        yield b"data: [DONE]\n\n"

    return Relay(chunks(), headers={"content-type": "text/event-stream; charset=utf-8", **headers(what)})


def _plain_turns(messages: Sequence[Any]) -> tuple[Turn, ...]:
    """Earlier messages as text, for methods that ask by themselves; what has no text is left out there."""
    return tuple(
        Turn(str(message.get("role", "user")), documents.text_of(message.get("content")))
        for message in messages
        if isinstance(message, dict) and isinstance(message.get("content"), str | list)
    )


def _decoding(body: dict[str, Any], options: Options) -> Decoding:
    """As the library wants it; only for methods that ask several times, others pass the fields on as they are."""
    names = ("max_tokens", "max_completion_tokens", "temperature", "top_p", "seed", "stop")
    fields: dict[str, Any] = {name: body[name] for name in names if name in body}
    read = read_as(ChatRequest, {"messages": [], **fields})
    temperature = read.temperature or 0.0
    stop = [read.stop] if isinstance(read.stop, str) else read.stop or []
    return Decoding(
        max_new_tokens=read.max_completion_tokens or read.max_tokens or 1024,
        temperature=temperature,
        top_p=read.top_p or 1.0,
        seed=(options.seed if read.seed is None else read.seed) if temperature > 0 else None,
        stop=tuple(text for text in stop if text),
    )


def _unpermute(reply: dict[str, Any], places: Sequence[int]) -> None:
    """Citations that count documents as they were shown count them as the client sent them, in place."""
    choices = reply.get("choices")
    for choice in choices if isinstance(choices, list) else []:
        message = choice.get("message") if isinstance(choice, dict) else None
        citations = message.get("citations") if isinstance(message, dict) else None
        for citation in citations if isinstance(citations, list) else []:
            for key in ("document_index", "search_result_index") if isinstance(citation, dict) else ():
                shown = citation.get(key)
                if isinstance(shown, int) and 0 <= shown < len(places):
                    citation[key] = places[shown]
