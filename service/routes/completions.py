"""POST /v1/completions: a local model's, or the upstream's as it is."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from ..bodies import beside, read_content, read_object
from ..engine import Engine
from ..replies import ERRORS, body_of, read_as
from ..schemas.completions import CompletionRequest
from ..state import state_of
from ..surfaces.completions import complete_prompts
from .proxied import model_of, pass_on

router = APIRouter(tags=["chat"], responses=ERRORS)


@router.post(
    "/v1/completions",
    response_class=Response,
    responses={200: {"description": "A completion, or its stream.", "content": {"application/json": {}}}},
    openapi_extra=body_of("CompletionRequest"),
)
async def complete(request: Request) -> Response:
    """Continues prompts, which go to the model as they are."""
    state = state_of(request)
    content = await read_content(request, state.settings)
    body = await read_object(content, state.settings)
    target, _ = state.target(model_of(body))
    if not isinstance(target, Engine):
        return await pass_on(request)
    read = await beside(len(content), lambda: read_as(CompletionRequest, body))
    return await complete_prompts(request, state, target, read)
