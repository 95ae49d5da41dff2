"""The upstream: an OpenAI-compatible server that requests are passed to as they are.

What goes up: the body, and every header but those of the connection. What comes down: status, headers and bytes, each
chunk at once. When the client goes away, the upstream's connection is closed and its generation ends.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Callable
from functools import lru_cache

import httpx2
from starlette.requests import Request

from fairpos.backends.openai import OpenAIBackend
from fairpos.backends.openai_client import OpenAIClient

from .connection import Broken, Relay
from .errors import ServiceError
from .logs import log
from .metrics import Metrics
from .settings import Settings

# Of one connection, not of the message (RFC 9110, 7.6.1), and what the client library writes itself.
_HOP = frozenset(
    {
        b"connection",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    }
)
_OURS = frozenset({b"host", b"content-length", b"expect"})
_SERVERS = frozenset({b"date", b"server"})  # written by our own server

_EVENT = re.compile(rb"^data: ?(\{.*\})\r?\n\r?\n", re.MULTILINE)
_LONGEST_HEAD = 65536
_POOLS = 16

Edit = Callable[[dict[str, object]], dict[str, object]]


class Upstream:
    """One upstream and the connections to it.

    Args:
        settings: Its address, key and limits.
        metrics: Where failures are counted.
    """

    def __init__(self, settings: Settings, metrics: Metrics) -> None:
        assert settings.upstream is not None
        self.url = settings.upstream
        self._key = settings.upstream_key.get_secret_value() if settings.upstream_key else ""
        self._own_keys = bool(settings.api_keys)
        self._metrics = metrics
        timeout = httpx2.Timeout(settings.upstream_timeout_s, connect=settings.upstream_connect_s)
        self._extensions = {"timeout": timeout.as_dict()}
        # A pool looks at all its idle connections for every request: several small ones are faster than a large one.
        # No client around them: redirects, cookies and retries are the client's business, not a proxy's.
        secure = httpx2.create_ssl_context() if self.url.startswith("https:") else False  # made once: it takes 0.1 s
        each = -(-settings.upstream_connections // _POOLS)
        self._pools = [
            httpx2.AsyncHTTPTransport(
                verify=secure,
                limits=httpx2.Limits(
                    max_connections=each,
                    max_keepalive_connections=each,
                    keepalive_expiry=4.0,  # servers close idle connections after 5 s: be first, or a request is lost
                ),
            )
            for _ in range(_POOLS)
        ]
        self._busy = [0] * _POOLS
        self._calls = OpenAIClient(
            self.url,
            api_key=self._key,
            timeout_s=settings.upstream_timeout_s,
            attempts=3,
        )
        self.model = lru_cache(maxsize=256)(self._model)

    def _model(self, model: str) -> OpenAIBackend:
        """The upstream's model as the library asks it, for methods that make several calls."""
        return OpenAIBackend(self._calls, model or "default")

    async def close(self) -> None:
        """Closes its connections."""
        for pool in self._pools:
            await pool.aclose()
        await asyncio.to_thread(self._calls.close)

    async def relay(
        self,
        request: Request,
        path: str,
        content: bytes,
        *,
        edit: Edit | None = None,
        headers: dict[str, str] | None = None,
    ) -> Relay:
        """Passes a request up, and its reply down.

        Args:
            request: For its method and headers.
            path: Below the base URL: "/chat/completions".
            content: The body.
            edit: Changes a JSON reply, or the first event of a stream; None: nothing is looked at.
            headers: More headers for the reply.

        Raises:
            ServiceError: 502 it can't be reached or answers nonsense; 504 it is silent.
        """
        response = await self._open(request.method, path, content, self._headers(request, plain=edit is not None))
        streams = response.headers.get("content-type", "").startswith("text/event-stream")
        raw = [
            (name.lower(), value)
            for name, value in response.headers.raw
            if name.lower() not in _HOP | _SERVERS and not (edit is not None and name.lower() == b"content-length")
        ]
        chunks = self._chunks(response, streams)
        if edit is not None and response.status_code < 400:
            chunks = _first_event_edited(chunks, edit) if streams else _json_edited(chunks, edit)
        return Relay(chunks, response.status_code, raw_headers=raw, headers=headers)

    async def models(self) -> list[dict[str, object]]:
        """The upstream's own list of models.

        Raises:
            ServiceError: it can't be reached, or answers nonsense.
        """
        headers = [(b"authorization", f"Bearer {self._key}".encode())] if self._key else []
        response = await self._open("GET", "/models", b"", headers)
        try:
            found = json.loads(await response.aread())["data"]
            return [model for model in found if isinstance(model, dict) and isinstance(model.get("id"), str)]
        except (ValueError, KeyError, TypeError, httpx2.TransportError):
            raise self._error("garbage", "the upstream's list of models can't be read") from None
        finally:
            await self._done(response)

    async def _open(
        self, method: str, path: str, content: bytes, headers: list[tuple[bytes, bytes]]
    ) -> httpx2.Response:
        request = httpx2.Request(
            method, self.url + path, content=content, headers=headers, extensions=dict(self._extensions)
        )
        pool = min(range(_POOLS), key=self._busy.__getitem__)
        self._busy[pool] += 1
        try:
            response = await self._pools[pool].handle_async_request(request)
            response.request = request
            response.extensions["pool"] = pool
            return response
        except BaseException as error:
            self._busy[pool] -= 1
            raise self._opening(error) from None

    def _opening(self, error: BaseException) -> BaseException:
        """What went wrong before there were headers."""
        if isinstance(error, httpx2.ConnectTimeout):
            return self._error("connect_timeout", "the upstream can't be reached in time", 504)
        if isinstance(error, httpx2.TimeoutException):
            return self._error("timeout", "the upstream did not answer in time", 504)
        if isinstance(error, httpx2.ConnectError):
            return self._error("refused", f"the upstream can't be reached: {error}")
        if isinstance(error, httpx2.TransportError):
            return self._error("broken", f"the upstream broke off: {_words(error)}")
        return error

    async def _done(self, response: httpx2.Response) -> None:
        """Gives the connection back, or closes it if the reply isn't whole."""
        self._busy[response.extensions["pool"]] -= 1
        await response.aclose()

    async def _chunks(self, response: httpx2.Response, streams: bool) -> AsyncIterator[bytes]:
        """The body as it comes. A stream that breaks off ends with an error event; anything else raises Broken."""
        end = b"\n\n"
        try:
            async for chunk in response.aiter_raw():
                end = (end + chunk)[-2:]
                yield chunk
        except httpx2.TransportError as error:
            timeout = isinstance(error, httpx2.TimeoutException)
            told = self._error(
                "stream_timeout" if timeout else "stream_broken",
                "the upstream fell silent in the middle of the reply"
                if timeout
                else f"the upstream broke off in the middle of the reply: {_words(error)}",
                504 if timeout else 502,
            )
            if not streams:
                raise Broken from None
            yield (b"" if end == b"\n\n" else b"\n\n") + b"data: " + json.dumps(told.body).encode() + b"\n\n"
        finally:
            await self._done(response)

    def _headers(self, request: Request, *, plain: bool) -> list[tuple[bytes, bytes]]:
        """The client's headers as they go up; `plain`: the reply must not be compressed, because it is read."""
        left = _HOP | _OURS
        if self._key or self._own_keys:  # a key of ours is none of the upstream's business
            left |= {b"authorization", b"x-api-key", b"api-key"}
        if plain:
            left |= {b"accept-encoding"}
        headers = [(name, value) for name, value in request.headers.raw if name not in left]
        names = {name for name, _ in headers}
        if self._key:
            headers.append((b"authorization", f"Bearer {self._key}".encode()))
        # Explicit, or the HTTP library would add its own: the reply's encoding is the client's choice.
        if b"accept-encoding" not in names:
            headers.append((b"accept-encoding", b"identity"))
        if b"x-request-id" not in names:
            headers.append((b"x-request-id", request.state.request_id.encode()))
        return headers

    def _error(self, kind: str, message: str, status: int = 502) -> ServiceError:
        self._metrics.upstream_errors.labels(kind).inc()
        log.warning("upstream failed", extra={"kind": kind, "reason": message})
        return ServiceError(status, f"upstream_{kind}", message)


def _words(error: Exception) -> str:
    return str(error) or type(error).__name__


async def _json_edited(chunks: AsyncIterator[bytes], edit: Edit) -> AsyncIterator[bytes]:
    """A JSON object changed; anything else as it is."""
    body = b"".join([chunk async for chunk in chunks])
    yield _edited(body, edit)


async def _first_event_edited(chunks: AsyncIterator[bytes], edit: Edit) -> AsyncIterator[bytes]:
    """The first event of a stream changed, the rest untouched and unbuffered."""
    head = b""
    seen = False
    async for chunk in chunks:
        if seen:
            yield chunk
            continue
        head += chunk
        found = _EVENT.search(head)
        if found is not None:
            seen = True
            yield head[: found.start(1)] + _edited(found[1], edit) + head[found.end(1) :]
        elif len(head) > _LONGEST_HEAD:  # no event that we know
            seen = True
            yield head
    if not seen:
        yield head


def _edited(body: bytes, edit: Edit) -> bytes:
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        return body
    return json.dumps(edit(value)).encode() if isinstance(value, dict) else body
