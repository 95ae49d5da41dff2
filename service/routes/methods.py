"""What there is against position bias: GET /v1/methods, from the registry."""

from __future__ import annotations

import inspect
import json
from typing import Any

from fastapi import APIRouter

from fairpos.methods.catalogue import all_methods, described

from ..replies import ERRORS
from ..schemas.listings import MethodCard, MethodList

router = APIRouter(tags=["methods"], responses=ERRORS)


@router.get("/v1/methods")
async def methods() -> MethodList:
    """Every method: where it acts, for which tasks, what it needs, costs, and when it hurts."""
    cards = []
    for cls in all_methods().values():
        fields: Any = json.loads(json.dumps(described(cls), default=str))
        cards.append(MethodCard(**fields, description=inspect.cleandoc(cls.__doc__ or "")))
    return MethodList(data=cards)
