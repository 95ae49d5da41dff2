"""The upstream: an OpenAI-compatible server that requests are passed to as they are.

What goes up: the body, and every header but those of the connection. What comes down: status, headers and bytes, each
chunk at once. When the client goes away, the upstream's connection is closed and its generation ends.
"""

from __future__ import annotations

import json
import re
import time
import zlib
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import suppress

import httpx2
from starlette.requests import Request

from fairpos.backends.backoff import retry_after_s
from fairpos.backends.base import Reply

from .connection import Broken, Relay
from .edits import Edit, events_edited, json_edited
from .encoding import Decoder
from .endpoint import Access, Endpoint, refused
from .errors import ServiceError
from .logs import log
from .metrics import Metrics
from .settings import Settings
from .traces import note_status, upstream_span

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
# Of this request's first leg: the body goes up unpacked, with a length of its own.
_OURS = frozenset({b"host", b"content-length", b"content-encoding", b"expect"})
_SERVERS = frozenset({b"date", b"server"})  # written by our own server

_STREAM = re.compile(rb'"stream"\s*:\s*true')
_STALE_S = 0.25  # a connection that ends later had its request read
_OLD_CONNECTIONS = 4  # that are tried for one request: all that are open may have been closed together
_POOLS = 16


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
        self.access = Access(
            self.url,
            self._key,
            own_key=bool(self._key) or self._own_keys,
            timeout_s=settings.upstream_timeout_s,
            overall=settings.upstream_calls,
            per_client=settings.upstream_calls_per_client,
            most_calls=settings.max_calls,
        )

    def endpoint(self, model: str, client: str) -> Endpoint:
        """The upstream's model as the library asks it for one request, for methods that make calls of their own.

        Raises:
            ServiceError: it didn't answer a moment ago.
        """
        return Endpoint(self.access, model, client)

    async def close(self) -> None:
        """Closes its connections."""
        for pool in self._pools:
            await pool.aclose()
        await self.access.close()

    async def relay(
        self,
        request: Request,
        path: str,
        content: bytes,
        *,
        edit: Edit | None = None,
        every_event: bool = False,
        headers: dict[str, str] | None = None,
        root: bool = False,
    ) -> Relay:
        """Passes a request up, and its reply down.

        Args:
            request: For its method and headers.
            path: Below the base URL: "/chat/completions".
            content: The body.
            edit: Changes a JSON reply, or the first event of a stream; None: nothing is looked at.
            every_event: Whether it changes all events of a stream.
            headers: More headers for the reply.
            root: Whether the path begins at the server's root, not below the base URL: "/tokenize".

        Raises:
            ServiceError: 502 it can't be reached or answers nonsense; 504 it is silent.
        """
        headers_up = self._headers_up(request, plain=edit is not None or _wants_stream(content))
        with upstream_span("relay", path=path.partition("?")[0]) as span:
            response = await self._open_reply(request.method, self._address_of(path, root=root), content, headers_up)
            note_status(span, "ok" if response.status_code < 400 else "http_error", response.status_code)
        if response.status_code in (401, 403) and (self._key or self._own_keys):
            await self._give_back(response)
            raise self._noted_error("key", "the upstream refuses the key that this service was given for it")
        streams = response.headers.get("content-type", "").startswith("text/event-stream")
        encoded = response.headers.get("content-encoding", "identity").lower()
        decoder = Decoder.of(encoded) if streams and encoded != "identity" else None
        left = _HOP | _SERVERS | _named_in_connection(response.headers.raw)
        left |= {b"content-length"} if edit is not None or decoder is not None else set()
        left |= {b"content-encoding"} if decoder is not None else set()
        raw = [(name.lower(), value) for name, value in response.headers.raw if name.lower() not in left]
        # Nothing can be added to a stream that is packed in a way that we don't know.
        chunks = self._chunks_of(response, decoder, can_tell=streams and (encoded == "identity" or decoder is not None))
        if edit is not None and response.status_code < 400:
            chunks = events_edited(chunks, edit, every=every_event) if streams else json_edited(chunks, edit)
        return Relay(chunks, response.status_code, raw_headers=raw, headers=headers, told_end=streams)

    async def models(self) -> list[dict[str, object]]:
        """The upstream's own list of models.

        Raises:
            ServiceError: it can't be reached, refuses, or answers nonsense.
        """
        headers = [(b"authorization", f"Bearer {self._key}".encode())] if self._key else []
        response = await self._open_reply("GET", self._address_of("/models"), b"", headers)
        try:
            content = await response.aread()
            if response.status_code >= 400:
                raise _list_refused(response, own_key=self.access.own_key)
            found = json.loads(content)["data"]
            return [model for model in found if isinstance(model, dict) and isinstance(model.get("id"), str)]
        except (ValueError, KeyError, TypeError, httpx2.TransportError):
            raise self._noted_error("garbage", "the upstream's list of models can't be read") from None
        finally:
            await self._give_back(response)

    def _address_of(self, path: str, *, root: bool = False) -> str:
        return (self.url.removesuffix("/v1") if root else self.url) + path

    async def _open_reply(
        self, method: str, url: str, content: bytes, headers: list[tuple[bytes, bytes]]
    ) -> httpx2.Response:
        """Sends a request, and again where the connection was an old one that the upstream closed meanwhile."""
        for _ in range(_OLD_CONNECTIONS):
            with suppress(_StaleConnection):
                return await self._send_once(method, url, content, headers)
        raise self._noted_error("broken", "the upstream closed one connection after the other without an answer")

    async def _send_once(
        self, method: str, url: str, content: bytes, headers: list[tuple[bytes, bytes]]
    ) -> httpx2.Response:
        """Sends a request, and waits for the head of the reply.

        Raises:
            _StaleConnection: the connection had served before, and ended at once without a byte of a reply: the
                upstream had closed it, and didn't read the request.
            ServiceError: see `relay`.
        """
        watch = _ConnectionWatch()
        extensions = {**self._extensions, "trace": watch.trace}
        request = httpx2.Request(method, url, content=content, headers=headers, extensions=extensions)
        pool = min(range(_POOLS), key=self._busy.__getitem__)
        self._busy[pool] += 1
        try:
            response = await self._pools[pool].handle_async_request(request)
            response.request = request
            response.extensions["pool"] = pool
            return response
        except BaseException as error:
            self._busy[pool] -= 1
            if isinstance(error, httpx2.TransportError) and watch.was_stale(error):
                raise _StaleConnection from None
            raise self._opening_error(error) from None

    def _opening_error(self, error: BaseException) -> BaseException:
        """What went wrong before there were headers."""
        if isinstance(error, httpx2.ConnectTimeout):
            return self._noted_error("connect_timeout", "the upstream can't be reached in time", 504)
        if isinstance(error, httpx2.TimeoutException):
            return self._noted_error("timeout", "the upstream did not answer in time", 504)
        if isinstance(error, httpx2.ConnectError):
            return self._noted_error("refused", f"the upstream can't be reached: {error}")
        if isinstance(error, httpx2.TransportError):
            return self._noted_error("broken", f"the upstream broke off: {_words_of(error)}")
        return error

    async def _give_back(self, response: httpx2.Response) -> None:
        """Gives the connection back, or closes it if the reply isn't whole."""
        self._busy[response.extensions["pool"]] -= 1
        await response.aclose()

    async def _chunks_of(
        self, response: httpx2.Response, decoder: Decoder | None, *, can_tell: bool
    ) -> AsyncIterator[bytes]:
        """The body as it comes, unpacked by the decoder where there is one.

        A stream that breaks off ends with an error event where it can be told so; anything else raises Broken.
        """
        end = b"\n\n"
        try:
            async for raw in response.aiter_raw():
                chunk = raw if decoder is None else decoder.feed(raw)
                end = (end + chunk)[-2:]
                yield chunk
            if decoder is not None and not decoder.complete:
                raise httpx2.RemoteProtocolError("its packed stream ends too early")
        except (httpx2.TransportError, zlib.error) as error:
            timeout = isinstance(error, httpx2.TimeoutException)
            told = self._noted_error(
                "stream_timeout" if timeout else "stream_broken",
                "the upstream fell silent in the middle of the reply"
                if timeout
                else f"the upstream broke off in the middle of the reply: {_words_of(error)}",
                504 if timeout else 502,
            )
            if not can_tell:
                raise Broken from None
            yield (b"" if end == b"\n\n" else b"\n\n") + b"data: " + json.dumps(told.body).encode() + b"\n\n"
        finally:
            await self._give_back(response)

    def _headers_up(self, request: Request, *, plain: bool) -> list[tuple[bytes, bytes]]:
        """The client's headers as they go up; `plain`: the reply must not be compressed, because it is read."""
        left = _HOP | _OURS | _named_in_connection(request.headers.raw)
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

    def _noted_error(self, kind: str, message: str, status: int = 502) -> ServiceError:
        self._metrics.upstream_errors.labels(kind).inc()
        log.warning("upstream failed", extra={"kind": kind, "reason": message})
        return ServiceError(status, f"upstream_{kind}", message)


