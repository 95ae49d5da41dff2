"""GET /v1/calibrations: the stored profiles."""

from __future__ import annotations

from fastapi import APIRouter

from ..replies import ERRORS

router = APIRouter(tags=["calibrations"], responses=ERRORS)
