"""A chat completion with documents by the upstream: passed on with them arranged, or several calls that vote."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from typing import Any

from fastapi import Request, Response
from fastapi.responses import JSONResponse

from fairpos import Decoding
from fairpos import Request as Question
from fairpos.passages import as_segments
from fairpos.prompts import Prompt
from fairpos.types import Turn

from . import documents
from .annotations import StreamAnnotator, annotate_reply, annotations_of
from .answering import answer, first_prompt
from .asking import CHAT, Ask, count_methods
from .bodies import beside
from .chat_events import HEADERS, ChatEvents, wants_usage
from .connection import Relay
from .control_tokens import neutral_json
from .conversation import Conversation
from .endpoint import Endpoint, guarded
from .errors import ServiceError
from .outcome import done, full_text, headers, usable_output, usage
from .replies import new_id, read_as
from .schemas.chat import ChatRequest
from .schemas.options import Done, Options
from .state import State, client_of, spend_tokens
from .upstream import Upstream


async def complete_upstream(
    request: Request, state: State, upstream: Upstream, model: str, body: dict[str, Any], conversation: Conversation
) -> Response:
    """Arranges the documents, and passes the conversation on with them; or lets several orders vote."""
    ask = _ask_of(body, conversation, state)
    count_methods(state.metrics, ask)
    endpoint = upstream.endpoint(model, client_of(request))
    ask, prompt = await first_prompt(endpoint, ask)
    cites = conversation.options.citations
    if cites and conversation.options.documents == "pass":
        raise ServiceError(422, "unsupported_parameter", "citations need the documents inline: their names are shown")
    if prompt is None:
        return await _reply_of_votes(request, state, endpoint, model, body, ask, conversation)
    order = prompt.request.ids
    what = Done(methods=ask.spec, order=list(order), orders=[list(order)], calls=1, notes=list(ask.notes))
    what.left_out = [id for id in ask.request.ids if id not in set(order)]
    if what.left_out:
        what.notes.append(f"{len(what.left_out)} documents don't fit into the context and were left out")
    what.profile = done(ask, []).profile
    places = {document.segment.id: i for i, document in enumerate(conversation.documents)}

    annotator = StreamAnnotator(prompt, conversation.documents)
    begun = False

    def edit(reply: dict[str, Any]) -> dict[str, Any]:
        nonlocal begun
        recount_citations(reply, [places[id] for id in order])
        unknown: Sequence[str] | None = None
        if cites and "chunk" in str(reply.get("object")):
            unknown = annotator.annotate(reply)
        elif cites:
            unknown = annotate_reply(reply, prompt, conversation.documents)
        if unknown is None and begun:  # in the middle of a stream
            return reply
        begun = True
        what.unknown_citations = list(dict.fromkeys([*what.unknown_citations, *(unknown or ())]))
        return {**reply, "fairpos": what.model_dump()}

    content = await beside(
        len(prompt.text), lambda: json.dumps(_arranged_body(body, conversation, prompt, model)).encode()
    )
    return await upstream.relay(
        request, "/chat/completions", content, edit=edit, every_event=cites, headers=headers(what)
    )


def _ask_of(body: dict[str, Any], conversation: Conversation, state: State) -> Ask:
    segments = as_segments([document.segment for document in conversation.documents])
    history = _plain_turns(body["messages"][: conversation.last])
    return Ask.of(
        replace(Question("answer", conversation.query, segments), history=history),
        conversation.options,
        state.settings,
        default=state.settings.methods,
        template=CHAT,
        decoding=_decoding_of(body, conversation.options),
    )


def _arranged_body(body: dict[str, Any], conversation: Conversation, prompt: Prompt, model: str) -> dict[str, Any]:
    """The request as it goes up: documents in the prompt's order, written into the last user message or beside it."""
    sent = {key: value for key, value in body.items() if key not in ("documents", "fairpos")}
    messages: list[Any] = body["messages"]
    if conversation.options.documents == "pass":
        originals = {document.segment.id: document.original for document in conversation.documents}
        sent["documents"] = [neutral_json(originals[id]) for id in prompt.request.ids]
        content = conversation.rest
    else:
        content = text = guarded(prompt).text
        if isinstance(conversation.rest, list):  # pictures and the like stay
            others = [p for p in conversation.rest if not (isinstance(p, dict) and p.get("type") == "text")]
            content = [{"type": "text", "text": text}, *others] if others else text
    last = conversation.last
    sent["messages"] = [*messages[:last], {**messages[last], "content": content}, *messages[last + 1 :]]
    if model:
        sent["model"] = model
    return sent


async def _reply_of_votes(
    request: Request,
    state: State,
    endpoint: Endpoint,
    model: str,
    body: dict[str, Any],
    ask: Ask,
    conversation: Conversation,
) -> Response:
    """Several calls, folded into one answer; a stream gets it in one piece."""
    for name in ("tools", "functions", "response_format", "logprobs"):
        if body.get(name):
            raise ServiceError(
                422, "unsupported_parameter", f"{ask.spec} asks the model several times, which doesn't go with {name!r}"
            )
    ask, found = await answer(endpoint, ask, client_of(request))
    output = usable_output(state.metrics, "answer", found.outputs)
    what = done(ask, found.outputs)
    spent = usage(found.outputs)
    await spend_tokens(request, spent.total_tokens)
    annotations = annotations_of(full_text(output), output, conversation.documents)
    annotated = {"annotations": annotations} if annotations or conversation.options.citations else {}
    tokens, text, finish = spent.model_dump(), full_text(output), found.finish or "stop"
    if not body.get("stream"):
        message = {"role": "assistant", "content": text, "refusal": None, **annotated}
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": finish}
        shared = {"id": new_id("chatcmpl"), "object": "chat.completion", "created": int(time.time()), "model": model}
        reply = {**shared, "choices": [choice], "usage": tokens, "fairpos": what.model_dump()}
        return JSONResponse(reply, headers=headers(what))

    async def chunks() -> AsyncIterator[bytes]:
        shape = ChatEvents(model, wants_usage(body))
        yield shape.chunk({"role": "assistant", "content": text})
        yield shape.chunk(annotated, finish, fairpos=what.model_dump())
        yield shape.last(tokens)

    return Relay(chunks(), headers={**HEADERS, **headers(what)}, told_end=True)


def _plain_turns(messages: Sequence[Any]) -> tuple[Turn, ...]:
    """Earlier messages as text, for methods that ask by themselves; what has no text is left out there."""
    return tuple(
        Turn(str(message.get("role", "user")), documents.text_of(message.get("content")))
        for message in messages
        if isinstance(message, dict) and isinstance(message.get("content"), str | list)
    )


def _decoding_of(body: dict[str, Any], options: Options) -> Decoding:
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


def recount_citations(reply: dict[str, Any], places: Sequence[int]) -> None:
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
