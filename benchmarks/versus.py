"""What every attention method costs on two revisions, side by side: did a change make anything slower?

    python -m benchmarks.versus 84dff32 [--segments 2,10] [--methods 'pine;set_based'] [--repeats 7]

A process for each revision (the other one from a checkout of its own), smollm2 in float32, prompts as in
`benchmarks.cost`. They take turns within each repeat, one measuring while the other waits, so that a slow minute of the
machine meets both. Figures are medians; the ratios, this revision's to the other's, are medians within a repeat. "none
again" is this revision against itself: the noise.

Writes results/versus.json.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import track
from rich.table import Table

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "versus.json"
METHODS = "none;set_based;pine;ape;graph_kv;ms_poe;string:S=512"


def serve() -> None:
    """A worker: a measurement for every line of stdin; it finds out what things are called in its revision."""
    import torch

    import fairpos
    from benchmarks.cost import layouts
    from benchmarks.memory import keep_freed_memory
    from fairpos.attention.cache import kept_in

    try:
        from fairpos.methods.catalogue import parse
    except ImportError:
        from fairpos.registry import parse  # type: ignore[attr-defined,no-redef]

    keep_freed_memory()
    fair: Any = fairpos.load("smollm2", device="cpu")
    backend = fair.backend
    prefill = getattr(backend, "prefill", None) or backend._prefill
    for line in sys.stdin:
        asked = json.loads(line)
        [method, *_] = [*parse(asked["method"]), None]
        prompts, tokens = layouts(asked["segments"], 1), asked["tokens"]
        begun = time.perf_counter()
        with backend.attending(prompts, method, new=tokens) as (batch, cache):
            prefill(batch, cache)
            read = time.perf_counter()
            mask = batch.attention_mask()
            for _ in range(tokens):
                mask = torch.cat([mask, mask.new_ones(len(mask), 1)], dim=1)
                new = torch.full((len(mask), 1), 100)
                fair.model(new, attention_mask=mask, **kept_in(cache), use_cache=True, logits_to_keep=1)
        print(json.dumps([read - begun, time.perf_counter() - read]), flush=True)


class Worker:
    """One revision's process."""

    def __init__(self, folder: Path, threads: int) -> None:
        environment = os.environ | {"PYTHONPATH": str(folder), "OMP_NUM_THREADS": str(threads)}
        # This file's worker, on the other revision's code.
        script = f"import runpy; runpy.run_path({str(Path(__file__))!r})['serve']()"
        self.process = subprocess.Popen(
            [sys.executable, "-c", script],
            cwd=folder,
            env=environment,
            text=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )

    def measure(self, method: str, segments: int, tokens: int) -> tuple[float, float]:
        """Seconds of the prefill and of the tokens after it."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps({"method": method, "segments": segments, "tokens": tokens}) + "\n")
        self.process.stdin.flush()
        prefill, decoding = json.loads(self.process.stdout.readline())
        return prefill, decoding


@contextmanager
def workers(revision: str, threads: int) -> Iterator[dict[str, Worker]]:
    """This revision's and the other's."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory())) / "other"
        subprocess.run(["git", "-C", ROOT, "worktree", "add", "--quiet", "--detach", folder, revision], check=True)
        stack.callback(subprocess.run, ["git", "-C", ROOT, "worktree", "remove", "--force", folder], check=True)
        found = {"other": Worker(folder, threads), "this": Worker(ROOT, threads)}
        for worker in found.values():
            stack.callback(worker.process.wait)
            stack.callback(worker.process.terminate)
        yield found


def compare(
    found: dict[str, Worker], method: str, segments: int, repeats: int, tokens: int
) -> dict[str, float | int | str]:
    """One method at one size: this revision's seconds to the other's."""
    for worker in found.values():
        worker.measure(method, segments, 1)  # proves the seam
    ratios: dict[str, list[float]] = {"prefill": [], "token": [], "none again": []}
    seconds: dict[str, list[float]] = {"this": [], "other": []}
    for repeat in range(repeats):
        order = ["other", "this"] if repeat % 2 else ["this", "other"]
        times = {name: found[name].measure(method, segments, tokens) for name in order}
        again = found["this"].measure(method, segments, tokens) if method == "none" else None
        for name, (prefill, _) in times.items():
            seconds[name].append(prefill)
        ratios["prefill"].append(times["this"][0] / times["other"][0])
        ratios["token"].append(times["this"][1] / times["other"][1])
        if again is not None:
            ratios["none again"].append(times["this"][0] / again[0])
    medians = {name: round(statistics.median(values), 3) for name, values in (ratios | seconds).items() if values}
    return {"method": method, "segments": segments, **medians}


def main() -> None:
    """Measures, prints, writes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("revision", help="the other revision, as git names it")
    parser.add_argument("--segments", default="2,10")
    parser.add_argument("--methods", default=METHODS, help="joined by ;")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--tokens", type=int, default=8)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    cases = [(method, int(n)) for n in options.segments.split(",") for method in options.methods.split(";")]
    with workers(options.revision, options.threads) as found:
        rows = [
            compare(found, method, segments, options.repeats, options.tokens)
            for method, segments in track(cases, "in turns", console=Console(stderr=True))
        ]
    table = Table(title=f"This revision's seconds to those of {options.revision}, {options.threads} threads")
    for column in ("segments", "method", "prefill", "token", "s, this", "s, other", "none again"):
        table.add_column(column)
    for row in rows:
        names = ("segments", "method", "prefill", "token", "this", "other", "none again")
        table.add_row(*(str(row.get(name, "")) for name in names))
    Console().print(table)
    RESULTS.write_text(json.dumps({"revision": options.revision, "rows": rows}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
