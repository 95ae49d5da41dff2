"""Reranks by embeddings, 32 clients at once beside one after the other: `python -m benchmarks.rerank_load`.

A service with an upstream and one with a local model, in turns of one client and of 32, 6 documents of 20 words. The
encoder (minilm) runs in the service, with one thread of its own for each request: what can be won is the other cores,
since a short text fills the arithmetic of a core by itself. Writes results/rerank_load.json and its lines in
docs/service.md.
"""

from __future__ import annotations

import json
import random
import statistics
import threading
import time
from pathlib import Path

import httpx2

from benchmarks.pages import fill
from benchmarks.service_faults import served
from tests.service.upstream import Scripted, completion

RESULTS = Path(__file__).parent / "results" / "rerank_load.json"
CLIENTS = 32
ROUNDS = 3
SECONDS = 6.0
WORDS = ["the", "bridge", "of", "an", "old", "town", "was", "opened", "once", "and", "has", "since", "been", "closed"]


def body(draw: random.Random) -> dict[str, object]:
    """Other documents each time."""
    documents = [" ".join(draw.choices(WORDS, k=20)) for _ in range(6)]
    return {"query": "when was it opened", "documents": documents, "fairpos": {"ranker": "embedding"}}


def reranks_per_second(url: str, clients: int) -> float:
    """Whole replies of so many clients, each of which asks again as soon as it has its reply."""
    counts = [0] * clients
    end = time.monotonic() + SECONDS

    def ask(client: int) -> None:
        draw = random.Random(client)
        with httpx2.Client(base_url=url, timeout=120) as http:
            while time.monotonic() < end:
                reply = http.post("/rerank", json=body(draw))
                assert reply.status_code == 200, reply.text
                assert len(reply.json()["results"]) == 6
                counts[client] += 1

    threads = [threading.Thread(target=ask, args=(client,)) for client in range(clients)]
    started = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(counts) / (time.monotonic() - started)


def main() -> None:
    found: dict[str, dict[str, float]] = {}
    with Scripted(completion) as up:
        for kind, arguments in (("upstream", ("--upstream", up.url)), ("local model", ("--model", "smollm2"))):
            with served(*arguments, OMP_NUM_THREADS="1") as (url, _):
                reranks_per_second(url, 1)  # the encoder is loaded
                rounds = [(reranks_per_second(url, 1), reranks_per_second(url, CLIENTS)) for _ in range(ROUNDS)]
            one, many = (statistics.median(each) for each in zip(*rounds, strict=True))
            found[kind] = {"one": round(one, 1), "many": round(many, 1), "ratio": round(many / one, 2)}
    RESULTS.write_text(json.dumps(found, indent=1) + "\n")
    rows = [
        f"| reranks a second, by embeddings | one after the other | {CLIENTS} clients | ratio |",
        "|---|---|---|---|",
        *(f"| {kind} | {row['one']} | {row['many']} | {row['ratio']} |" for kind, row in found.items()),
    ]
    print("\n".join(rows))
    fill("service.md", "reranks", "\n".join(rows))


if __name__ == "__main__":
    main()
