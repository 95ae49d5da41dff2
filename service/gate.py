"""Around every request: its id, its key, its log line and its metrics. Plain ASGI, so that streams pass untouched."""

from __future__ import annotations

import logging
import secrets
import time
from dataclasses import dataclass

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .connection import Gone, ReplyIncomplete
from .errors import ServiceError, as_service_error
from .keys import Keys
from .logs import log, request_id
from .metrics import Metrics
from .prefix import below_prefix
from .quota import Quota

_GONE = 499  # as nginx counts clients that went away
_PROBES = ("/health", "/health/live", "/health/ready", "/ping")
_OPEN = (*_PROBES, "/", "/page.js", "/page.css")


class Gate:
    """Lets requests with a good key through, and counts them all.

    Args:
        app: What is behind it.
        keys: Who may pass. Health probes and the page's own files need none.
        quota: How often each may.
        metrics: Where requests are counted.
    """

    def __init__(self, app: ASGIApp, *, keys: Keys, quota: Quota, metrics: Metrics) -> None:
        self.app = app
        self.keys = keys
        self.quota = quota
        self.metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        passage = _RequestPassage(
            send, _usable_id(headers.get("x-request-id", "")) or f"req-{secrets.token_hex(12)}", time.perf_counter()
        )
        scope.setdefault("state", {})["request_id"] = passage.id
        if scope["method"] == "HEAD":  # a GET whose body the server leaves out
            scope = {**scope, "method": "GET"}
        token = request_id.set(passage.id)
        self.metrics.open.inc()
        try:
            await self._pass_through(scope, receive, passage, headers)
        except Gone:
            passage.status = _GONE
        except ReplyIncomplete:
            passage.broken = True
        except Exception as error:
            log.error("request failed", exc_info=error)
            await self._tell_error(as_service_error(error), scope, receive, passage)
        finally:
            self.metrics.open.dec()
            self._note_request(scope, passage)
            request_id.reset(token)

    async def _pass_through(self, scope: Scope, receive: Receive, passage: _RequestPassage, headers: Headers) -> None:
        try:
            client = self.keys.client_of(headers, scope["client"])
            scope["state"]["client"] = client
            if below_prefix(scope["path"], scope) not in _OPEN:
                self.keys.check(client)
                await self.quota.check(client.name)
        except ServiceError as error:
            await self._tell_error(error, scope, receive, passage)
            return
        await self.app(scope, receive, passage.answer)

    async def _tell_error(self, error: ServiceError, scope: Scope, receive: Receive, passage: _RequestPassage) -> None:
        """Sends an error; where a reply has begun, its connection is closed without an end."""
        if passage.status:
            passage.broken = True
            return
        await JSONResponse(error.body, error.status, error.headers)(scope, receive, passage.answer)

    def _note_request(self, scope: Scope, passage: _RequestPassage) -> None:
        """The request's metrics and its log line."""
        seconds = time.perf_counter() - passage.started
        # The template of the route, not the path that the client wrote: labels stay few.
        route = getattr(scope.get("route"), "path", "unmatched")
        self.metrics.requests.labels(route, str(passage.status)).inc()
        self.metrics.seconds.labels(route).observe(seconds)
        self.metrics.first_byte.labels(route).observe(passage.first_byte_s)
        fields = {
            "method": scope["method"],
            "route": route,
            "status": passage.status,
            "ms": round(1000 * seconds, 1),
            "first_byte_ms": round(1000 * passage.first_byte_s, 1),
            **({"broken": True} if passage.broken else {}),
        }
        log.log(logging.DEBUG if route in _PROBES and passage.status < 500 else logging.INFO, "request", extra=fields)


@dataclass
class _RequestPassage:
    """One request on its way, and what became of it so far."""

    send: Send
    id: str
    started: float
    status: int = 0
    first_byte_s: float = 0.0
    broken: bool = False

    async def answer(self, message: Message) -> None:
        """Sends a message on."""
        if message["type"] == "http.response.start":
            self.status, self.first_byte_s = message["status"], time.perf_counter() - self.started
            MutableHeaders(scope=message).setdefault("x-request-id", self.id)
        await self.send(message)


def _usable_id(id: str) -> str:
    """A client's request id where it can go into a header and a log line."""
    return id if len(id) <= 128 and id.isascii() and id.isprintable() and " " not in id else ""
