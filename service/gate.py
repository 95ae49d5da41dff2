"""Around every request: its id, its key, its log line and its metrics. Plain ASGI, so that streams pass untouched."""

from __future__ import annotations

import hmac
import secrets
import time
from collections.abc import Sequence

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .connection import Gone
from .errors import ServiceError
from .logs import log, request_id
from .metrics import Metrics

_GONE = 499  # as nginx counts clients that went away
_OPEN = ("/health/live", "/health/ready", "/", "/page.js", "/page.css")


class Gate:
    """Lets requests with a good key through, and counts them all.

    Args:
        app: What is behind it.
        keys: Empty: everybody may pass. Health probes and the page's own files need none.
        metrics: Where requests are counted.
    """

    def __init__(self, app: ASGIApp, *, keys: Sequence[str], metrics: Metrics) -> None:
        self.app = app
        self.metrics = metrics
        self._keys = [key.encode() for key in keys]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        id = _clean(headers.get("x-request-id", "")) or f"req-{secrets.token_hex(12)}"
        scope.setdefault("state", {})["request_id"] = id
        token = request_id.set(id)
        started = time.perf_counter()
        status, first = 0, 0.0

        async def answer(message: Message) -> None:
            nonlocal status, first
            if message["type"] == "http.response.start":
                status, first = message["status"], time.perf_counter() - started
                MutableHeaders(scope=message).setdefault("x-request-id", id)
            await send(message)

        self.metrics.open.inc()
        try:
            if scope["path"] in _OPEN or self.passes(headers):
                await self.app(scope, receive, answer)
            else:
                error = ServiceError(
                    401,
                    "invalid_api_key",
                    "this service wants `Authorization: Bearer KEY` with one of its keys",
                    headers={"www-authenticate": "Bearer"},
                )
                await JSONResponse(error.body, 401, error.headers)(scope, receive, answer)
        except Gone:
            status = _GONE
        finally:
            self.metrics.open.dec()
            seconds = time.perf_counter() - started
            # The template of the route, not the path that the client wrote: labels stay few.
            route = getattr(scope.get("route"), "path", "unmatched")
            self.metrics.requests.labels(route, str(status)).inc()
            self.metrics.seconds.labels(route).observe(seconds)
            self.metrics.first_byte.labels(route).observe(first)
            log.info(
                "request",
                extra={
                    "method": scope["method"],
                    "route": route,
                    "status": status,
                    "ms": round(1000 * seconds, 1),
                    "first_byte_ms": round(1000 * first, 1),
                },
            )
            request_id.reset(token)

    def passes(self, headers: Headers) -> bool:
        """Whether the key is one of ours; compares with all of them, in constant time."""
        if not self._keys:
            return True
        scheme, _, given = headers.get("authorization", "").partition(" ")
        key = given.strip() if scheme.lower() == "bearer" else headers.get("x-api-key") or headers.get("api-key") or ""
        found = False
        for own in self._keys:
            found |= hmac.compare_digest(own, key.encode())
        return found


def _clean(id: str) -> str:
    """A client's request id where it can go into a header and a log line."""
    return id if len(id) <= 128 and id.isascii() and id.isprintable() and " " not in id else ""
