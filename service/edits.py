"""Replies of an upstream that are changed on their way: a JSON object, or events of a stream. What isn't changed keeps
its bytes.
"""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Callable

# From an object to what it becomes; the same object: nothing is to be changed.
Edit = Callable[[dict[str, object]], dict[str, object]]

_EVENT = re.compile(rb"^data: ?(\{.*\})\r?\n\r?\n", re.MULTILINE)
_END = re.compile(rb"\r?\n\r?\n")
_LONGEST_EVENT = 2**20


async def json_edited(chunks: AsyncIterator[bytes], edit: Edit) -> AsyncIterator[bytes]:
    """A JSON object changed; anything else as it is."""
    body = b"".join([chunk async for chunk in chunks])
    yield _edited_json(body, edit)


async def events_edited(chunks: AsyncIterator[bytes], edit: Edit, *, every: bool) -> AsyncIterator[bytes]:
    """The first event of a stream changed, or every one; each goes on as soon as it is whole.

    Behind the last event that is to be changed, and behind one that is too long to be one, nothing is held back.
    """
    held = b""
    looking = True
    async for chunk in chunks:
        if not looking:
            yield chunk
            continue
        held += chunk
        while looking and (end := _END.search(held)) is not None:
            whole, held = held[: end.end()], held[end.end() :]
            found = _EVENT.search(whole)
            if found is not None:
                whole = whole[: found.start(1)] + _edited_json(found[1], edit) + whole[found.end(1) :]
                looking = every
            yield whole
        looking = looking and len(held) <= _LONGEST_EVENT
        if held and not looking:
            yield held
            held = b""
    if held:
        yield held


def _edited_json(body: bytes, edit: Edit) -> bytes:
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        return body
    if not isinstance(value, dict):
        return body
    edited = edit(value)
    return body if edited is value else json.dumps(edited).encode()
