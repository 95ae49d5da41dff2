"""Connections: a client that goes away cancels its request, one that is too slow is told so or given up, a reply that
breaks off is seen to break off, and what still runs when the service ends says so.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field

from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .errors import ServiceError


class Gone(Exception):
    """The client went away."""


class ReplyIncomplete(Exception):
    """A reply that had begun can't be brought to its end; the client's connection is closed, so that it sees so."""


@dataclass
class OpenRequests:
    """The requests that are being answered, so that they can be ended together.

    Attributes:
        tasks: One for each.
        ending: Whether the service is about to end, and has told them so.
    """

    tasks: set[asyncio.Task[None]] = field(default_factory=set)
    ending: bool = False

    def end(self) -> None:
        """Cancels every request; each tells its client that the service ends."""
        self.ending = True
        for task in self.tasks:
            task.cancel()


def ending_error() -> ServiceError:
    """What a request is told that the end of the service cuts off."""
    return ServiceError(
        503, "shutting_down", "the service was shut down before this was done", headers={"retry-after": "5"}
    )


class CancelOnDisconnect:
    """Cancels a request's task once its client has gone, wherever the task waits: in a queue, upstream, in a stream.

    Args:
        app: What is behind it.
        open_requests: Where requests are listed while they are answered.
        max_body: Bytes of a request's body, at most; over them 413.
        body_timeout_s: In which a request's body must have come; else 408.
        send_timeout_s: In which a client must take the next piece of a reply; else it is given up.
    """

    def __init__(
        self, app: ASGIApp, *, open_requests: OpenRequests, max_body: int, body_timeout_s: float, send_timeout_s: float
    ) -> None:
        self.app = app
        self.open_requests = open_requests
        self.max_body = max_body
        self.body_timeout_s = body_timeout_s
        self.send_timeout_s = send_timeout_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request. Raises Gone when it was cancelled."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        exchange = _RequestExchange(self, scope, receive, send)
        task = asyncio.ensure_future(self.app(scope, exchange.next_message, exchange.answer))
        exchange.task = task
        listener = asyncio.ensure_future(exchange.listen())
        self.open_requests.tasks.add(task)
        try:
            await task
        except asyncio.CancelledError:
            if exchange.gone:
                raise Gone from None
            if not self.open_requests.ending:  # the server itself is being stopped
                task.cancel()
                raise
            await exchange.tell_end()
        except ClientDisconnect:
            raise Gone from None
        finally:
            self.open_requests.tasks.discard(task)
            listener.cancel()


class _RequestExchange:
    """One request's messages, in and out."""

    task: asyncio.Future[None]

    def __init__(self, around: CancelOnDisconnect, scope: Scope, receive: Receive, send: Send) -> None:
        self.gone = False
        self._around = around
        self._scope = scope
        self._receive = receive
        self._send = send
        self._begun = self._complete = False
        # Full: the client has to wait with its body. An error: there is no more of it.
        self._messages: asyncio.Queue[Message | ServiceError] = asyncio.Queue(maxsize=8)

    async def next_message(self) -> Message:
        """What the application receives.

        Raises:
            ServiceError: 408 or 413.
        """
        message = await self._messages.get()
        if isinstance(message, ServiceError):
            raise message
        return message

    async def answer(self, message: Message) -> None:
        """What the application sends."""
        if message["type"] == "http.response.start":
            self._begun = True
        elif not message.get("more_body", False):
            self._complete = True
        try:
            async with asyncio.timeout(self._around.send_timeout_s):
                await self._send(message)
        except TimeoutError:
            self._give_up()
            raise Gone from None

    async def listen(self) -> None:
        """Hands the body over as it comes, then waits for the client to go away."""
        most = self._around.max_body
        said = dict(self._scope["headers"]).get(b"content-length", b"0")
        received = int(said) if said.isdigit() and len(said) < 20 else 0
        if received > most:
            await self._refuse_body(413)
            return
        received, more = 0, True
        deadline = asyncio.get_running_loop().time() + self._around.body_timeout_s
        while True:
            try:
                async with asyncio.timeout_at(deadline if more else None):
                    message = await self._receive()
            except TimeoutError:
                await self._refuse_body(408)
                return
            if message["type"] == "http.disconnect":
                if not self._complete:
                    self._give_up()
                return
            received += len(message.get("body", b""))
            more = message.get("more_body", False)
            if received > most:
                await self._refuse_body(413)
                return
            await self._messages.put(message)

    async def tell_end(self) -> None:
        """Tells the client that the service ends, where a reply hasn't begun."""
        if not self._begun:
            error = ending_error()
            await JSONResponse(error.body, error.status, error.headers)(self._scope, self._receive, self._send)
        elif not self._complete:
            raise ReplyIncomplete

    def _give_up(self) -> None:
        self.gone = True
        self.task.cancel()

    async def _refuse_body(self, status: int) -> None:
        around = self._around
        code, words = {
            413: ("body_too_large", f"the body is larger than {around.max_body} bytes, as many as are allowed here"),
            408: ("body_timeout", f"the body did not come within {around.body_timeout_s:g} s"),
        }[status]
        # Its rest is not read: the connection can't serve another request.
        await self._messages.put(ServiceError(status, code, words, headers={"connection": "close"}))


def _data_event(error: ServiceError) -> bytes:
    return b"data: " + json.dumps(error.body).encode() + b"\n\n"


class Broken(Exception):
    """What was being passed on broke off; the client's connection is closed before the end, so that it sees so."""


class Relay(Response):
    """Passes chunks on as they come, each at once.

    Args:
        chunks: The body. May raise `Broken`.
        status_code: Of the reply.
        raw_headers: As they are sent, names in lower case.
        headers: More of them.
        told_end: Whether a stream of events is told when the service ends in the middle of it.
        end_event: How it is told; None: OpenAI's way.
    """

    def __init__(
        self,
        chunks: AsyncIterator[bytes],
        status_code: int = 200,
        *,
        raw_headers: list[tuple[bytes, bytes]] | None = None,
        headers: Mapping[str, str] | None = None,
        told_end: bool = False,
        end_event: Callable[[ServiceError], bytes] | None = None,
    ) -> None:
        self.end_event = end_event or _data_event
        self.chunks = chunks
        self.status_code = status_code
        self.background = None
        self.told_end = told_end
        own = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in (headers or {}).items()]
        taken = {name for name, _ in own}
        self.raw_headers = [pair for pair in raw_headers or [] if pair[0] not in taken] + own

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002
        """Sends it."""
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        last = b""
        try:
            async for chunk in self.chunks:
                if chunk:
                    await send({"type": "http.response.body", "body": chunk, "more_body": True})
        except Broken:
            raise ReplyIncomplete from None
        except asyncio.CancelledError:
            if not (self.told_end and scope["app"].state.fairpos.open_requests.ending):
                raise
            last = b"\n\n" + self.end_event(ending_error())
        finally:
            close = getattr(self.chunks, "aclose", None)
            if close is not None:
                await close()
        await send({"type": "http.response.body", "body": last, "more_body": False})
