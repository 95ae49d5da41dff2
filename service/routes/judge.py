"""POST /v1/judge: the best of several answers."""

from __future__ import annotations

import math

from fastapi import APIRouter, Request

from fairpos import Request as Question
from fairpos.passages import as_segments
from fairpos.prompts import EMPTY_ANSWER
from fairpos.types import Segment

from ..answering import answer
from ..asking import Ask, count_methods
from ..bodies import read_body
from ..errors import ServiceError
from ..outcome import done, usable_output, usage
from ..replies import ERRORS, body_of, new_id
from ..schemas.judge import Answer, JudgeReply, JudgeRequest
from ..schemas.options import Options
from ..state import asked_by, client_of, spend_tokens, state_of

router = APIRouter(tags=["judge"], responses=ERRORS)


@router.post("/v1/judge", openapi_extra=body_of("JudgeRequest"))
async def judge(request: Request) -> JudgeReply:
    """Which answer follows the instruction best; `winner` is null for a tie."""
    state = state_of(request)
    body = await read_body(request, JudgeRequest, state.settings)
    target, name = state.target(body.model)
    ask = Ask.of(
        Question("judge", body.instruction, as_segments(_answers_of(body), empty=EMPTY_ANSWER)),
        body.fairpos or Options(),
        state.settings,
        default=state.settings.judge_methods,
    )
    count_methods(state.metrics, ask)
    ask, found = await answer(asked_by(request, target, name), ask, client_of(request))
    output = usable_output(state.metrics, "judge", found.outputs)
    tokens = usage(found.outputs)
    await spend_tokens(request, tokens.total_tokens)
    return JudgeReply(
        id=new_id("judge"),
        model=name,
        winner=output.winner,
        ranking=list(output.ranking),
        scores={id: score for id, score in output.scores.items() if math.isfinite(score)},
        usage=tokens,
        fairpos=done(ask, found.outputs),
    )


def _answers_of(body: JudgeRequest) -> list[Segment | str]:
    pair = (body.response_a, body.response_b)
    if body.answers is not None and pair == (None, None):
        return [
            Segment(id="" if item.id is None else str(item.id), text=item.text) if isinstance(item, Answer) else item
            for item in body.answers
        ]
    if body.answers is None and body.response_a is not None and body.response_b is not None:
        return [Segment(id="A", text=body.response_a), Segment(id="B", text=body.response_b)]
    raise ServiceError(
        422, "invalid_request", "give `answers`, or `response_a` and `response_b`, not both", param="answers"
    )
