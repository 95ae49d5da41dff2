"""POST /v1/arrange: documents in the order in which a model should be shown them, without an answer."""

from __future__ import annotations

from fastapi import APIRouter, Request

from fairpos import Request as Question
from fairpos.types import as_segments

from .. import documents
from ..asking import CHAT, Ask, count, done, on_target
from ..errors import ServiceError
from ..replies import ERRORS, new_id
from ..schemas import ArrangeReply, ArrangeRequest, Options
from ..state import client_of, state_of

router = APIRouter(tags=["arrange"], responses=ERRORS)


@router.post("/v1/arrange")
async def arrange(request: Request, body: ArrangeRequest) -> ArrangeReply:
    """Puts documents in order with the methods that act on the order; nothing is generated.

    The reply's `orders` has every view that the methods want; `documents` and `order` are the first.
    """
    state = state_of(request)
    if len(body.documents) > state.settings.max_documents:
        raise ServiceError(
            422,
            "too_many_documents",
            f"got {len(body.documents)} documents; at most {state.settings.max_documents} are allowed",
        )
    found = documents.read(body.documents)
    target, name = state.target(body.model)
    ask = Ask.of(
        Question("answer", body.query, as_segments([document.segment for document in found])),
        body.fairpos or Options(),
        state.settings,
        default=state.settings.methods,
        template=CHAT,
        arrange_only=True,
    )
    count(state.metrics, ask)
    ask, finished = await on_target(target, name, ask, client_of(request))
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
