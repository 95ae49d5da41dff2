"""Wall time of long lists on an endpoint, against the critical path: calls that need each other's results.

    python -m benchmarks.windows_latency        writes benchmarks/results/windows_latency.json, docs/ranking.md

100 passages, windows of 20, stride 10, 5 views of each window: 9 windows one after the other, the 5 views of a window
at once, so a query's critical path is 9 calls. A fake endpoint in a process of its own answers every call after 50 ms.
With more queries than the bound on calls at once has room for, a round takes as many latencies as it has waves of 16.

What is measured on top of the path is ours (rendering, HTTP, parsing, aggregation: some 2 ms of one core a call) and
the machine's. To tell them apart, the same 9 rounds of 5 calls are made in turns with httpx2 alone, by a client that
looks at nothing. One call before opens the first connection, as in any run that is longer than a second.

More queries at once fill the bound, but they run in step, so their rounds wait for each other, and the 2 ms a call of
one process stand out against a latency as short as this one; against a real model's seconds they don't.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import multiprocessing
import random
import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import httpx2

from benchmarks.pages import fill
from fairpos import FairModel, Request, Segment
from fairpos.backends.openai import OpenAIBackend
from fairpos.backends.openai_client import OpenAIClient
from tests.fake_endpoint import FakeEndpoint, Reply
from tests.ranking_endpoint import listwise

RESULTS = Path(__file__).parent / "results"
PASSAGES, SIZE, STRIDE, VIEWS = 100, 20, 10, 5
LATENCY_S = 0.05
CONCURRENCY = 16


@dataclass(frozen=True)
class Timing:
    """One measurement: seconds, and what they would be without any cost of ours."""

    queries: int
    kind: str
    calls: int
    rounds: int
    critical_path_s: float
    wall_s: float

    @property
    def ratio(self) -> float:
        return self.wall_s / self.critical_path_s


def requests(count: int) -> list[Request]:
    """Queries over 100 passages each, which say what they are worth; no scores, so windows start in canonical order."""
    made = []
    for q in range(count):
        worth = random.Random(q).sample(range(1000), PASSAGES)
        passages = tuple(Segment(id=f"d{i}", text=f"query {q} text {i} worth {worth[i]}") for i in range(PASSAGES))
        made.append(Request("rank", f"question {q}?", passages))
    return made


def measure(url: str, queries: int, kind: str = "sliding") -> Timing:
    """Ranks the queries together, and checks that the best 10 of each come first."""
    asked = requests(queries)
    stride = STRIDE if kind == "sliding" else SIZE // 2
    with OpenAIClient(url, api_key="", concurrency=CONCURRENCY) as client:
        fair = FairModel(OpenAIBackend(client, "m", logprobs=False))
        fair.rank("warm up?", ["text worth 1"], ranker="generate")
        started = time.perf_counter()
        outputs = fair.run(
            asked, f"windows:size={SIZE},stride={stride},kind={kind}+permutation:views={VIEWS}", ranker="generate"
        )
        wall = time.perf_counter() - started
    for request, output in zip(asked, outputs, strict=True):
        worth = {s.id: int(s.text.split()[-1]) for s in request.segments}
        if set(output.ranking[:10]) != set(sorted(worth, key=lambda id: -worth[id])[:10]):
            raise AssertionError("the endpoint ranks without error, so the best 10 must come first")
    calls = sum(output.usage.calls for output in outputs)
    rounds = _rounds(kind)
    path = sum(math.ceil(queries * VIEWS * windows / CONCURRENCY) for windows in rounds) * LATENCY_S
    return Timing(queries, kind, calls, len(rounds), path, wall)


def bare(url: str) -> Timing:
    """As many rounds of as many calls as one query's sliding windows, with httpx2 and nothing else."""
    passages = "\n".join(f"[{i}] query 0 text {i} worth {i}" for i in range(1, SIZE + 1))
    body = {"model": "m", "messages": [{"role": "user", "content": passages}], "max_tokens": 128, "temperature": 0}
    rounds = len(_rounds("sliding"))

    async def run() -> float:
        async with httpx2.AsyncClient(timeout=60) as client:

            async def call() -> None:
                (await client.post(f"{url}/chat/completions", json=body)).raise_for_status()

            await call()
            started = time.perf_counter()
            for _ in range(rounds):
                await asyncio.gather(*(call() for _ in range(VIEWS)))
            return time.perf_counter() - started

    return Timing(1, "sliding, httpx2 alone", rounds * VIEWS, rounds, rounds * LATENCY_S, asyncio.run(run()))


def _rounds(kind: str) -> list[int]:
    """Windows asked at once, round by round."""
    if kind == "sliding":
        return [1] * ((PASSAGES - SIZE) // STRIDE + 1)
    rounds, left = [], PASSAGES
    while left > SIZE:
        windows = math.ceil(left / SIZE)
        rounds.append(windows)
        left = windows * (SIZE // 2)
    return [*rounds, 1]


@contextmanager
def endpoint() -> Iterator[str]:
    """The URL of a fake endpoint in a process of its own, which shares no interpreter lock with the client."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(theirs,), daemon=True)
    process.start()
    try:
        yield ours.recv()
    finally:
        ours.send("stop")
        process.join()


def _serve(pipe: Connection) -> None:
    with FakeEndpoint(_reply) as served:
        pipe.send(served.url)
        pipe.recv()


def _reply(body: dict[str, Any], nth: int) -> Reply:  # noqa: ARG001
    return listwise(body, latency_s=LATENCY_S)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5)
    repeats = parser.parse_args().repeats
    rows = []
    with endpoint() as url:
        measured = [
            partial(measure, url, 1),
            partial(bare, url),
            partial(measure, url, 3),
            partial(measure, url, 10),
            partial(measure, url, 1, "disjoint"),
        ]
        turns = [[run() for run in measured] for _ in range(repeats)]
        for found in zip(*turns, strict=True):
            walls = sorted(timing.wall_s for timing in found)
            best, middle, path = walls[0], statistics.median(walls), found[0].critical_path_s
            row = asdict(found[0]) | {
                "wall_s": round(middle, 4),
                "ratio": round(middle / path, 3),
                "best_wall_s": round(best, 4),
                "best_ratio": round(best / path, 3),
            }
            rows.append(row)
            print(row)
    RESULTS.mkdir(exist_ok=True)
    settings = {
        "passages": PASSAGES,
        "window": SIZE,
        "stride": STRIDE,
        "views": VIEWS,
        "latency_s": LATENCY_S,
        "concurrency": CONCURRENCY,
        "repeats": repeats,
    }
    (RESULTS / "windows_latency.json").write_text(json.dumps({"settings": settings, "rows": rows}, indent=1) + "\n")
    lines = [
        f"{repeats} runs; {PASSAGES} passages, windows of {SIZE}, {VIEWS} views, {LATENCY_S * 1000:.0f} ms a call, at "
        f"most {CONCURRENCY} at once.",
        "",
        "| windows | queries | calls | rounds | critical path, s | median, s | ratio | best, s | ratio |",
        "|---|---|---|---|---|---|---|---|---|",
        *(
            f"| {r['kind']} | {r['queries']} | {r['calls']} | {r['rounds']} | {r['critical_path_s']:.2f} | "
            f"{r['wall_s']:.3f} | {r['ratio']:.2f} | {r['best_wall_s']:.3f} | {r['best_ratio']:.2f} |"
            for r in rows
        ),
    ]
    fill("ranking.md", "windows", "\n".join(lines))


if __name__ == "__main__":
    main()
