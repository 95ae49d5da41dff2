"""Connections: a client that goes away cancels its request; a reply that breaks off is seen to break off."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping

from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send


class Gone(Exception):
    """The client went away."""


class CancelOnDisconnect:
    """Cancels a request's task once its client has gone, wherever the task waits: in a queue, upstream, in a stream.

    Args:
        app: What is behind it.
        max_body: Bytes of a request's body, at most; over them 413.
    """

    def __init__(self, app: ASGIApp, *, max_body: int) -> None:
        self.app = app
        self.max_body = max_body

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request. Raises Gone when it was cancelled."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        # Full: the client has to wait with its body. None: the body is too large.
        messages: asyncio.Queue[Message | None] = asyncio.Queue(maxsize=8)
        complete = gone = False

        async def answer(message: Message) -> None:
            nonlocal complete
            await send(message)
            if message["type"] == "http.response.body" and not message.get("more_body", False):
                complete = True

        async def listen() -> None:
            nonlocal gone
            received, said = 0, int(dict(scope["headers"]).get(b"content-length", 0))
            while max(received, said) <= self.max_body:
                message = await receive()
                if message["type"] == "http.disconnect":
                    if not complete:
                        gone = True
                        task.cancel()
                    return
                received += len(message.get("body", b""))
                if received <= self.max_body:
                    await messages.put(message)
            await messages.put(None)

        async def next_message() -> Message:
            message = await messages.get()
            if message is None:
                raise HTTPException(413, f"the body is larger than {self.max_body} bytes, as many as are allowed here")
            return message

        task = asyncio.ensure_future(self.app(scope, next_message, answer))
        listener = asyncio.ensure_future(listen())
        try:
            await task
        except asyncio.CancelledError:
            if not gone:  # the server itself is being stopped
                task.cancel()
                raise
            raise Gone from None
        finally:
            listener.cancel()


class Broken(Exception):
    """What was being passed on broke off; the client's connection is closed before the end, so that it sees so."""


class Relay(Response):
    """Passes chunks on as they come, each at once.

    Args:
        chunks: The body. May raise `Broken`.
        status_code: Of the reply.
        raw_headers: As they are sent, names in lower case.
        headers: More of them.
    """

    def __init__(
        self,
        chunks: AsyncIterator[bytes],
        status_code: int = 200,
        *,
        raw_headers: list[tuple[bytes, bytes]] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        self.chunks = chunks
        self.status_code = status_code
        self.background = None
        own = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in (headers or {}).items()]
        taken = {name for name, _ in own}
        self.raw_headers = [pair for pair in raw_headers or [] if pair[0] not in taken] + own

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002
        """Sends it."""
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        try:
            async for chunk in self.chunks:
                if chunk:
                    await send({"type": "http.response.body", "body": chunk, "more_body": True})
        except Broken:
            return  # without the last message the server closes the connection
        finally:
            close = getattr(self.chunks, "aclose", None)
            if close is not None:
                await close()
        await send({"type": "http.response.body", "body": b"", "more_body": False})
