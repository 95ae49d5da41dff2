"""10,000 mixed requests while the upstream fails at random: `python -m benchmarks.service_mixed --requests 10000`.

Chats whole and streamed, with documents and without, votes, rerank, judge, and the chats of other APIs, from 32 clients
at once; of the upstream's replies a share is late, refused, garbage, or breaks off (`FAULTS`). Every request must be
answered once: by a result, by an error in JSON, by a stream that ends or says that it failed, or, where a reply that is
passed on breaks off in its middle, by a connection that is closed there. What is lost is a request without any of
these. The service is a process of its own, whose memory may not grow.

10,000 take about three minutes of one core. Writes results/service_mixed.json.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import re
import statistics
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path

import httpx2

from benchmarks.service_faults import served
from tests.service.upstream import (
    Connection,
    Received,
    Scripted,
    answers_garbage,
    completion,
    dies_before,
    dies_in_body,
    dies_in_stream,
    is_busy,
    speaks_garbage,
    whole,
)

RESULTS = Path(__file__).parent / "results" / "service_mixed.json"
CLIENTS = 32
QUESTION = [{"role": "user", "content": "Which?"}]
DOCUMENTS = ["alpha", "beta", "gamma"]


async def fails(_: Received, connection: Connection) -> None:
    """Says 500."""
    await connection.json({"error": {"message": "oh"}}, 500)


async def is_late(request: Received, connection: Connection) -> None:
    """Answers after a moment."""
    await asyncio.sleep(0.2)
    await answers(request, connection)


async def answers(request: Received, connection: Connection) -> None:
    """A verdict that is a ranking and a text too."""
    if request.method == "GET":
        await connection.json({"data": [{"id": "m", "object": "model"}]})
    elif request.body.get("stream"):
        await completion(request, connection)
    else:
        await connection.json(whole("[1] > [2] > [3]" if b"Rank passages" in request.content else "[[A]]"))


FAULTS = (is_late, is_busy, fails, dies_before, speaks_garbage, answers_garbage, dies_in_body, dies_in_stream)
REQUESTS: dict[str, tuple[str, dict[str, object]]] = {
    "chat": ("/v1/chat/completions", {"messages": QUESTION}),
    "chat stream": ("/v1/chat/completions", {"messages": QUESTION, "stream": True}),
    "chat documents": ("/v1/chat/completions", {"messages": QUESTION, "documents": DOCUMENTS}),
    "chat documents stream": ("/v1/chat/completions", {"messages": QUESTION, "documents": DOCUMENTS, "stream": True}),
    "votes": ("/v1/chat/completions", {"messages": QUESTION, "documents": DOCUMENTS,
                                       "fairpos": {"methods": "permutation:views=3"}}),
    "rerank": ("/rerank", {"query": "q", "documents": DOCUMENTS}),
    "judge": ("/v1/judge", {"instruction": "i", "answers": ["x", "y"]}),
    "messages": ("/v1/messages", {"messages": QUESTION, "documents": DOCUMENTS, "max_tokens": 4}),
    "messages stream": ("/v1/messages", {"messages": QUESTION, "documents": DOCUMENTS, "max_tokens": 4,
                                         "stream": True}),
    "responses stream": ("/v1/responses", {"input": "q", "documents": DOCUMENTS, "stream": True}),
    "cohere": ("/v2/chat", {"messages": QUESTION, "documents": DOCUMENTS}),
    "cohere stream": ("/v2/chat", {"messages": QUESTION, "documents": DOCUMENTS, "stream": True}),
    "models": ("/v1/models", {}),
}  # fmt: skip


def unreliable(seed: int, share: float) -> Callable[[Received, Connection], Awaitable[None]]:
    """An upstream that fails so often."""
    draw = random.Random(seed)

    async def handler(request: Received, connection: Connection) -> None:
        fault = draw.choice(FAULTS) if draw.random() < share else answers
        await fault(request, connection)

    return handler


def outcome_of(reply: httpx2.Response, body: dict[str, object]) -> str:
    """What a reply is; "lost: ..." if it is nothing that a client can read."""
    if reply.headers.get("content-type", "").startswith("text/event-stream"):
        return stream_outcome(reply.text, wanted=bool(body.get("stream")))
    try:
        found = reply.json()
    except ValueError:  # passed on as it came, for the client to judge
        return "garbage of the upstream" if reply.status_code < 400 else f"lost: {reply.status_code} without JSON"
    return str(reply.status_code) if isinstance(found, dict) else f"lost: {reply.status_code} with {reply.text[:40]!r}"


def stream_outcome(text: str, *, wanted: bool) -> str:
    """What a stream is, by its last event."""
    *_, last = [line.removeprefix("data:").strip() for line in text.splitlines() if line.startswith("data:")] or [""]
    try:
        event = json.loads(last) if last != "[DONE]" else {"type": "[DONE]"}
    except ValueError:
        return "lost: a stream that ends with no event"
    kind = event.get("type")
    if kind == "error":
        return "stream with an error at its end"
    if kind in ("[DONE]", "response.completed", "response.incomplete", "message_stop", "message-end"):
        return "stream" if wanted else "stream that wasn't asked for"
    return "lost: a stream that ends in its middle"


async def ask_all(url: str, process_id: int, count: int, seed: int) -> tuple[Counter[str], list[float]]:
    """Sends them; what came of each, and the service's memory (MB) a hundred times on the way."""
    draw = random.Random(seed)
    names = [draw.choice(list(REQUESTS)) for _ in range(count)]
    waiting = iter(names)
    seen: Counter[str] = Counter()
    memory: list[float] = []

    async def work() -> None:
        async with httpx2.AsyncClient(timeout=60, limits=httpx2.Limits(max_keepalive_connections=0)) as client:
            for name in waiting:
                path, body = REQUESTS[name]
                try:
                    reply = await (client.get(url + path) if not body else client.post(url + path, json=body))
                    seen[outcome_of(reply, body)] += 1
                except httpx2.RemoteProtocolError as error:
                    begun = "incomplete" in str(error) or "received" in str(error)
                    seen["cut off in the middle" if begun else f"lost: {error}"] += 1
                except httpx2.TransportError as error:
                    seen[f"lost: {type(error).__name__}"] += 1
                if sum(seen.values()) % max(1, count // 100) == 0:
                    memory.append(resident_mb(process_id))

    await asyncio.gather(*(work() for _ in range(CLIENTS)))
    return seen, memory


def resident_mb(process_id: int) -> float:
    """Resident memory of a process."""
    found = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{process_id}/status").read_text(encoding="utf-8"))
    assert found is not None
    return int(found[1]) / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--share", type=float, default=0.3, help="of the upstream's replies that fail")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    began = time.monotonic()
    with (
        Scripted(unreliable(options.seed, options.share)) as up,
        served("--upstream", up.url, FAIRPOS_RANKER="generate") as (url, process),
    ):
        seen, memory = asyncio.run(ask_all(url, process.pid, options.requests, options.seed))
        alive = httpx2.get(url + "/health/ready", timeout=30).status_code
    third = statistics.median(memory[len(memory) // 3 : len(memory) // 2])
    last = statistics.median(memory[-len(memory) // 6 :])
    found = {
        "requests": options.requests,
        "answered": sum(count for kind, count in seen.items() if not kind.startswith("lost")),
        "lost": sum(count for kind, count in seen.items() if kind.startswith("lost")),
        "outcomes": dict(sorted(seen.items())),
        "memory_mb_after_a_third": round(third, 1),
        "memory_mb_at_the_end": round(last, 1),
        "growth_percent": round(100 * (last / third - 1), 1),
        "ready_afterwards": alive,
        "seconds": round(time.monotonic() - began),
    }
    RESULTS.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
