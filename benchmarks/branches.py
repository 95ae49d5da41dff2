"""Candidates as branches of one pass: how much faster than a pass for each, and what the ranker `candidates` finds.

    python -m benchmarks.branches         some 5 minutes on one core

SmolLM2-135M-Instruct in float32. Time: 20 candidates of 30 tokens after 400, processor seconds of one core (which other
work on the machine hardly moves), the least of two runs. Hits: how often the gold passage of NQ-open is first among
itself and 4 hard distractors (every fourth question of data/nq_groups10.jsonl), .20 by chance, with Wilson's interval.
Results go to results/branches.json.
"""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable
from pathlib import Path

import torch

import fairpos
from benchmarks.heads import questions
from fairpos import FairModel
from fairpos.backends.branches import score_in_branches
from fairpos.backends.hf import HFBackend
from fairpos.layout import Layout
from fairpos.metrics import wilson_interval

RESULTS = Path(__file__).parent / "results" / "branches.json"
RANKERS = ("candidates", "candidates:own=kept", "likelihood")
PREFIX, COUNT, LENGTH = 400, 20, 30


def least_seconds(work: Callable[[], list[float]]) -> tuple[float, list[float]]:
    """Processor seconds of the faster of two runs, and what it gave."""
    runs = []
    for _ in range(2):
        started = time.process_time()
        found = work()
        runs.append((time.process_time() - started, found))
    return min(runs)


def timed(backend: HFBackend) -> dict[str, float]:
    """One pass beside the two other ways to score the same candidates."""
    draw = random.Random(0)
    prompt = Layout(tuple(draw.randrange(1000, 40000) for _ in range(PREFIX)), ())
    replies = [tuple(draw.randrange(1000, 40000) for _ in range(LENGTH)) for _ in range(COUNT)]

    def in_branches() -> list[float]:
        return list(score_in_branches(backend, [prompt], [replies], None)[0].log_probs)

    def one_by_one() -> list[float]:
        return list(backend.score([prompt], [replies])[0][0])

    def apart() -> list[float]:
        return [backend.score([prompt], [[reply]])[0][0][0] for reply in replies]

    in_branches()  # the seam proves itself once
    (branched, found), (continued, _), (separate, expected) = map(least_seconds, (in_branches, one_by_one, apart))
    return {
        "branches_s": branched,
        "one_by_one_s": continued,
        "separate_s": separate,
        "times_as_fast_as_separate": separate / branched,
        "times_as_fast_as_one_by_one": continued / branched,
        "largest_difference": max(abs(a - b) for a, b in zip(found, expected, strict=True)),
    }


def hits(fair: FairModel, ranker: str) -> dict[str, object]:
    """How often the gold passage is first."""
    items = questions(range(10))[::4]
    right = sum(
        fair.rank(item.request.query, item.request.segments, ranker=ranker).winner == item.gold for item in items
    )
    return {"questions": len(items), "hits": right / len(items), "interval": wilson_interval(right, len(items))}


def main() -> None:
    torch.set_num_threads(1)
    fair = fairpos.load("smollm2")
    assert isinstance(fair.backend, HFBackend)
    results: dict[str, object] = {"time": timed(fair.backend)}
    for ranker in RANKERS:
        results[ranker] = hits(fair, ranker)
    RESULTS.write_text(json.dumps(results, indent=1) + "\n")
    print(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
