"""POST /v1/responses, /v1/messages, /v2/chat: chats of OpenAI's newer clients, of Anthropic's and of Cohere's; and how
many tokens one of Anthropic's has.

By a local model, or by an upstream, where documents are to be arranged; other requests to an upstream pass as they are.
"""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request, Response

from ..replies import ERRORS, body_of
from ..surfaces.base import serve
from ..surfaces.cohere_chat import CohereChat
from ..surfaces.messages import Messages
from ..surfaces.responses import Responses
from ..surfaces.token_count import count_message_tokens

router = APIRouter(tags=["chat"], responses=ERRORS)

_REPLY: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "In that API's shape, whole or as its events; with `fairpos` beside it.",
        "content": {"application/json": {"schema": {"type": "object"}}, "text/event-stream": {}},
    }
}


@router.post("/v1/responses", response_class=Response, responses=_REPLY, openapi_extra=body_of("ResponsesRequest"))
async def responses(request: Request) -> Response:
    """OpenAI's Responses."""
    return await serve(request, Responses)


@router.post("/v1/messages", response_class=Response, responses=_REPLY, openapi_extra=body_of("MessagesRequest"))
async def messages(request: Request) -> Response:
    """Anthropic's Messages."""
    return await serve(request, Messages)


@router.post(
    "/v1/messages/count_tokens",
    response_class=Response,
    responses={200: {"description": "`{input_tokens}`, of one prompt.", "content": {"application/json": {}}}},
    openapi_extra=body_of("TokenCountRequest"),
)
async def count_tokens(request: Request) -> Response:
    """Tokens that a request of Anthropic's Messages has."""
    return await count_message_tokens(request)


@router.post("/v2/chat", response_class=Response, responses=_REPLY, openapi_extra=body_of("CohereChatRequest"))
async def cohere_chat(request: Request) -> Response:
    """Cohere's chat."""
    return await serve(request, CohereChat)
