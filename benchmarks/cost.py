"""What every attention method costs: prefill, decoding and memory, relative to the plain model in the same run.

    python -m benchmarks.cost [--segments 2,10,20] [--batch 1,8] [--methods 'pine;set_based'] [--repeats 5]

Segments have 100 tokens, the prefix 20, the suffix 30; the model is smollm2 in float32, the plain model is transformers
with sdpa. Methods take turns within each repeat, so that a slow minute of the machine meets all of them; figures are
medians, ratios are medians of the ratios within a repeat. Peak memory is measured in processes of their own.

Writes results/cost.json, results/cost.svg and the table in docs/performance.md, in which rows that weren't measured
anew stay as they were: their ratios are to the plain model of their own run. Each run adds a line to
results/cost-history.jsonl, so that a commit that made something slower shows.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from matplotlib.figure import Figure
from rich import box
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

import fairpos
from benchmarks.memory import keep_freed_memory, peak_mb
from benchmarks.pages import fill
from fairpos.attention.cache import kept_in
from fairpos.layout import Layout
from fairpos.methods.catalogue import all_methods, parse

RESULTS = Path(__file__).parent / "results"
PREFIX, SEGMENT, SUFFIX = 20, 100, 30
# What can't run as it is, or does nothing to prompts of this length: in the table under its name, run like this.
RUN_AS = {
    "positional_hidden": f"positional_hidden:profile={RESULTS / 'positional_hidden-smollm2.json'}",
    "string, S=512": "string:S=512",
    "placements, 5 views": "placements:views=5",
    "placements, 10 views": "placements:views=10",
    "placements, 10 views of 2 bases": "placements:views=10,bases=2",
}


@dataclass(frozen=True)
class Timing:
    """One prefill and the decoding after it."""

    prefill_wall: float
    prefill_cpu: float
    decode_wall: float
    decode_cpu: float


@dataclass(frozen=True)
class Row:
    """One method in one setting; ratios are to the plain model."""

    method: str
    segments: int
    batch: int
    prefill_s: float
    prefill_cpu_s: float
    prefill_ratio: float
    prefill_cpu_ratio: float
    token_s: float
    token_ratio: float
    token_cpu_ratio: float
    peak_mb: float | None = None
    peak_extra_mb: float | None = None


def layouts(segments: int, batch: int, seed: int = 0) -> list[Layout]:
    """Prompts of random tokens; what a prompt says doesn't change what it costs."""
    draw = torch.Generator().manual_seed(seed)
    n = PREFIX + segments * SEGMENT + SUFFIX
    spans = [(PREFIX + i * SEGMENT, PREFIX + (i + 1) * SEGMENT) for i in range(segments)]
    return [Layout.of(torch.randint(100, 40_000, (n,), generator=draw).tolist(), spans) for _ in range(batch)]


def measure(fair: fairpos.FairModel, prompts: Sequence[Layout], methods: str, tokens: int) -> Timing:
    """One prefill, then `tokens` steps of one token a row.

    What an attention reads once for all its rows is a part of the prefill.
    """
    method = next(iter(parse(RUN_AS.get(methods, methods))), None)
    backend = fair.backend
    wall, cpu = time.perf_counter(), time.process_time()
    with backend.attending(prompts, method, new=tokens) as (batch, cache):  # type: ignore[attr-defined]
        new = torch.full((len(batch.layouts), 1), 100)
        backend.prefill(batch, cache)  # type: ignore[attr-defined]
        prefill = time.perf_counter() - wall, time.process_time() - cpu
        mask = batch.attention_mask()
        wall, cpu = time.perf_counter(), time.process_time()
        for _ in range(tokens):
            mask = torch.cat([mask, mask.new_ones(len(new), 1)], dim=1)
            fair.model(new, attention_mask=mask, **kept_in(cache), use_cache=True, logits_to_keep=1)
        return Timing(*prefill, time.perf_counter() - wall, time.process_time() - cpu)


def peak_in_a_process(methods: str, segments: int) -> float:
    """Peak resident memory of one prefill, measured in a process of its own; MB."""
    command = [sys.executable, "-m", "benchmarks.cost", "--peak", methods, "--segments", str(segments)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return float(done.stdout)


def rows(
    fair: fairpos.FairModel, names: Sequence[str], segments: int, batch: int, repeats: int, tokens: int
) -> Iterator[Row]:
    """All methods in one setting."""
    prompts = layouts(segments, batch)
    for name in names:
        measure(fair, prompts, name, 1)  # proves the seam, fills caches
    timings: dict[str, list[Timing]] = {name: [] for name in names}
    for _ in range(repeats):
        for name in names:
            timings[name].append(measure(fair, prompts, name, tokens))

    def ratio(name: str, field: str) -> float:
        pairs = zip(timings[name], timings["none"], strict=True)
        return statistics.median(getattr(a, field) / getattr(b, field) for a, b in pairs)

    def median(name: str, field: str) -> float:
        return statistics.median(getattr(timing, field) for timing in timings[name])

    peaks = {name: peak_in_a_process(name, segments) for name in names} if batch == 1 and segments >= 20 else {}
    for name in names:
        yield Row(
            method=name,
            segments=segments,
            batch=batch,
            prefill_s=median(name, "prefill_wall"),
            prefill_cpu_s=median(name, "prefill_cpu"),
            prefill_ratio=ratio(name, "prefill_wall"),
            prefill_cpu_ratio=ratio(name, "prefill_cpu"),
            token_s=median(name, "decode_wall") / tokens,
            token_ratio=ratio(name, "decode_wall"),
            token_cpu_ratio=ratio(name, "decode_cpu"),
            peak_mb=peaks.get(name),
            peak_extra_mb=peaks[name] - peaks["none"] if peaks else None,
        )


def table(found: Sequence[Row]) -> Table:
    """What a person reads."""
    title = "Ratios to the plain model, wall and CPU; peak memory more than it"
    shown = Table(title=title, box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), show_edge=False)
    for column in ("K", "batch", "method", "prefill", "ratio", "cpu", "token", "ratio", "cpu", "MB"):
        shown.add_column(column, justify="left" if column == "method" else "right", no_wrap=True)
    for row in found:
        shown.add_row(
            str(row.segments),
            str(row.batch),
            row.method,
            f"{row.prefill_s:.2f} s",
            f"{row.prefill_ratio:.2f}",
            f"{row.prefill_cpu_ratio:.2f}",
            f"{1e3 * row.token_s:.0f} ms",
            f"{row.token_ratio:.2f}",
            f"{row.token_cpu_ratio:.2f}",
            "" if row.peak_extra_mb is None else f"{row.peak_extra_mb:+.0f}",
        )
    return shown


