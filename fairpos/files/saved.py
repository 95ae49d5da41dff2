"""What was measured once, in a file of one JSON object that says its format: written whole, read with its faults."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from fairpos.errors import InvalidRequest, NotCalibrated


def write_saved(path: Path, text: str) -> Path:
    """Writes it, whole or not at all. Returns the file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.write_text(text, encoding="utf-8")
    draft.replace(path)
    return path


def read_saved(path: Path, form: object, called: str, *, missing: str, other: str) -> dict[str, Any]:
    """The object in a file.

    Args:
        path: The file.
        form: What its "format" must be.
        called: What it is, for messages.
        missing: What is said where there is no such file.
        other: What is said of a file with something else, behind its path.

    Raises:
        NotCalibrated: there is no such file.
        InvalidRequest: it can't be read, or holds something else.
    """
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise NotCalibrated(missing) from None
    except (OSError, ValueError) as error:
        raise InvalidRequest(f"can't read the {called} {path}: {error}") from None
    if not isinstance(record, dict) or record.get("format") != form:
        raise InvalidRequest(f"{path} {other} (its format must be {form!r})")
    return record
