"""POST /v1/messages/count_tokens: how many tokens a request of Anthropic's Messages has, before it is sent."""

from __future__ import annotations

import asyncio

from fastapi import Request, Response
from fastapi.responses import JSONResponse

from fairpos.backends.base import Generate

from ..asking import Ask
from ..bodies import beside, check_lists, read_content, read_object
from ..engine import Engine
from ..errors import ServiceError
from ..routes.proxied import model_of, pass_on
from ..sizing import check_messages, check_request
from ..state import state_of
from ..wanted import asks_of
from .messages import Messages

_OURS = ("documents", "fairpos")


async def count_message_tokens(request: Request) -> Response:
    """Counts the tokens of one prompt, whichever order its documents have; an upstream counts its own.

    Raises:
        ServiceError: see `Messages.read`; 404 the upstream's path may not pass; 422 documents that it can't know of.
    """
    state = state_of(request)
    content = await read_content(request, state.settings)
    body = await read_object(content, state.settings)
    check_lists(body, state.settings)
    target, name = state.target(model_of(body))
    if not isinstance(target, Engine):
        for field in _OURS:
            if body.get(field):
                raise ServiceError(
                    422, "unsupported_parameter", f"an upstream counts the tokens of messages alone, without {field!r}",
                    param=field,
                )  # fmt: skip
        return await pass_on(request)
    check_messages(body.get("messages"), target.limits, target.backend.context)
    asked = {**body, "max_tokens": 1}  # a request to count has none
    read = await beside(len(content), lambda: Messages.read(asked, name, state.settings))
    plainly = {"methods": "none", "fit": "error"}
    wanted = read.wanted.with_options(read.wanted.options.model_copy(update=plainly))
    [ask] = await asks_of(wanted, target, state.settings)
    check_request(ask.request, target.limits, target.backend.context)
    return JSONResponse({"input_tokens": await asyncio.to_thread(_prompt_tokens, ask, target)})


def _prompt_tokens(ask: Ask, engine: Engine) -> int:
    """Tokens of the one prompt that is asked without methods."""
    work = ask.work(engine.backend)
    [call] = next(work)
    work.close()
    assert isinstance(call, Generate)
    return len(engine.backend.layout(call.prompt))
