"""The page at `/`: three static files, no build step, nothing from elsewhere."""

from __future__ import annotations

from importlib.resources import files

from fastapi import APIRouter, Response

router = APIRouter(include_in_schema=False)

_POLICY = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:"


_FOLDER = files(__package__.rpartition(".")[0]).joinpath("static")
# Read once: a request must not wait for a disk, and nothing of a running service changes.
_CONTENTS = {name: _FOLDER.joinpath(name).read_bytes() for name in ("page.html", "page.js", "page.css")}


def _static_file(name: str, kind: str) -> Response:
    headers = {"content-security-policy": _POLICY, "cache-control": "no-cache"}
    return Response(_CONTENTS[name], media_type=kind, headers=headers)


@router.get("/")
async def page() -> Response:
    """The page."""
    return _static_file("page.html", "text/html; charset=utf-8")


@router.get("/page.js")
async def script() -> Response:
    """Its script."""
    return _static_file("page.js", "text/javascript; charset=utf-8")


@router.get("/page.css")
async def style() -> Response:
    """Its style."""
    return _static_file("page.css", "text/css; charset=utf-8")
