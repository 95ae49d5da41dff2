"""What the slots of a list are worth to a model: GET and POST /v1/calibrations."""

from __future__ import annotations

import asyncio
from dataclasses import asdict

from fastapi import APIRouter, Request

from fairpos.backends.base import Backend
from fairpos.calibration.attention import attention_profile
from fairpos.calibration.black_box import black_box_profile
from fairpos.calibration.profile import Profile
from fairpos.calibration.profile_store import shared
from fairpos.calibration.samples import samples_of
from fairpos.files.records import Lines

from ..asking import CHAT
from ..engine import Engine
from ..errors import ServiceError
from ..replies import ERRORS, read_as
from ..schemas import Calibration, CalibrationList, CalibrationRequest
from ..state import client_of, state_of

router = APIRouter(tags=["calibrations"], responses=ERRORS)


@router.get("/v1/calibrations")
async def calibrations() -> CalibrationList:
    """The profiles in the shared directory, the newest first."""
    return CalibrationList(data=[_shown(profile) for profile in await asyncio.to_thread(shared)])


@router.post("/v1/calibrations")
async def calibrate(request: Request, body: CalibrationRequest) -> Calibration:
    """Measures a profile for chat with so many documents, and stores it where requests will find it.

    Takes minutes on a small model, which answers nobody else meanwhile.
    """
    state = state_of(request)
    if len(body.records) * body.count > 10 * state.settings.max_documents:
        raise ServiceError(
            422, "too_many_documents", f"got {len(body.records)} records; that is more than is calibrated here at once"
        )
    target, name = state.target(body.model)
    samples = samples_of(Lines(records=list(enumerate(body.records, 1))), body.count)

    def measure(backend: Backend) -> Profile:
        if body.signal == "attention":
            found = attention_profile(
                backend, samples, template=CHAT, layers=body.layers, probes=body.probes, seed=body.seed
            )
        else:
            found = black_box_profile(backend, samples[: body.probes], signal=body.signal, template=CHAT)
        found.save()
        return found

    if isinstance(target, Engine):
        engine = target
        return _shown(await engine.alone(lambda: measure(engine.backend), client_of(request)))
    return _shown(await asyncio.to_thread(measure, target.model(name)))


def _shown(profile: Profile) -> Calibration:
    setting = profile.setting
    return read_as(
        Calibration,
        {
            "id": profile.file_name,
            "model": setting.model,
            "task": setting.task,
            "count": setting.count,
            "signal": profile.signal,
            "rule": profile.rule,
            "samples": profile.samples,
            "made": profile.made,
            "template": setting.template,
            "slots": [asdict(slot) for slot in profile.slots],
        },
    )
