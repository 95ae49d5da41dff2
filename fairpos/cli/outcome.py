"""Why nothing came of a record."""

from __future__ import annotations

from fairpos.files.records import Json


def reason(status: Json, calls: Json) -> str:
    """A record's status and, in brackets, what the first of its failed calls says."""
    assert isinstance(calls, list)
    details = [str(call["detail"]) for call in calls if isinstance(call, dict) and call.get("detail")]
    return f"{status} ({details[0]})" if details else str(status)
