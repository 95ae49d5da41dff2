"""Two replicas of Ray Serve, one killed midway: `python -m benchmarks.ray_serve`.

200 chats are streamed, forty at once, through the service in two replicas to an upstream that takes two seconds for a
reply of twenty pieces; after a quarter of them one replica is killed (SIGKILL). Every client must end with the whole
reply, with an error status and a message, or with a connection that breaks off before its end, which clients raise;
none may end as if it had all while a piece is missing. Before that: a wrong key is refused by each replica, pieces
come one by one, and a client that goes away is gone upstream too. At the end there are two replicas again.

Writes results/ray_serve.json.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from statistics import median

import httpx2
import psutil

from benchmarks.pages import fill
from benchmarks.ray_cluster import QUIET, children_of, kill_all, name_of, wait_until
from tests.service.upstream import Connection, Received, Scripted, chunk, stream

RESULTS = Path(__file__).parent / "results" / "ray_serve.json"
CHATS, AT_ONCE, PIECES, WAIT_S = 200, 40, 20, 0.1
KEY = {"Authorization": "Bearer key"}
CHAT = {"model": "m", "stream": True, "messages": [{"role": "user", "content": "Count."}]}


async def twenty_pieces(request: Received, connection: Connection) -> None:
    """Two seconds of stream."""
    if request.method == "GET":
        await connection.json({"data": [{"id": "m"}]})
        return
    pieces = [chunk(f"{i} ") for i in range(PIECES)]
    await stream(connection, [*pieces, chunk(None, "stop")], wait_s=WAIT_S)


def replicas() -> list[psutil.Process]:
    """The replicas' processes, below this one."""
    return [each for each in children_of(os.getpid()) if "ray::ServeReplica" in name_of(each)]


async def chat(client: httpx2.AsyncClient, url: str, arrivals: list[float]) -> str:
    """How one chat ends."""
    text = ""
    try:
        async with client.stream("POST", f"{url}/v1/chat/completions", json=CHAT, headers=KEY) as response:
            if response.status_code != 200:
                content = await response.aread()
                return f"status {response.status_code}" if content else f"status {response.status_code}, empty"
            async for line in response.aiter_lines():
                arrivals.append(time.monotonic())
                if line == "data: [DONE]":
                    whole = text == "".join(f"{i} " for i in range(PIECES))
                    return "answered" if whole else "LOST A PIECE"
                if line.startswith("data: "):
                    event = json.loads(line[6:])
                    if "error" in event:
                        return "error event"
                    text += event["choices"][0]["delta"].get("content") or ""
    except httpx2.TransportError as error:
        return f"broke off: {type(error).__name__}"
    return "ENDED AS IF WHOLE"


async def chats(url: str) -> dict[str, object]:
    """All chats; one replica is killed when a quarter of them has ended."""
    ends: Counter[str] = Counter()
    room = asyncio.Semaphore(AT_ONCE)
    victim = replicas()[0]
    at_kill = 0

    async def one(client: httpx2.AsyncClient) -> None:
        nonlocal at_kill
        async with room:
            ends[await chat(client, url, [])] += 1
        if ends.total() >= CHATS // 4 and not at_kill:
            at_kill = ends.total()
            await asyncio.sleep(WAIT_S * PIECES / 2)
            kill_all([victim])

    limits = httpx2.Limits(max_connections=AT_ONCE)
    async with httpx2.AsyncClient(timeout=60, limits=limits) as client, asyncio.TaskGroup() as group:
        for _ in range(CHATS):
            group.create_task(one(client))
    clear = ("answered", "status 5", "error event", "broke off")
    return {
        "chats": CHATS,
        "ended_before_the_kill": at_kill,
        "ends": dict(ends),
        "silent": sum(count for end, count in ends.items() if not end.startswith(clear) or end.endswith("empty")),
    }


async def before(url: str, upstream: Scripted) -> dict[str, object]:
    """Keys, pieces and cancelling."""
    async with httpx2.AsyncClient(timeout=60) as client:
        wrong = {"Authorization": "Bearer wrong"}
        replies = [await client.post(f"{url}/v1/chat/completions", json=CHAT, headers=wrong) for _ in range(8)]
        arrivals: list[float] = []
        end = await chat(client, url, arrivals)
        gaps = [later - earlier for earlier, later in pairwise(arrivals)]
        gone = upstream.gone
        async with client.stream("POST", f"{url}/v1/chat/completions", json=CHAT, headers=KEY) as response:
            async for _ in response.aiter_lines():
                break
        left = time.monotonic()
        while upstream.gone == gone and time.monotonic() < left + 10:
            await asyncio.sleep(0.01)
    return {
        "wrong_key": sorted({reply.status_code for reply in replies}),
        "first_chat": end,
        "seconds_between_pieces": round(median(gap for gap in gaps if gap > 0.01), 3),
        "cancelled_upstream_after_s": round(time.monotonic() - left, 3) if upstream.gone > gone else None,
    }


def main() -> None:
    """Runs it."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    with Scripted(twenty_pieces) as upstream:
        environment = os.environ | QUIET | {"FAIRPOS_API_KEYS": "key", "FAIRPOS_LOG_LEVEL": "error"}
        command = [sys.executable, "-m", "fairpos", "serve", "--upstream", upstream.url, "--port", str(port)]
        command += ["--engine", "ray", "--replicas", "2", "--replica-cpus", "0.5"]
        process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

        def is_ready() -> bool:
            with suppress(httpx2.TransportError):
                return httpx2.get(f"{url}/health/ready", timeout=5).status_code == 200 and len(replicas()) == 2
            return False

        try:
            wait_until(is_ready, "the replicas don't start")
            found = asyncio.run(before(url, upstream)) | asyncio.run(chats(url))
            wait_until(is_ready, "the killed replica isn't replaced")
            found["replicas_at_the_end"] = len(replicas())
        finally:
            process.send_signal(signal.SIGTERM)
            found_status = process.wait(60)
    found["status_at_sigterm"] = found_status
    print(json.dumps(found, indent=1))
    RESULTS.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    ends = "".join(f"| {end} | {count} |\n" for end, count in sorted(found["ends"].items()))
    rows = f"{ends}| as if whole, with a piece missing | {found['silent']} |"
    fill("scale.md", "ray-serve", f"| how a chat ended | chats |\n|---|---|\n{rows}")
    if found["silent"]:
        sys.exit(1)


if __name__ == "__main__":
    main()
