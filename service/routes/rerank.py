"""POST /rerank, /v1/rerank, /v2/rerank: one handler for the clients of Cohere, Jina, Voyage, vLLM, Infinity and TEI."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from fastapi import APIRouter, Request

from fairpos import Request as Question
from fairpos.types import Segment

from ..asking import Ask, checked, count, done, on_target, usage
from ..errors import ServiceError
from ..replies import ERRORS, new_id
from ..schemas import Options, RerankDocument, RerankReply, RerankRequest, RerankResult, TeiRank
from ..state import client_of, state_of

router = APIRouter(tags=["rerank"], responses=ERRORS)


@router.post("/rerank", response_model_exclude_none=True)
@router.post("/v1/rerank", response_model_exclude_none=True)
@router.post("/v2/rerank", response_model_exclude_none=True)
async def rerank(request: Request, body: RerankRequest) -> RerankReply | list[TeiRank]:
    """Ranks documents for a query, best first.

    `texts` instead of `documents` gets TEI's reply, a bare array. Documents without text come last.
    """
    state = state_of(request)
    texts = _texts(body)
    if len(texts) > state.settings.max_documents:
        raise ServiceError(
            422, "too_many_documents", f"got {len(texts)} documents; at most {state.settings.max_documents} are allowed"
        )
    segments = tuple(Segment(id=str(i), text=text) for i, text in enumerate(texts) if text.strip())
    if not segments:
        raise ServiceError(422, "invalid_request", "no document has text", param="documents")
    target, name = state.target(body.model)
    ask = Ask.of(
        Question("rank", body.query, segments),
        body.fairpos or Options(),
        state.settings,
        default=state.settings.rerank_methods,
    )
    count(state.metrics, ask)
    ask, found = await on_target(target, name, ask, client_of(request))
    output = checked(state.metrics, "rank", found.outputs)
    ranking = [int(id) for id in output.ranking]
    left = [i for i in range(len(texts)) if i not in set(ranking)]
    what = done(ask, found.outputs)
    if left:
        what.notes.append(f"documents {left} have no text or no rank; they come last")
    raw = {int(id): score for id, score in output.scores.items() if math.isfinite(score)}
    scores = relevance(ranking, left, raw)
    top = body.top_n or body.top_k or len(texts)
    if top < 0:
        raise ServiceError(422, "invalid_request", f"top_n must be at least 0, got {top}", param="top_n")
    order = [*ranking, *left][:top]
    if body.texts is not None:
        shown = raw if body.raw_scores else scores
        return [
            TeiRank(index=i, score=shown.get(i, scores[i]), text=texts[i] if body.return_text else None) for i in order
        ]
    tokens = usage(found.outputs)
    return RerankReply(
        id=new_id("rerank"),
        model=name,
        results=[
            RerankResult(
                index=i,
                relevance_score=scores[i],
                raw_score=raw.get(i),
                document={"text": texts[i]} if body.return_documents else None,
            )
            for i in order
        ],
        usage=tokens,
        meta={
            "api_version": {"version": "2"},
            "billed_units": {"search_units": 1},
            "tokens": {"input_tokens": tokens.prompt_tokens, "output_tokens": tokens.completion_tokens},
        },
        fairpos=what,
    )


def relevance(ranking: Sequence[int], left: Sequence[int], raw: Mapping[int, float]) -> dict[int, float]:
    """Scores in [0, 1] that strictly decrease along the ranking, because clients rebuild the order from them.

    The share of each in the softmax of the raw scores, mixed with as much of an even descent (at most 1/1000) as keeps
    neighbours apart even in single precision. Without raw scores: the even descent alone.

    Args:
        ranking: Best first.
        left: What was not ranked; comes last.
        raw: The ranker's own scores.
    """
    order = [*ranking, *left]
    n = len(order)
    descent = [(n - place) / (n + 1) for place in range(n)]
    if not all(i in raw for i in ranking) or not ranking:
        return dict(zip(order, descent, strict=True))
    top = max(raw[i] for i in ranking)
    weights = [math.exp(raw[i] - top) for i in ranking]
    total = math.fsum(weights)
    shares, ceiling = [], 1.0
    for weight in weights:  # an aggregate may rank against its scores; the order is what counts
        ceiling = min(ceiling, weight / total)
        shares.append(ceiling)
    shares += [0.0] * len(left)
    mix = 1e-3
    return {i: (1 - mix) * share + mix * step for i, share, step in zip(order, shares, descent, strict=True)}


def _texts(body: RerankRequest) -> list[str]:
    if body.texts is not None and body.documents is not None:
        raise ServiceError(422, "invalid_request", "got both documents and texts; one of them is enough", param="texts")
    if body.texts is not None:
        return list(body.texts)
    if body.documents is None:
        raise ServiceError(422, "invalid_request", "there are no documents (or texts)", param="documents")
    return [item.body() if isinstance(item, RerankDocument) else item for item in body.documents]
