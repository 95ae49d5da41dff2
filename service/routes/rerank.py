"""POST /rerank, /v1/rerank, /v2/rerank: one handler for the clients of Cohere, Jina, Voyage, vLLM, Infinity and TEI."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

from fastapi import APIRouter, Request

from fairpos import Request as Question
from fairpos.outputs import descending_scores
from fairpos.types import Segment

from ..answering import answer
from ..asking import Ask, count_methods
from ..bodies import read_body
from ..engine import Engine
from ..errors import ServiceError
from ..outcome import done, usable_output, usage
from ..replies import ERRORS, body_of, new_id
from ..rerank_texts import Texts, read_texts, shorten
from ..schemas.base import Usage
from ..schemas.options import Done, Options
from ..schemas.rerank import RerankReply, RerankRequest, RerankResult, TeiRank, VoyageResult
from ..state import State, asked_by, client_of, spend_tokens, state_of
from ..upstream import Upstream

router = APIRouter(tags=["rerank"], responses=ERRORS)


@router.post("/rerank", response_model_exclude_none=True, openapi_extra=body_of("RerankRequest"))
@router.post("/v1/rerank", response_model_exclude_none=True, openapi_extra=body_of("RerankRequest"))
@router.post("/v2/rerank", response_model_exclude_none=True, openapi_extra=body_of("RerankRequest"))
async def rerank(request: Request) -> RerankReply | list[TeiRank]:
    """Ranks documents for a query, best first.

    `texts` instead of `documents` gets TEI's reply, a bare array. Documents without text come last.
    """
    state = state_of(request)
    body = await read_body(request, RerankRequest, state.settings)
    _check_options(body)
    target, name = state.target(body.model)
    texts = await asyncio.to_thread(_texts_for, target, body, state)
    ask = _ask_of(texts, body, state)
    count_methods(state.metrics, ask)
    ask, found = await answer(asked_by(request, target, name), ask, client_of(request))
    output = usable_output(state.metrics, "rank", found.outputs)
    tokens = usage(found.outputs)
    await spend_tokens(request, tokens.total_tokens)
    ranking = [int(id) for id in output.ranking]
    ranked = set(ranking)
    left = [i for i in range(len(texts.texts)) if i not in ranked]
    raw = {int(id): score for id, score in output.scores.items() if math.isfinite(score)}
    scores = descending_scores(ranking, left, raw)
    order = [*ranking, *left][: body.top_n or body.top_k or None]
    if body.texts is not None:
        given = raw if body.raw_scores else scores
        shown = body.texts if body.return_text else None
        return [TeiRank(index=i, score=given.get(i, scores[i]), text=shown[i] if shown else None) for i in order]
    what = done(ask, found.outputs)
    if left:
        what.notes.append(f"documents {left} have no text or no rank; they come last")
    return _reply_of(name, body, texts.originals, order, scores, raw, tokens, what)


def _texts_for(target: Engine | Upstream, body: RerankRequest, state: State) -> Texts:
    """What is to be ranked, within the limits, and cut off where the client asked for it."""
    texts = read_texts(body)
    most = state.settings.max_documents
    if len(texts) > most:
        raise ServiceError(422, "too_many_documents", f"got {len(texts)} documents; at most {most} are allowed")
    if not any(text.strip() for text in texts):
        raise ServiceError(422, "invalid_request", "no document has text", param="documents")
    if not isinstance(target, Engine):
        return shorten(texts, body, None, 0)
    most_tokens = min(state.settings.max_prompt_tokens, target.backend.context)
    return shorten(texts, body, getattr(target.backend, "tokenizer", None), most_tokens)


def _ask_of(texts: Texts, body: RerankRequest, state: State) -> Ask:
    segments = tuple(Segment(id=str(i), text=text) for i, text in enumerate(texts.texts) if text.strip())
    ask = Ask.of(
        Question("rank", body.query, segments),
        body.fairpos or Options(),
        state.settings,
        default=state.settings.rerank_methods,
    )
    return replace(ask, notes=(*ask.notes, *texts.notes))


def _check_options(body: RerankRequest) -> None:
    """Refuses what can't be honoured.

    Raises:
        ServiceError: 422.
    """
    for name, value in (("top_n", body.top_n), ("top_k", body.top_k)):
        if value is not None and value < 0:
            raise ServiceError(422, "invalid_request", f"{name} must be at least 0, got {value}", param=name)
    if body.max_chunks_per_doc not in (None, 0, 1):
        raise ServiceError(
            422,
            "unsupported_parameter",
            f"a document is ranked in one piece; got max_chunks_per_doc {body.max_chunks_per_doc}",
            param="max_chunks_per_doc",
        )


def _reply_of(
    model: str,
    body: RerankRequest,
    texts: Sequence[str],
    order: Sequence[int],
    scores: Mapping[int, float],
    raw: Mapping[int, float],
    tokens: Usage,
    what: Done,
) -> RerankReply:
    shown = {i: texts[i] if body.return_documents else None for i in order}
    results = [
        RerankResult(
            index=i,
            relevance_score=scores[i],
            raw_score=raw.get(i),
            document=None if (text := shown[i]) is None else {"text": text},
        )
        for i in order
    ]
    # Voyage's client reads `data`; the names that only it sends tell it from the others.
    is_voyage = body.truncation is not None or body.top_k is not None
    data = [VoyageResult(index=i, relevance_score=scores[i], document=shown[i]) for i in order]
    return RerankReply(
        id=new_id("rerank"),
        model=model,
        results=results,
        data=data if is_voyage else None,
        usage=tokens,
        meta={
            "api_version": {"version": "2"},
            "billed_units": {"search_units": 1},
            "tokens": {"input_tokens": tokens.prompt_tokens, "output_tokens": tokens.completion_tokens},
        },
        fairpos=what,
    )