def _list_refused(response: httpx2.Response, *, own_key: bool) -> ServiceError:
    """What is told of an upstream that doesn't list its models: its status and wait."""
    status = response.status_code
    said = {name.lower(): value for name, value in response.headers.items()}
    wait = retry_after_s(said, time.time())
    reply = Reply("http_error", detail=f"HTTP {status}", http_status=status, retry_after_s=wait)
    return refused(reply, own_key=own_key)


class _StaleConnection(Exception):
    """A connection that had served before was closed by the upstream before it read the request."""


class _ConnectionWatch:
    """What the transport tells of one request: whether its connection is a new one."""

    def __init__(self) -> None:
        self.is_new = False
        self._sent = 0.0

    async def trace(self, event: str, _: Mapping[str, object]) -> None:
        """Called at every step."""
        if event == "connection.connect_tcp.started":
            self.is_new = True
        elif event == "http11.send_request_headers.started":
            self._sent = time.monotonic()

    def was_stale(self, error: httpx2.TransportError) -> bool:
        """Whether the request may be sent again: nobody has read it."""
        closed = isinstance(error, httpx2.RemoteProtocolError | httpx2.ReadError | httpx2.WriteError)
        nothing_came = "without sending" in str(error) or not isinstance(error, httpx2.RemoteProtocolError)
        return closed and nothing_came and not self.is_new and time.monotonic() - self._sent < _STALE_S


def _named_in_connection(headers: Sequence[tuple[bytes, bytes]]) -> frozenset[bytes]:
    """Headers that belong to one connection because its Connection header names them."""
    values = [value for name, value in headers if name.lower() == b"connection"]
    return frozenset(name.strip().lower() for value in values for name in value.split(b","))


def _wants_stream(content: bytes) -> bool:
    """Whether a body asks for a stream; such a reply must not be packed, or nothing could be said at its end."""
    return _STREAM.search(content) is not None


def _words_of(error: Exception) -> str:
    return str(error) or type(error).__name__