def markdown(found: Sequence[Row], threads: int) -> str:
    """What docs/performance.md shows."""
    lines = [
        f"{threads} threads; wall time relative to the plain model's in the same round, processor time in brackets.",
        "Rows may be of different runs (results/cost-history.jsonl): seconds then differ as machines do, ratios less.",
        "",
        "| segments | batch | method | prefill, s | prefill | token, ms | token | peak memory, MB more |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in found:
        peak = "" if row.peak_extra_mb is None else f"{row.peak_extra_mb:+.0f}"
        lines.append(
            f"| {row.segments} | {row.batch} | {row.method} | {row.prefill_s:.2f} | {row.prefill_ratio:.2f} "
            f"({row.prefill_cpu_ratio:.2f}) | {1e3 * row.token_s:.0f} | {row.token_ratio:.2f} "
            f"({row.token_cpu_ratio:.2f}) | {peak} |"
        )
    return "\n".join(lines)


def plot(found: Sequence[Row], path: Path) -> None:
    """Prefill ratio by number of segments, a line a method, batch 1."""
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    for name in dict.fromkeys(row.method for row in found):
        line = sorted((row.segments, row.prefill_ratio) for row in found if row.method == name and row.batch == 1)
        axes.plot(*zip(*line, strict=True), marker="o", label=name)
    axes.set_xlabel("segments of 100 tokens")
    axes.set_ylabel("prefill, relative to the plain model")
    axes.set_ylim(0)
    axes.set_xticks(sorted({row.segments for row in found}))
    figure.legend(loc="outside right upper", frameon=False, fontsize=8)
    figure.savefig(path)


def main() -> None:
    """Measures, prints, writes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--segments", default="2,10,20")
    parser.add_argument("--batch", default="1")
    parser.add_argument("--methods", default="", help="separated by semicolons")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--peak", help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.set_grad_enabled(False)
    fair = fairpos.load("smollm2", device="cpu")
    sizes = [int(size) for size in options.segments.split(",")]
    if options.peak:
        print(peak_mb(lambda: measure(fair, layouts(sizes[0], 1), options.peak, 1)))
        return
    keep_freed_memory()
    own = [name for name, cls in all_methods().items() if cls.family == "attention" and name != "placements"]
    own += [name for name in RUN_AS if "," in name]
    names = ["none", *(options.methods.split(";") if options.methods else own)]
    found: list[Row] = []
    batches = [int(batch) for batch in options.batch.split(",")]
    with Progress(console=Console(stderr=True)) as bar:
        task = bar.add_task("measuring", total=len(sizes) * len(batches))
        for batch in batches:
            for size in sizes:
                # Placements reads prompts one by one: a batch has nothing to show.
                some = [name for name in names if batch == 1 or not name.startswith("placements")]
                found += rows(fair, some, size, batch, options.repeats, options.tokens)
                bar.advance(task)
    Console().print(table(found))
    path = RESULTS / "cost.json"
    record = {
        "date": time.strftime("%Y-%m-%d"),
        "commit": subprocess.run(
            ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False
        ).stdout.strip(),
        "torch": torch.__version__,
        "threads": options.threads,
        "repeats": options.repeats,
        "rows": [asdict(row) for row in found],
    }
    with (RESULTS / "cost-history.jsonl").open("a") as history:
        history.write(json.dumps(record) + "\n")
    before = [Row(**row) for row in json.loads(path.read_text())["rows"]] if path.exists() else []
    anew = {(row.segments, row.batch, row.method) for row in found}
    found += [row for row in before if (row.segments, row.batch, row.method) not in anew]
    found.sort(key=lambda row: (row.batch, row.segments, row.method != "none", row.method))
    path.write_text(json.dumps(record | {"rows": [asdict(row) for row in found]}, indent=1) + "\n")
    plot(found, RESULTS / "cost.svg")
    fill("performance.md", "cost", markdown(found, options.threads))


if __name__ == "__main__":
    main()
