"""POST /score, /v1/score: how well texts answer a query, each alone, as vLLM's clients ask it."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Sequence

from fastapi import APIRouter, Request

from fairpos import Request as Question
from fairpos.types import Segment

from ..answering import answer
from ..asking import Ask, count_methods
from ..bodies import read_body
from ..errors import ServiceError
from ..outcome import usable_output, usage
from ..replies import ERRORS, body_of, new_id
from ..schemas.options import Options
from ..schemas.rerank import ScoreReply, ScoreRequest, ScoreResult
from ..state import asked_by, client_of, spend_tokens, state_of

router = APIRouter(tags=["rerank"], responses=ERRORS)
_RANKER = "pointwise"  # the one that compares a text with nothing, so that a score doesn't depend on the others


@router.post("/score", openapi_extra=body_of("ScoreRequest"))
@router.post("/v1/score", openapi_extra=body_of("ScoreRequest"))
async def score(request: Request) -> ScoreReply:
    """The probability of "yes" to whether each text answers the query: one query for all texts, or one for each."""
    state = state_of(request)
    body = await read_body(request, ScoreRequest, state.settings)
    queries, texts = _as_list(body.text_1), _as_list(body.text_2)
    if len(queries) not in (1, len(texts)):
        raise ServiceError(
            422,
            "invalid_request",
            f"text_1 must be one text or as many as text_2 has; got {len(queries)} and {len(texts)}",
            param="text_1",
        )
    for name, given in (("text_1", queries), ("text_2", texts)):
        if not given or not all(text.strip() for text in given):
            raise ServiceError(422, "invalid_request", f"{name} needs text in every place", param=name)
    target, name = state.target(body.model)
    asked, client = asked_by(request, target, name), client_of(request)
    groups = [(queries[0], range(len(texts)))] if len(queries) == 1 else [(q, [i]) for i, q in enumerate(queries)]
    options = Options(methods="none", ranker=_RANKER)
    asks = [
        Ask.of(
            Question("rank", query, tuple(Segment(id=str(i), text=texts[i]) for i in places)),
            options,
            state.settings,
            default="none",
        )
        for query, places in groups
    ]
    count_methods(state.metrics, asks[0])
    found = await asyncio.gather(*(answer(asked, ask, client) for ask in asks))
    outputs = [usable_output(state.metrics, "rank", finished.outputs) for _, finished in found]
    odds = {int(id): value for output in outputs for id, value in output.scores.items()}
    tokens = usage(outputs)
    await spend_tokens(request, tokens.total_tokens)
    return ScoreReply(
        id=new_id("score"),
        created=int(time.time()),
        model=name,
        data=[ScoreResult(index=i, score=_probability_of(odds.get(i, -math.inf))) for i in range(len(texts))],
        usage=tokens,
    )


def _as_list(value: str | Sequence[str]) -> list[str]:
    return [value] if isinstance(value, str) else list(value)


def _probability_of(odds: float) -> float:
    """Of "yes", from the log-odds."""
    return 1 / (1 + math.exp(-odds)) if odds >= 0 else math.exp(odds) / (1 + math.exp(odds))
