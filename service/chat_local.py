"""A chat completion by a local model, whole or as a stream, in OpenAI's shape."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

from fastapi import Request, Response
from fastapi.responses import JSONResponse

from fairpos.types import Turn

from . import documents
from .annotations import annotations_of
from .chat_events import HEADERS, ChatEvents, event
from .choices import Choice, ChoiceEnd, OpenStream, Piece, open_stream, whole_reply
from .connection import Relay
from .conversation import Conversation
from .engine import Engine
from .errors import ServiceError, as_service_error
from .logs import log
from .outcome import headers
from .replies import new_id, refuse_fields
from .schemas.chat import ChatRequest
from .state import State
from .wanted import Sampling, Wanted, asks_of, schema_of

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from fairpos.backends.token_log_probs import TokenLogProb

# OpenAI's fields that a local model can't honour: silently dropping them would change what the client gets.
_REFUSED = ("tools", "tool_choice", "functions", "function_call", "frequency_penalty", "presence_penalty", "logit_bias",
            "audio", "prediction", "web_search_options")  # fmt: skip
_HARMLESS: dict[str, tuple[object, ...]] = {
    "tool_choice": ("none", "auto"),
    "function_call": ("none", "auto"),
}


async def complete_locally(
    request: Request, state: State, engine: Engine, body: ChatRequest, conversation: Conversation
) -> Response:
    """Answers a chat.

    Raises:
        ServiceError: 422 what a local model can't do; see the engine for others.
    """
    asks = await asks_of(_wanted_of(body, conversation), engine, state.settings)
    if body.stream:
        opened = await open_stream(request, state, engine, asks)
        chunks = _chunks_of(engine, body, opened, conversation)
        return Relay(chunks, headers={**HEADERS, **headers(opened.done)}, told_end=True)
    told = await whole_reply(request, state, engine, asks)
    reply = {
        "id": new_id("chatcmpl"),
        "object": "chat.completion",
        "created": int(time.time()),
        "model": engine.name,
        "choices": [_choice_of(index, choice, body, engine, conversation) for index, choice in enumerate(told.choices)],
        "usage": told.usage.model_dump(),
        "fairpos": told.done.model_dump(),
    }
    return JSONResponse(reply, headers=headers(told.done))


def _choice_of(
    index: int, choice: Choice, body: ChatRequest, engine: Engine, conversation: Conversation
) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": choice.text, "refusal": None}
    message |= _annotated(choice, conversation)
    shown = log_probs_shown(choice.log_probs, engine.backend.tokenizer) if body.logprobs else None
    return {"index": index, "message": message, "logprobs": shown, "finish_reason": choice.finish}


def _annotated(choice: Choice, conversation: Conversation) -> dict[str, Any]:
    """The message's `annotations`, where citations are wanted or there are some."""
    found = annotations_of(choice.text, choice.output, conversation.documents)
    return {"annotations": found} if found or conversation.options.citations else {}


def log_probs_shown(tokens: Sequence[TokenLogProb], tokenizer: PreTrainedTokenizerBase) -> dict[str, Any]:
    """Log-probabilities as OpenAI's chat shows them."""
    from .token_text import shown_log_probs

    return {"content": shown_log_probs(tokenizer, tokens), "refusal": None}


def _wanted_of(body: ChatRequest, conversation: Conversation) -> Wanted:
    """The messages as one question; the last one must be the user's."""
    _refuse_unsupported(body, conversation)
    stop = [body.stop] if isinstance(body.stop, str) else body.stop or []
    return Wanted(
        query=conversation.query or documents.text_of(conversation.rest),
        history=tuple(_turn_of(message, i) for i, message in enumerate(body.messages[:-1])),
        documents=tuple(conversation.documents),
        options=conversation.options,
        sampling=Sampling(
            max_tokens=body.max_completion_tokens or body.max_tokens,
            temperature=body.temperature or 0.0,
            top_p=body.top_p or 1.0,
            seed=body.seed,
            stop=tuple(stop),
            choices=body.n or 1,
            log_probs=(body.top_logprobs or 0) if body.logprobs else None,
            schema=schema_of(body.response_format, "response_format"),
        ),
    )


def _refuse_unsupported(body: ChatRequest, conversation: Conversation) -> None:
    """Refuses what a local model can't do.

    Raises:
        ServiceError: 422.
    """
    refuse_fields(body.model_extra or {}, _REFUSED, _HARMLESS)
    if body.top_logprobs and not body.logprobs:
        raise ServiceError(422, "invalid_request", "top_logprobs needs logprobs: true", param="top_logprobs")
    if not body.messages or conversation.last != len(body.messages) - 1:
        raise ServiceError(
            422, "invalid_request", "the last message must be the user's, on a local model", param="messages"
        )
    parts = conversation.rest if isinstance(conversation.rest, list) else []
    others = [part.get("type") for part in parts if isinstance(part, dict) and part.get("type") != "text"]
    if others:
        raise ServiceError(422, "unsupported_content", f"a local model reads text; got {others[0]!r}", param="messages")


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


async def _chunks_of(
    engine: Engine, body: ChatRequest, opened: OpenStream, conversation: Conversation
) -> AsyncIterator[bytes]:
    """The stream's bytes; one that fails ends with an error event."""
    shape = ChatEvents(engine.name, bool((body.stream_options or {}).get("include_usage")))
    for index in range(body.n or 1):
        yield shape.chunk({"role": "assistant", "content": ""}, index=index)
    try:
        async with aclosing(opened.events) as events:
            ends: list[ChoiceEnd] = []
            async for found in events:
                if isinstance(found, Piece):
                    shown = log_probs_shown(found.log_probs, engine.backend.tokenizer) if body.logprobs else None
                    yield shape.chunk({"content": found.text}, index=found.index, log_probs=shown)
                elif isinstance(found, ChoiceEnd):
                    if ends:
                        ended = ends[-1]
                        annotated = _annotated(ended.choice, conversation)
                        yield shape.chunk(annotated, ended.choice.finish, index=ended.index)
                    ends.append(found)
                else:
                    last, what = ends[-1], found.told.done.model_dump()
                    annotated = _annotated(last.choice, conversation)
                    yield shape.chunk(annotated, last.choice.finish, index=last.index, fairpos=what)
                    yield shape.last(found.told.usage.model_dump())
    except Exception as error:
        log.warning("stream failed", extra={"error": type(error).__name__})
        yield event(as_service_error(error).body)
