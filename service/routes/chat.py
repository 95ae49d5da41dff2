"""POST /v1/chat/completions: OpenAI's, with documents.

Without documents, on an upstream: a transparent proxy. With documents: they are arranged, or the model's attention is
changed, or several orders vote, as the methods say; the reply tells what was done.
"""

from __future__ import annotations

import json

from fastapi import APIRouter, Request, Response

from ..bodies import beside, check_lists, read_content, read_object
from ..chat_local import complete_locally
from ..chat_upstream import complete_upstream
from ..conversation import read_conversation
from ..engine import Engine
from ..replies import ERRORS, body_of, read_as
from ..schemas.chat import ChatRequest
from ..sizing import check_messages
from ..state import state_of
from .proxied import model_of

router = APIRouter(tags=["chat"], responses=ERRORS)


@router.post(
    "/v1/chat/completions",
    response_class=Response,
    responses={
        200: {
            "description": "A completion, or its stream; beside OpenAI's fields there is `fairpos`.",
            "content": {"application/json": {"schema": {"type": "object"}}, "text/event-stream": {}},
        }
    },
    openapi_extra=body_of("ChatRequest"),
)
async def chat(request: Request) -> Response:
    """Completes a chat, from documents where there are some."""
    state = state_of(request)
    content = await read_content(request, state.settings)
    body = await read_object(content, state.settings)
    check_lists(body, state.settings)
    model = model_of(body)
    target, name = state.target(model)
    if isinstance(target, Engine):
        check_messages(body.get("messages"), target.limits, target.backend.context)
    conversation = await beside(len(content), lambda: read_conversation(body, state.settings))
    if isinstance(target, Engine):
        read = await beside(len(content), lambda: read_as(ChatRequest, body))
        return await complete_locally(request, state, target, read, conversation)
    if conversation.documents:
        return await complete_upstream(request, state, target, name, body, conversation)
    own = {"fairpos", "documents"} & body.keys()
    if own or name != (model or ""):
        for field in own:
            del body[field]
        content = json.dumps(body | ({"model": name} if name else {})).encode()
    return await target.relay(request, "/chat/completions", content)
