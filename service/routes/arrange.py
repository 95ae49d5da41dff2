"""POST /v1/arrange: documents in the order in which a model should be shown them, without an answer."""

from __future__ import annotations

import asyncio

from fastapi import APIRouter, Request

from fairpos import Request as Question
from fairpos.passages import as_segments

from .. import documents
from ..answering import answer
from ..asking import CHAT, Ask, count_methods
from ..bodies import read_body
from ..outcome import done
from ..replies import ERRORS, body_of, new_id
from ..schemas.judge import ArrangeReply, ArrangeRequest
from ..schemas.options import Options
from ..state import asked_by, client_of, state_of

router = APIRouter(tags=["arrange"], responses=ERRORS)


@router.post("/v1/arrange", openapi_extra=body_of("ArrangeRequest"))
async def arrange(request: Request) -> ArrangeReply:
    """Puts documents in order with the methods that act on the order; nothing is generated.

    The reply's `orders` has every view that the methods want; `documents` and `order` are the first.
    """
    state = state_of(request)
    body = await read_body(request, ArrangeRequest, state.settings)
    found = await asyncio.to_thread(documents.read_documents, body.documents)
    target, name = state.target(body.model)
    ask = Ask.of(
        Question("answer", body.query, as_segments([document.segment for document in found])),
        body.fairpos or Options(),
        state.settings,
        default=state.settings.methods,
        template=CHAT,
        arrange_only=True,
    )
    count_methods(state.metrics, ask)
    ask, finished = await answer(asked_by(request, target, name), ask, client_of(request))
    orders = [view.order for view in finished.outputs[0].views]
    places = {document.segment.id: i for i, document in enumerate(found)}
    indices = [places[id] for id in orders[0]]
    return ArrangeReply(
        id=new_id("arrange"),
        model=name,
        documents=[found[i].original for i in indices],
        order=list(orders[0]),
        indices=indices,
        fairpos=done(ask, finished.outputs),
    )
