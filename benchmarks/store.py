"""What a segment store saves: time to first token with every passage in it, and a stream of requests over a corpus.

    python -m benchmarks.store [--repeats 5]

smollm2 in float32, 20 passages of 100 tokens, prefix 20, suffix 30, as in benchmarks.cost. The stream is 20 requests of
20 different passages each out of 100, drawn with Zipf weights (exponent 1) from a fixed seed; the store starts empty.
Plain and stored requests take turns; figures are medians, ratios those of the same turn. Writes
results/store.json and its table in docs/performance.md.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.progress import track

import fairpos
from benchmarks.cost import PREFIX, SEGMENT, SUFFIX, layouts
from benchmarks.memory import keep_freed_memory
from benchmarks.pages import fill
from fairpos.attention.store import SegmentStore
from fairpos.layout import Layout
from fairpos.methods.catalogue import parse

RESULTS = Path(__file__).parent / "results"
K, CORPUS, REQUESTS = 20, 100, 20


def stream(seed: int = 0) -> list[Layout]:
    """Requests over a corpus; all share their prefix."""
    draw = np.random.default_rng(seed)
    corpus = draw.integers(100, 40_000, (CORPUS, SEGMENT))
    weights = 1 / np.arange(1, CORPUS + 1)
    prefix = draw.integers(100, 40_000, PREFIX).tolist()
    found = []
    for _ in range(REQUESTS):
        chosen = draw.choice(CORPUS, K, replace=False, p=weights / weights.sum())
        ids = [*prefix, *corpus[chosen].ravel().tolist(), *draw.integers(100, 40_000, SUFFIX).tolist()]
        found.append(Layout.of(ids, [(PREFIX + i * SEGMENT, PREFIX + (i + 1) * SEGMENT) for i in range(K)]))
    return found


def seconds(fair: fairpos.FairModel, layout: Layout, methods: str) -> float:
    """Wall time until the logits of the first new token."""
    started = time.perf_counter()
    fair.backend.logits([layout], next(iter(parse(methods)), None))  # type: ignore[attr-defined]
    return time.perf_counter() - started


def markdown(record: dict[str, float]) -> str:
    """The record as a table."""
    rows = [
        ("prefill of a prompt whose passages are all in the store", f"{record['stored_ratio']:.2f} of plain"),
        ("the same with an empty store, which it fills", f"{record['cold_ratio']:.2f} of plain"),
        (
            f"{REQUESTS} requests of {K} passages out of {CORPUS} (Zipf), from an empty store",
            f"{record['stream_speedup']:.1f} times as fast as plain "
            f"({record['stream_stored_s']:.0f} s for {record['stream_plain_s']:.0f} s)",
        ),
        ("passages and prefixes found, not found", f"{record['stream_hits']:.0f}, {record['stream_misses']:.0f}"),
        ("memory held at the end", f"{record['stream_held_mb']:.0f} MB"),
    ]
    return "\n".join(["| segment store | |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows)])


def main() -> None:
    """Measures, prints, writes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    keep_freed_memory()
    plain = fairpos.load("smollm2", device="cpu")
    [layout] = layouts(K, 1)
    kept = fairpos.wrap(plain.model, plain.tokenizer, store=SegmentStore())
    seconds(kept, layout, "set_based")
    turns = []
    for _ in track(range(options.repeats), "first token", console=Console(stderr=True)):
        cold = fairpos.wrap(plain.model, plain.tokenizer, store=SegmentStore())
        turns.append(
            (seconds(plain, layout, "none"), seconds(cold, layout, "set_based"), seconds(kept, layout, "set_based"))
        )
    fresh = fairpos.wrap(plain.model, plain.tokenizer, store=SegmentStore())
    pairs = [
        (seconds(plain, request, "none"), seconds(fresh, request, "set_based"))
        for request in track(stream(), "stream", console=Console(stderr=True))
    ]
    store = fresh.backend.store.statistics  # type: ignore[attr-defined]
    record = {
        "plain_s": statistics.median(turn[0] for turn in turns),
        "cold_ratio": statistics.median(turn[1] / turn[0] for turn in turns),
        "stored_ratio": statistics.median(turn[2] / turn[0] for turn in turns),
        "stream_plain_s": sum(pair[0] for pair in pairs),
        "stream_stored_s": sum(pair[1] for pair in pairs),
        "stream_speedup": sum(pair[0] for pair in pairs) / sum(pair[1] for pair in pairs),
        "stream_hits": store.hits,
        "stream_misses": store.misses,
        "stream_held_mb": store.bytes_held / 1e6,
        "threads": options.threads,
        "repeats": options.repeats,
    }
    for name, value in record.items():
        print(f"{name:18} {value:.3f}" if isinstance(value, float) else f"{name:18} {value}")
    fill("performance.md", "store", markdown(record))
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "store.json").write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
