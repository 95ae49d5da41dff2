"""What views cost: ranking 5 passages by the first token in 5 orders, in plain prefills.

    python -m benchmarks.views [--repeats 9]

smollm2 in float32; 5 passages of 100 tokens, prefix 20, suffix 30, as in benchmarks.cost. Two plain prefills are timed:
of one order with the logits of its last position alone, as fairpos asks, and with the logits of every position, as
`model(ids)` gives them. Turns are interleaved; ratios are medians of those within a turn. Writes
results/views.json and its table in docs/performance.md.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import track

import fairpos
from benchmarks.cost import layouts
from benchmarks.memory import keep_freed_memory
from benchmarks.pages import fill
from fairpos.backends.hf import HFBackend
from fairpos.layout import Layout
from fairpos.orders import designs

RESULTS = Path(__file__).parent / "results"
K = 5


def reordered(layout: Layout, order: tuple[int, ...]) -> Layout:
    """A prompt with its segments, all of one length, in another order."""
    ids, (first, last) = layout.input_ids, (layout.prefix_end, layout.suffix_start)
    moved = [token for i in order for token in ids[slice(*layout.spans[i])]]
    return Layout.of([*ids[:first], *moved, *ids[last:]], layout.spans)


def seconds(run: Callable[[], object]) -> tuple[float, float]:
    """Wall and processor time."""
    wall, cpu = time.perf_counter(), time.process_time()
    run()
    return time.perf_counter() - wall, time.process_time() - cpu


def main() -> None:
    """Measures, prints, writes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    keep_freed_memory()
    torch.set_grad_enabled(False)
    fair = fairpos.load("smollm2", device="cpu")
    backend = fair.backend
    assert isinstance(backend, HFBackend)
    [layout] = layouts(K, 1)
    ids = torch.tensor([layout.input_ids])
    views = [reordered(layout, order) for order in designs.cyclic(K, 5, seed=0)]
    labels = [[token] for token in range(5)]
    arms: dict[str, Callable[[], object]] = {
        "plain": lambda: fair.model(ids, logits_to_keep=1),
        "plain, all logits": lambda: fair.model(ids),
        "5 views": lambda: backend.score(views, [labels] * K),
    }
    rounds = track(range(options.repeats + 1), "measuring", console=Console(stderr=True))
    turns = [{name: seconds(run) for name, run in arms.items()} for _ in rounds][1:]  # the first one warms up
    record: dict[str, object] = {"threads": options.threads, "repeats": options.repeats}
    for name in ("plain", "plain, all logits"):
        for clock, what in enumerate(("wall", "cpu")):
            ratios = [turn["5 views"][clock] / turn[name][clock] for turn in turns]
            record[f"5 views / {name}, {what}"] = round(statistics.median(ratios), 3)
    for name in arms:
        record[f"{name}, s"] = round(statistics.median(turn[name][0] for turn in turns), 3)
    for key, value in record.items():
        print(f"{key:32} {value}")
    rows = [f"| {key} | {value} |" for key, value in record.items()]
    fill("performance.md", "views", "\n".join(["| 5 views of 5 passages | |", "|---|---|", *rows]))
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "views.json").write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
