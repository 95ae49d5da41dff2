"""Request bodies: read whole, unpacked, parsed and checked against a schema, within limits that are looked at first.

A body may come without a content type, because many clients' do. What takes longer than a few milliseconds runs in a
thread, and what would hold the interpreter for longer than that is refused: a parser can't be interrupted.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from pydantic import BaseModel
from starlette.requests import Request

from .encoding import unpacked
from .errors import ServiceError
from .replies import read_as
from .settings import Settings

M = TypeVar("M", bound=BaseModel)
T = TypeVar("T")

_AT_ONCE = 2**16  # bytes that are read within the event loop
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")
_LISTS = ("documents", "texts", "answers", "text_1", "text_2")


async def read_content(request: Request, settings: Settings) -> bytes:
    """The body's bytes, unpacked.

    Raises:
        ServiceError: 413, 415 or 400; see `unpacked`.
    """
    content = await request.body()
    encoding = request.headers.get("content-encoding", "").strip().lower()
    if not encoding:
        return content
    return await beside(len(content), lambda: unpacked(content, encoding, settings.max_body_bytes))


async def read_object(content: bytes, settings: Settings) -> dict[str, Any]:
    """The body as a JSON object.

    Raises:
        ServiceError: 400 it is none; 422 it holds more values than are allowed, or half of a surrogate pair.
    """
    return await beside(len(content), lambda: parse_object(content, settings.max_values))


async def read_body(request: Request, model: type[M], settings: Settings) -> M:
    """The body as its schema says.

    Raises:
        ServiceError: see `read_content` and `read_object`; 422 it doesn't fit, or a list is too long.
    """
    content = await read_content(request, settings)
    body = await read_object(content, settings)
    check_lists(body, settings)
    return await beside(len(content), lambda: read_as(model, body))


async def beside(size: int, function: Callable[[], T]) -> T:
    """Runs a function; in a thread where there is much to do, so that the event loop goes on."""
    return function() if size <= _AT_ONCE else await asyncio.to_thread(function)


def parse_object(content: bytes, max_values: int) -> dict[str, Any]:
    """JSON in bytes as an object; see `read_object`."""
    if content.count(b",") > max_values:
        raise ServiceError(422, "too_many_values", f"the body has more than {max_values} commas, as many as are read")
    try:
        value = json.loads(content, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise ServiceError(400, "invalid_json", f"the body is not JSON: {error}") from None
    if not isinstance(value, dict):
        raise ServiceError(400, "invalid_json", f"the body must be a JSON object, got {type(value).__name__}")
    if _SURROGATE.search(content):
        try:
            json.dumps(value, ensure_ascii=False).encode()
        except UnicodeEncodeError:
            raise ServiceError(
                422, "invalid_request", "the body has a lone surrogate; it must be valid Unicode"
            ) from None
    return value


def check_lists(body: Mapping[str, Any], settings: Settings) -> None:
    """Refuses lists that are too long, before their items are looked at.

    Raises:
        ServiceError: 422.
    """
    for name in _LISTS:
        found = body.get(name)
        if isinstance(found, list) and len(found) > settings.max_documents:
            raise ServiceError(
                422,
                "too_many_documents",
                f"got {len(found)} {name}; at most {settings.max_documents} are allowed",
                param=name,
            )


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is no JSON number")
