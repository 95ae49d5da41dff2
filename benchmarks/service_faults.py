"""What a client of `/health/live` notices of each fault: `python -m benchmarks.service_faults`.

A service of its own process for each fault, with the fault going on, is asked whether it lives, 20 times a second.
Lag is what the service itself measures of its event loop (`fairpos_loop_lag_seconds`), in steps of its histogram. Then
SIGTERM, with the fault still going on: how long until the process has ended, after the drain of 2 s.

hanging upstream    24 reranks and votes wait for an upstream that never answers
24 slow reranks     an upstream that takes 3 s for every call
300 connections     half-sent requests
20,000 messages     one chat of them, again and again, on a local model
8 MB document       one chat, again and again, on a local model
a full queue        40 chats at a queue of 8, on a local model

Writes results/service_faults.json and its table in docs/service.md. `--bare` leaves the local faults out.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import signal
import socket
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2

from benchmarks.pages import fill
from tests.service.upstream import Connection, Received, Scripted, completion, hangs

RESULTS = Path(__file__).parent / "results" / "service_faults.json"
DRAIN_S = 2
SECONDS = 15.0
RERANK = {"query": "q", "documents": ["a", "b", "c"]}
QUESTION = [{"role": "user", "content": "Which?"}]


async def slow(request: Received, connection: Connection) -> None:
    """Takes 3 s."""
    await asyncio.sleep(3)
    if request.method == "POST":
        await completion(request, connection)
    else:
        await connection.json({"data": []})


@contextmanager
def served(*arguments: str, **settings: str) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """A service in a process of its own, ready."""
    environment = {**os.environ, "FAIRPOS_DRAIN_S": str(DRAIN_S), "FAIRPOS_LOG_LEVEL": "error"} | settings
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "fairpos", "serve", "--port", str(port), *arguments]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, env=environment, text=True)
    url = f"http://127.0.0.1:{port}"
    try:
        end = time.monotonic() + 180
        while time.monotonic() < end:
            try:
                if httpx2.get(url + "/health/ready", timeout=5).status_code == 200:
                    break
            except httpx2.TransportError:
                time.sleep(0.1)
        yield url, process
    finally:
        process.kill()
        process.wait()


def repeated(stop: threading.Event, url: str, path: str, body: object, count: int) -> list[threading.Thread]:
    """So many clients that send the same again and again."""
    content = json.dumps(body).encode()

    def send() -> None:
        with httpx2.Client(timeout=60) as client:
            while not stop.is_set():
                try:
                    client.post(url + path, content=content)
                except httpx2.TransportError:
                    stop.wait(0.2)
                stop.wait(0.05)

    return [threading.Thread(target=send, daemon=True) for _ in range(count)]


def half_sent(stop: threading.Event, url: str) -> list[threading.Thread]:
    """300 connections that never send the rest."""
    host, port = url.removeprefix("http://").split(":")

    def hold() -> None:
        kept = []
        while not stop.is_set():
            while len(kept) < 100:
                connection = socket.create_connection((host, int(port)))
                connection.sendall(b"POST /rerank HTTP/1.1\r\nHost: x\r\n")
                kept.append(connection)
            stop.wait(0.5)

    return [threading.Thread(target=hold, daemon=True) for _ in range(3)]


def measure(
    url: str, process: subprocess.Popen[str], fault: Callable[[threading.Event], list[threading.Thread]]
) -> dict[str, float | str]:
    """Live probes while the fault goes on, then SIGTERM."""
    stop = threading.Event()
    for thread in fault(stop):
        thread.start()
    time.sleep(1.0)
    before = lag_counts(httpx2.get(url + "/metrics", timeout=30).text)
    times = []
    end = time.monotonic() + SECONDS
    with httpx2.Client(timeout=30) as client:
        while time.monotonic() < end:
            started = time.perf_counter()
            client.get(url + "/health/live")
            times.append(time.perf_counter() - started)
            time.sleep(0.05)
        lag = lag_of(before, lag_counts(client.get(url + "/metrics").text))
    started = time.monotonic()
    process.send_signal(signal.SIGTERM)
    process.wait(timeout=60)
    ended = time.monotonic() - started
    stop.set()
    ordered = sorted(times)
    return {
        "live_p50_ms": round(1000 * statistics.median(times), 1),
        "live_p99_ms": round(1000 * ordered[int(0.99 * (len(ordered) - 1))], 1),
        "lag_p99_9_ms_at_most": lag,
        "sigterm_s": round(ended, 2),
    }


def lag_counts(metrics: str) -> dict[str, float]:
    """How often the loop was late by each bound of the histogram at most, since the process started."""
    found = re.findall(r'fairpos_loop_lag_seconds_bucket\{le="([^"]+)"\} (\S+)', metrics)
    return {bound: float(count) for bound, count in found}


def lag_of(before: dict[str, float], after: dict[str, float]) -> str:
    """The bound of the 99.9th percentile between two readings, in ms."""
    counts = {bound: count - before[bound] for bound, count in after.items()}
    bound = next(bound for bound, count in counts.items() if count >= 0.999 * counts["+Inf"])
    return "over 5000" if bound == "+Inf" else f"{1000 * float(bound):g}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bare", action="store_true")
    options = parser.parse_args()
    votes = {"messages": QUESTION, "documents": ["a", "b"], "fairpos": {"methods": "permutation:views=3"}}
    found: dict[str, dict[str, float | str]] = {}
    for name, handler in (("nothing", completion), ("hanging upstream", hangs), ("24 slow reranks", slow)):
        with Scripted(handler) as up, served("--upstream", up.url) as (url, process):

            def fault(stop: threading.Event, name: str = name, url: str = url) -> list[threading.Thread]:
                if name == "nothing":
                    return []
                reranks = repeated(stop, url, "/rerank", RERANK, 24 if "slow" in name else 12)
                return reranks + (repeated(stop, url, "/v1/chat/completions", votes, 12) if "hang" in name else [])

            found[name] = measure(url, process, fault)
    with Scripted(completion) as up, served("--upstream", up.url) as (url, process):
        found["300 half-sent requests"] = measure(url, process, lambda stop: half_sent(stop, url))
    many = {"messages": [{"role": "user", "content": "x"}] * 20_001}
    large = {"messages": QUESTION, "documents": ["y " * 4_000_000]}
    long = {"messages": QUESTION, "max_tokens": 64}
    local = (("20,000 messages", many, 2, "256"), ("8 MB document", large, 2, "256"), ("a full queue", long, 40, "8"))
    for name, body, clients, queue in () if options.bare else local:
        with served("--model", "smollm2", FAIRPOS_QUEUE=queue, OMP_NUM_THREADS="1") as (url, process):
            found[name] = measure(
                url,
                process,
                lambda stop, body=body, clients=clients, url=url: repeated(
                    stop, url, "/v1/chat/completions", body, clients
                ),
            )
    load = round(os.getloadavg()[0], 1)
    RESULTS.write_text(json.dumps({"load_average": load, "drain_s": DRAIN_S, "faults": found}, indent=1) + "\n")
    rows = [
        f"One service each, SIGTERM with a drain of {DRAIN_S} s; the machine's load average was {load} on "
        f"{os.cpu_count()} cores.",
        "",
        "| fault | /health/live p50, ms | p99, ms | loop lag p99.9, ms, at most | SIGTERM to the end, s |",
        "|---|---|---|---|---|",
        *(
            f"| {name} | {row['live_p50_ms']} | {row['live_p99_ms']} | {row['lag_p99_9_ms_at_most']} | "
            f"{row['sigterm_s']} |"
            for name, row in found.items()
        ),
    ]
    print("\n".join(rows))
    fill("service.md", "faults", "\n".join(rows))


if __name__ == "__main__":
    main()
