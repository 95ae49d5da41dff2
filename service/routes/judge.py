"""POST /v1/judge: the best of several answers."""

from __future__ import annotations

import math

from fastapi import APIRouter, Request

from fairpos import Request as Question
from fairpos.types import Segment, as_segments

from ..asking import Ask, checked, count, done, on_target, usage
from ..errors import ServiceError
from ..replies import ERRORS, new_id
from ..schemas import Answer, JudgeReply, JudgeRequest, Options
from ..state import client_of, state_of

router = APIRouter(tags=["judge"], responses=ERRORS)


@router.post("/v1/judge")
async def judge(request: Request, body: JudgeRequest) -> JudgeReply:
    """Which answer follows the instruction best; `winner` is null for a tie."""
    state = state_of(request)
    segments = _answers(body)
    if len(segments) > state.settings.max_documents:
        raise ServiceError(
            422,
            "too_many_documents",
            f"got {len(segments)} answers; at most {state.settings.max_documents} are allowed",
        )
    target, name = state.target(body.model)
    ask = Ask.of(
        Question("judge", body.instruction, as_segments(segments)),
        body.fairpos or Options(),
        state.settings,
        default=state.settings.judge_methods,
    )
    count(state.metrics, ask)
    ask, found = await on_target(target, name, ask, client_of(request))
    output = checked(state.metrics, "judge", found.outputs)
    return JudgeReply(
        id=new_id("judge"),
        model=name,
        winner=output.winner,
        ranking=list(output.ranking),
        scores={id: score for id, score in output.scores.items() if math.isfinite(score)},
        usage=usage(found.outputs),
        fairpos=done(ask, found.outputs),
    )


def _answers(body: JudgeRequest) -> list[Segment | str]:
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
