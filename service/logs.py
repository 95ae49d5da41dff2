"""Structured logs: one JSON object a line on the error stream, with the request's id. No texts, no keys, no bodies."""

from __future__ import annotations

import json
import logging
import sys
import time
from contextvars import ContextVar

request_id: ContextVar[str] = ContextVar("fairpos_request_id", default="")

log = logging.getLogger("fairpos.service")
_PLAIN = set(vars(logging.makeLogRecord({}))) | {"message", "asctime", "color_message"}


class JsonLines(logging.Formatter):
    """A record and the fields given as `extra`."""

    def format(self, record: logging.LogRecord) -> str:
        """One line."""
        fields: dict[str, object] = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        fields |= _extra_fields(record)
        if record.exc_info:
            fields["exception"] = self.formatException(record.exc_info)
        return json.dumps(fields, default=str, ensure_ascii=False).encode(errors="replace").decode()


class TextLines(logging.Formatter):
    """The same for people: the message, then each field as name=value."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s: %(message)s")

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802  # logging's name
        """The line, without an exception."""
        fields = "".join(f" {name}={value}" for name, value in _extra_fields(record).items())
        return super().formatMessage(record) + fields


def _extra_fields(record: logging.LogRecord) -> dict[str, object]:
    """The request's id, and what was given as `extra`."""
    own = {"request_id": request_id.get()} if request_id.get() else {}
    return own | {name: value for name, value in vars(record).items() if name not in _PLAIN}


def configure(level: str, form: str) -> None:
    """Sets up the service's and uvicorn's loggers."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines() if form == "json" else TextLines())
    for name in ("fairpos", "uvicorn", "uvicorn.error"):
        logger = logging.getLogger(name)
        logger.handlers = [handler] if name != "uvicorn.error" else []
        logger.setLevel(level.upper())
        logger.propagate = name == "uvicorn.error"
    logging.getLogger("uvicorn.access").disabled = True  # the service writes its own, with ids
