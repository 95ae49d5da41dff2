"""An upstream that answers, streams and fails as its script says, on raw sockets, so that it can break off anywhere.

    with Scripted(handler) as upstream: ...      upstream.url, upstream.requests

A handler is `async def handler(request, connection)`; see `completion`, `stream` and the failures below.
"""

import asyncio
import json
import threading
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self


@dataclass
class Received:
    """One request as it arrived."""

    method: str
    path: str
    headers: dict[str, str]
    content: bytes

    @property
    def body(self) -> Any:
        return json.loads(self.content)


@dataclass
class Connection:
    """One client's connection."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    gone: asyncio.Event = field(default_factory=asyncio.Event)

    async def send(self, *parts: bytes) -> None:
        for part in parts:
            self.writer.write(part)
        await self.writer.drain()

    async def head(self, status: int, headers: Mapping[str, str]) -> None:
        lines = [f"HTTP/1.1 {status} X", *(f"{name}: {value}" for name, value in headers.items())]
        await self.send("\r\n".join(lines).encode() + b"\r\n\r\n")

    async def chunk(self, data: bytes) -> None:
        await self.send(f"{len(data):x}\r\n".encode() + data + b"\r\n")

    async def json(self, value: object, status: int = 200, **headers: str) -> None:
        content = json.dumps(value).encode()
        named = {name.replace("_", "-"): text for name, text in headers.items()}
        await self.head(status, {"Content-Type": "application/json", "Content-Length": str(len(content)), **named})
        await self.send(content)


Handler = Callable[[Received, Connection], Awaitable[None]]


def chunk(text: str | None, finish: str | None = None, **more: object) -> dict[str, object]:
    """One chunk of a streamed completion."""
    delta = {} if text is None else {"content": text}
    choices = [{"index": 0, "delta": delta, "finish_reason": finish}]
    return {"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": choices, **more}


def whole(text: str | None, **message: object) -> dict[str, object]:
    """A completion."""
    return {
        "id": "c1",
        "object": "chat.completion",
        "created": 1,
        "model": "m",
        "choices": [
            {"index": 0, "message": {"role": "assistant", "content": text, **message}, "finish_reason": "stop"}
        ],
        "usage": {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7},
    }


async def completion(request: Received, connection: Connection) -> None:
    """A plain answer, or the same as a stream where one is asked for; no models are listed."""
    if request.method == "GET":
        await connection.json({"data": []})
        return
    if not request.body.get("stream"):
        await connection.json(whole("hello there"), x_request_id="up-1", x_extra="kept")
        return
    await stream(connection, [chunk("hello "), chunk("there"), chunk(None, "stop")])


async def stream(connection: Connection, chunks: Sequence[object], end: str = "[DONE]", wait_s: float = 0.0) -> None:
    """Server-sent events, one chunk of HTTP each."""
    await connection.head(200, {"Content-Type": "text/event-stream", "Transfer-Encoding": "chunked"})
    for value in chunks:
        await connection.chunk(b"data: " + json.dumps(value).encode() + b"\n\n")
        await asyncio.sleep(wait_s)
    await connection.chunk(f"data: {end}\n\n".encode())
    await connection.send(b"0\r\n\r\n")


class Scripted:
    """The server, in a thread of its own.

    Attributes:
        requests: What came, in order.
        gone: How many clients went away while their request was being answered.
    """

    def __init__(self, handler: Handler = completion) -> None:
        self.handler = handler
        self.requests: list[Received] = []
        self.gone = 0
        self._ready = threading.Event()
        self._loop: asyncio.AbstractEventLoop
        self._thread = threading.Thread(target=lambda: asyncio.run(self._main()), daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    def __enter__(self) -> Self:
        self._thread.start()
        self._ready.wait(10)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(10)

    async def _main(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        self._ready.set()
        await self._stop.wait()
        server.close()
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while await self._one(reader, writer):
                pass
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            writer.close()

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = await reader.readuntil(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        method, path, _ = first.split(" ")
        headers = {k.lower(): v.strip() for k, _, v in (line.partition(":") for line in lines if line)}
        content = await reader.readexactly(int(headers.get("content-length", 0)))
        request = Received(method, path, headers, content)
        self.requests.append(request)
        connection = Connection(reader, writer)
        answer = asyncio.ensure_future(self.handler(request, connection))
        # A client that says more before it has its answer, or nothing more, has gone.
        more = asyncio.ensure_future(reader.read(1))
        done, _ = await asyncio.wait({answer, more}, return_when=asyncio.FIRST_COMPLETED)
        if answer in done:
            more.cancel()
            await asyncio.wait({more})
            answer.result()
            return not writer.is_closing()
        self.gone += 1
        answer.cancel()
        return False


# Failures


async def hangs(request: Received, connection: Connection) -> None:
    """Never answers."""
    await asyncio.sleep(60)


async def dies_before(request: Received, connection: Connection) -> None:
    """Closes the connection instead of answering."""
    connection.writer.close()


async def speaks_garbage(request: Received, connection: Connection) -> None:
    """Sends something that is no HTTP."""
    await connection.send(b"\x00\x01 what? \r\n\r\n")
    connection.writer.close()


async def answers_garbage(request: Received, connection: Connection) -> None:
    """Sends good HTTP whose body is no JSON."""
    await connection.head(200, {"Content-Type": "application/json", "Content-Length": "9"})
    await connection.send(b"<html>oh!")


async def is_busy(request: Received, connection: Connection) -> None:
    """Says 429."""
    await connection.json({"error": {"message": "slow down", "code": "rate"}}, 429, retry_after="7")


async def dies_in_body(request: Received, connection: Connection) -> None:
    """Breaks off in the middle of a plain answer."""
    await connection.head(200, {"Content-Type": "application/json", "Content-Length": "500"})
    await connection.send(b'{"id": "c1", "choi')
    connection.writer.close()


async def dies_in_stream(request: Received, connection: Connection) -> None:
    """Breaks off after the first chunk."""
    await connection.head(200, {"Content-Type": "text/event-stream", "Transfer-Encoding": "chunked"})
    await connection.chunk(b"data: " + json.dumps(chunk("hel")).encode() + b"\n\n")
    connection.writer.close()


async def falls_silent(request: Received, connection: Connection) -> None:
    """Says nothing more after the first chunk."""
    await connection.head(200, {"Content-Type": "text/event-stream", "Transfer-Encoding": "chunked"})
    await connection.chunk(b"data: " + json.dumps(chunk("hel")).encode() + b"\n\n")
    await asyncio.sleep(60)
