"""Many users at once: `python -m benchmarks.service_load --model smollm2 --users 200 --seconds 60`.

Starts `fairpos serve` with a local model, and as many users, each with a connection and a key of its own, who ask a
chat question about documents again and again, every second one as a stream. A 429 is waited out as its header says.
Checks that nothing fails but with 429, that every accepted request is answered whole, that batches hold more than one
call, and how the memory of the service grew. Writes results/service_load.json and its table in docs/service.md.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import socket
import statistics
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import httpx2

from benchmarks.pages import fill

RESULTS = Path(__file__).parent / "results"
PLACES = ["Ardmore", "Belfen", "Corrin", "Dunmar", "Eskdale", "Farley"]


def body(user: int, turn: int, tokens: int, methods: str) -> dict[str, object]:
    """A question about three short documents, other ones each time."""
    place = PLACES[(user + turn) % len(PLACES)]
    documents = [f"The bridge of {name} was opened in {1800 + (user * 7 + turn * 3 + i) % 150}." for i, name in
                 enumerate([place, *PLACES[:2]])]  # fmt: skip
    return {
        "messages": [{"role": "user", "content": f"When was the bridge of {place} opened?"}],
        "documents": documents,
        "max_tokens": tokens,
        "stream": (user + turn) % 2 == 0,
        "fairpos": {"methods": methods},
    }


async def use(
    url: str, user: int, end: float, options: argparse.Namespace, found: Counter[str], times: list[float]
) -> None:
    """One user."""
    turn = 0
    async with httpx2.AsyncClient(timeout=300, headers={"authorization": f"Bearer user-{user}"}) as client:
        while time.monotonic() < end:
            began = time.monotonic()
            try:
                reply = await client.post(url, json=body(user, turn, options.tokens, options.methods))
            except httpx2.TransportError as error:
                found[type(error).__name__] += 1
                continue
            if reply.status_code == 429:
                found["429"] += 1
                await asyncio.sleep(min(float(reply.headers["retry-after"]), max(0.0, end - time.monotonic())))
                continue
            whole = "data: [DONE]" in reply.text if "event-stream" in reply.headers["content-type"] else (
                reply.status_code == 200 and bool(reply.json()["choices"]))  # fmt: skip
            found["answered" if reply.status_code == 200 and whole else f"failed {reply.status_code}"] += 1
            times.append(time.monotonic() - began)
            turn += 1


def resident_mb(pid: int) -> float:
    """Memory of a process."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


async def load(url: str, pid: int, options: argparse.Namespace) -> tuple[Counter[str], list[float], list[float]]:
    found: Counter[str] = Counter()
    times: list[float] = []
    memory: list[float] = []
    end = time.monotonic() + options.seconds
    users = [asyncio.create_task(use(url, user, end, options, found, times)) for user in range(options.users)]
    while time.monotonic() < end:
        memory.append(resident_mb(pid))
        await asyncio.sleep(1)
    await asyncio.gather(*users)
    memory.append(resident_mb(pid))
    return found, times, memory


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="smollm2")
    parser.add_argument("--users", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--tokens", type=int, default=8)
    parser.add_argument("--methods", default="none")
    parser.add_argument("--queue", type=int, default=128, help="smaller than the users, so that 429s are met too")
    options = parser.parse_args()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    base = f"http://127.0.0.1:{port}"
    process = subprocess.Popen(
        [sys.executable, "-m", "fairpos", "serve", "--model", options.model, "--port", str(port)],
        env={**os.environ, "FAIRPOS_QUEUE": str(options.queue), "FAIRPOS_LOG_LEVEL": "warning"},
    )
    try:
        for _ in range(1800):
            try:
                if httpx2.get(base + "/health/ready").status_code == 200:
                    break
            except httpx2.TransportError:
                pass
            time.sleep(0.1)
        found, times, memory = asyncio.run(load(base + "/v1/chat/completions", process.pid, options))
        metrics = httpx2.get(base + "/metrics").text
        left = re.search(r"fairpos_queue_jobs\{.*\} ([0-9.]+)", metrics)
        count, total = (
            float(re.search(rf"fairpos_batch_calls_{part}\{{.*generate.*\}} ([0-9.]+)", metrics)[1])  # type: ignore[index]
            for part in ("count", "sum")
        )
    finally:
        process.terminate()
        process.wait(60)
    settled = memory[len(memory) // 3 :]
    result = {
        "requests": dict(found),
        "mean_batch": round(total / count, 2),
        "seconds_p50": round(statistics.median(times), 2),
        "seconds_p95": round(sorted(times)[int(0.95 * len(times))], 2),
        "answers_per_second": round(found["answered"] / options.seconds, 2),
        "memory_mb_after_a_third": round(settled[0]),
        "memory_mb_end": round(settled[-1]),
        "memory_mb_most": round(max(memory)),
        "left_in_queue": float(left[1]) if left else None,
        "exit": process.returncode,
    }
    print(json.dumps(result, indent=1))
    failed = {kind: n for kind, n in found.items() if kind not in ("answered", "429")}
    assert not failed, failed
    assert total / count > 1, "no batch held two calls"
    words = {"requests": ", ".join(f"{n} {kind}" for kind, n in sorted(found.items()))}
    shown = {key.replace("_", " "): words.get(key, value) for key, value in result.items()}
    title = f"{options.users} users for {options.seconds:.0f} s, {options.model}, methods {options.methods}"
    fill(
        "service.md", "load", "\n".join([f"| {title} | |", "|---|---|", *(f"| {k} | {v} |" for k, v in shown.items())])
    )
    (RESULTS / "service_load.json").write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
