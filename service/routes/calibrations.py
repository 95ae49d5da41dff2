"""What the slots of a list are worth to a model: GET and POST /v1/calibrations, for administrators."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict

from fastapi import APIRouter, Request

from fairpos.backends.base import Backend
from fairpos.calibration.profile import Profile
from fairpos.calibration.profile_store import shared
from fairpos.calibration.samples import samples_of
from fairpos.files.records import Lines

from ..asking import CHAT
from ..bodies import read_body
from ..engine import Engine
from ..errors import ServiceError
from ..replies import ERRORS, body_of, read_as
from ..schemas.calibrations import Calibration, CalibrationList, CalibrationRequest
from ..state import asked_by, check_admin, client_of, state_of

router = APIRouter(tags=["calibrations"], responses=ERRORS)
_threads = ThreadPoolExecutor(2, thread_name_prefix="fairpos-calibration")  # each waits for an endpoint for minutes


@router.get("/v1/calibrations")
async def calibrations(request: Request) -> CalibrationList:
    """The profiles in the shared directory, the newest first."""
    check_admin(request)
    return CalibrationList(data=[_card_of(profile) for profile in await asyncio.to_thread(shared)])


@router.post("/v1/calibrations", openapi_extra=body_of("CalibrationRequest"))
async def calibrate(request: Request) -> Calibration:
    """Measures a profile for chat with so many documents, and stores it where requests will find it.

    Takes minutes on a small model, which answers nobody else meanwhile.
    """
    check_admin(request)
    state = state_of(request)
    body = await read_body(request, CalibrationRequest, state.settings)
    if len(body.records) * body.count > 10 * state.settings.max_documents:
        raise ServiceError(
            422, "too_many_documents", f"got {len(body.records)} records; that is more than is calibrated here at once"
        )
    target, name = state.target(body.model)
    samples = samples_of(Lines(records=list(enumerate(body.records, 1))), body.count)

    def measure(backend: Backend) -> Profile:
        # Only here: they take statistics along, whose import would double the time in which a service starts, and would
        # hold up the event loop.
        from fairpos.calibration.attention import attention_profile
        from fairpos.calibration.black_box import black_box_profile

        if body.signal == "attention":
            found = attention_profile(
                backend, samples, template=CHAT, layers=body.layers, probes=body.probes, seed=body.seed
            )
        else:
            found = black_box_profile(backend, samples[: body.probes], signal=body.signal, template=CHAT)
        found.save()
        return found

    asked = asked_by(request, target, name)
    if isinstance(asked, Engine):
        return _card_of(await asked.run_alone(lambda: measure(asked.backend), client_of(request)))
    await asked.find_capabilities()
    try:
        return _card_of(await asyncio.get_running_loop().run_in_executor(_threads, measure, asked))
    finally:
        asked.give_up()


def _card_of(profile: Profile) -> Calibration:
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
