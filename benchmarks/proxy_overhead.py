"""What the proxy costs: `python -m benchmarks.proxy_overhead`.

Three servers on loopback, each a process of its own: a fake upstream, a bare pass-through of the same stack (Starlette,
httpx2, uvicorn; nothing but the bytes), and `fairpos serve`. 64 clients on kept-open connections.

latency     the clients together send a steady number of requests a second; added = median minus the upstream's own
throughput  the clients send as fast as they are answered
streaming   the upstream waits 200 ms between two chunks; when does the client have the first?

Writes results/proxy_overhead.json and its table in docs/service.md.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import socket
import statistics
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path

from benchmarks.pages import fill

RESULTS = Path(__file__).parent / "results"
PATH = "/v1/chat/completions"
BODY = json.dumps({"model": "m", "messages": [{"role": "user", "content": "hello " * 50}]}).encode()
STREAM = json.dumps({"model": "m", "messages": [], "stream": True}).encode()

UPSTREAM = """
import asyncio, json
REPLY = json.dumps({{"id": "c", "object": "chat.completion", "created": 1, "model": "m", "choices": [
    {{"index": 0, "message": {{"role": "assistant", "content": "hello " * 100}}, "finish_reason": "stop"}}]}}).encode()

async def app(scope, receive, send):
    if scope["type"] != "http":
        return
    body = b""
    while True:
        message = await receive()
        body += message.get("body", b"")
        if not message.get("more_body"):
            break
    if b'"stream"' in body:
        headers = [(b"content-type", b"text/event-stream")]
        await send({{"type": "http.response.start", "status": 200, "headers": headers}})
        for i in range(3):
            await send({{"type": "http.response.body", "body": b"data: {{}}\\n\\n", "more_body": True}})
            await asyncio.sleep(0.2)
        await send({{"type": "http.response.body", "body": b"data: [DONE]\\n\\n"}})
        return
    await send({{"type": "http.response.start", "status": 200, "headers": [
        (b"content-type", b"application/json"), (b"content-length", str(len(REPLY)).encode())]}})
    await send({{"type": "http.response.body", "body": REPLY}})

import uvicorn
uvicorn.run(app, port={port}, log_level="error", access_log=False)
"""

BARE = """
import httpx2, uvicorn
from starlette.applications import Starlette
from starlette.responses import StreamingResponse
from starlette.routing import Route

client = httpx2.AsyncClient(limits=httpx2.Limits(max_connections=256, max_keepalive_connections=256))

async def relay(request):
    headers = [(k, v) for k, v in request.headers.raw if k not in (b"host", b"content-length")]
    up = client.build_request("POST", "{upstream}" + request.url.path, content=await request.body(), headers=headers)
    response = await client.send(up, stream=True)
    async def chunks():
        try:
            async for chunk in response.aiter_raw():
                yield chunk
        finally:
            await response.aclose()
    kept = {{k: v for k, v in response.headers.items() if k not in ("date", "server", "transfer-encoding")}}
    return StreamingResponse(chunks(), response.status_code, kept)

uvicorn.run(Starlette(routes=[Route("/{{path:path}}", relay, methods=["POST"])]), port={port}, log_level="error",
            access_log=False)
