"""Which models answer here: GET /v1/models."""

from __future__ import annotations

from fastapi import APIRouter, Request

from ..errors import ServiceError
from ..replies import ERRORS
from ..schemas.listings import ModelCard, ModelList
from ..state import state_of

router = APIRouter(tags=["models"], responses=ERRORS)


@router.get("/v1/models")
async def models(request: Request) -> ModelList:
    """The local models, then the upstream's. An upstream that fails doesn't hide the local ones."""
    state = state_of(request)
    cards = [
        ModelCard(
            id=name,
            created=state.started,
            owned_by="fairpos",
            capabilities=sorted(state.engines[name].backend.capabilities) if name in state.engines else [],
        )
        for name in state.loads
    ]
    if state.upstream is not None:
        try:
            found = await state.upstream.models()
        except ServiceError:
            if not cards:
                raise
            found = []
        for model in found:
            created = model.get("created")
            cards.append(
                ModelCard(
                    id=str(model["id"]),
                    created=created if isinstance(created, int) else 0,
                    owned_by=str(model.get("owned_by", "upstream")),
                    capabilities=["generate"],
                )
            )
    return ModelList(data=cards)