"""


class Client:
    """One kept-open connection; as little work as can be, so that the servers are what is measured."""

    def __init__(self, port: int) -> None:
        self.port = port

    async def open(self) -> None:
        self.reader, self.writer = await asyncio.open_connection("127.0.0.1", self.port)

    async def send(self, body: bytes) -> None:
        head = (
            f"POST {PATH} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
        )
        self.writer.write(head.encode() + body)

    async def ask(self) -> None:
        """A request and its whole reply."""
        await self.send(BODY)
        head = (await self.reader.readuntil(b"\r\n\r\n")).lower()
        assert b" 200 " in head[:20], head
        if b"content-length: " in head:
            await self.reader.readexactly(int(head.split(b"content-length: ")[1].split(b"\r\n")[0]))
            return
        while (line := await self.reader.readline()) != b"0\r\n":
            await self.reader.readexactly(int(line, 16) + 2)
        await self.reader.readline()


async def _steady(client: Client, every_s: float, seconds: float, offset: float) -> list[float]:
    await asyncio.sleep(offset)
    times, end = [], time.perf_counter() + seconds
    while (began := time.perf_counter()) < end:
        await client.ask()
        times.append(time.perf_counter() - began)
        await asyncio.sleep(max(0.0, every_s - times[-1]))
    return times


async def latency(port: int, clients: int, rate: float, seconds: float) -> list[float]:
    """Sorted latencies in ms at a steady total rate."""
    all_of_them = [Client(port) for _ in range(clients)]
    await asyncio.gather(*(c.open() for c in all_of_them))
    every = clients / rate
    runs = await asyncio.gather(*(_steady(c, every, seconds, every * i / clients) for i, c in enumerate(all_of_them)))
    return sorted(1000 * t for times in runs for t in times)


async def throughput(port: int, clients: int, seconds: float) -> float:
    """Requests a second, as fast as they are answered."""
    all_of_them = [Client(port) for _ in range(clients)]
    await asyncio.gather(*(c.open() for c in all_of_them))
    end = time.perf_counter() + seconds

    async def hurry(client: Client) -> int:
        done = 0
        while time.perf_counter() < end:
            await client.ask()
            done += 1
        return done

    began = time.perf_counter()
    done = await asyncio.gather(*(hurry(c) for c in all_of_them))
    return sum(done) / (time.perf_counter() - began)


async def first_chunk(port: int) -> tuple[float, float]:
    """Milliseconds to the first event, and to the end of the stream."""
    client = Client(port)
    await client.open()
    began = time.perf_counter()
    await client.send(STREAM)
    await client.reader.readuntil(b"data: ")
    first = time.perf_counter() - began
    await client.reader.readuntil(b"[DONE]")
    return 1000 * first, 1000 * (time.perf_counter() - began)


def _free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


def _up(port: int) -> None:
    for _ in range(600):
        try:
            socket.create_connection(("127.0.0.1", port), 0.1).close()
            return
        except OSError:
            time.sleep(0.1)
    raise RuntimeError(f"nothing listens on port {port}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--rate", type=float, default=150.0, help="requests a second for the latency")
    parser.add_argument("--seconds", type=float, default=4.0, help="of each measurement")
    parser.add_argument("--rounds", type=int, default=5, help="interleaved; medians over them are printed")
    options = parser.parse_args()
    ports = {name: _free_port() for name in ("direct", "bare", "fairpos")}
    upstream = f"http://127.0.0.1:{ports['direct']}"
    env = {**os.environ, "FAIRPOS_UPSTREAM": f"{upstream}/v1"}
    commands = {
        "direct": ["-c", UPSTREAM.format(port=ports["direct"])],
        "bare": ["-c", BARE.format(port=ports["bare"], upstream=upstream)],
        "fairpos": ["-m", "fairpos", "serve", "--port", str(ports["fairpos"])],
    }
    found: dict[str, dict[str, list[float]]] = {name: {"p50": [], "p95": [], "rps": []} for name in ports}
    with ExitStack() as stack:
        for command in commands.values():
            process = subprocess.Popen([sys.executable, *command], env=env, stderr=subprocess.DEVNULL)
            stack.callback(process.wait)
            stack.callback(process.terminate)
        for port in ports.values():
            _up(port)
        for port in ports.values():  # connections, caches
            asyncio.run(throughput(port, options.clients, 1.0))
        for _ in range(options.rounds):
            for name, port in ports.items():
                times = asyncio.run(latency(port, options.clients, options.rate, options.seconds))
                found[name]["p50"].append(statistics.median(times))
                found[name]["p95"].append(times[int(0.95 * len(times))])
            for name, port in ports.items():
                found[name]["rps"].append(asyncio.run(throughput(port, options.clients, options.seconds)))
        chunks = {name: asyncio.run(first_chunk(port)) for name, port in ports.items()}
    rows = {name: {key: statistics.median(values) for key, values in of.items()} for name, of in found.items()}
    ratio = rows["fairpos"]["rps"] / rows["bare"]["rps"]
    lines = [
        f"{options.clients} clients, latency at {options.rate:.0f} requests a second, medians of {options.rounds} "
        f"rounds; throughput of fairpos to a bare pass-through: {ratio:.2f}.",
        "",
        "| | p50, ms | added | p95, ms | requests a second | first chunk, ms | whole stream, ms |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, row in rows.items():
        added = row["p50"] - rows["direct"]["p50"]
        lines.append(
            f"| {name} | {row['p50']:.2f} | {added:.2f} | {row['p95']:.2f} | {row['rps']:.0f} | "
            f"{chunks[name][0]:.1f} | {chunks[name][1]:.0f} |"
        )
    print("\n".join(lines))
    fill("service.md", "proxy", "\n".join(lines))
    record = {"clients": options.clients, "rate": options.rate, "rounds": options.rounds, "rows": rows,
              "first_chunk_ms": chunks, "ratio": ratio}  # fmt: skip
    (RESULTS / "proxy_overhead.json").write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
