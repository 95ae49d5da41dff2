"""Bits that don't depend on the batch: requests in four orders each, shuffled into batches of 1 to 16 with strangers.

    python -m benchmarks.batch_bits [--requests 200] [--dtypes float32 bfloat16] [--only bits]

smollm2. Half of the requests are answered (CommonsenseQA's questions, their options as passages, 4 tokens), half are
choices (MMLU). Each stands in four orders; the (request, order) pairs are shuffled and cut into batches of 1 to 16;
every batch runs in one call of the backend, beside up to two strangers under another method. A request has as many
results as there are different texts, scores and winners among its four. The column "never" is the same with
batch_invariance="never", which is what batching did before, on an eighth of the requests.

Throughput: 16 requests together, "order_free" and "never" in turns; prompts and answers of three kinds. Writes
results/batch_bits.json and its tables in docs/performance.md.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import track

import fairpos
from benchmarks.memory import keep_freed_memory
from benchmarks.pages import fill
from fairpos.backends.base import Decoding
from fairpos.backends.hf import HFBackend
from fairpos.backends.work import Work, finish, together
from fairpos.methods.catalogue import parse
from fairpos.passages import as_segments
from fairpos.rankers.base import find_ranker
from fairpos.runner import start
from fairpos.types import Output, Request, Task

RESULTS = Path(__file__).parent / "results"
DATA = Path(__file__).parent / "data"
METHODS = ("set_based", "pine", "permutation:views=2")
ORDERS = 4
MOST = 16  # requests of a batch
STRANGERS = 2
ANSWER_TOKENS = 4
# What throughput is measured on: task, new tokens, passages of about 100 tokens, in words.
KINDS: dict[str, tuple[Task, int, int, str]] = {
    "answer": ("answer", 24, 5, "5 passages, 24 tokens"),
    "choose": ("choose", 1, 5, "5 passages, a choice"),
    "short": ("answer", 24, 2, "2 passages, 24 tokens"),
}


def records(name: str) -> list[dict[str, object]]:
    """Lines of a data file."""
    return [json.loads(line) for line in (DATA / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()]


def some_requests(count: int) -> list[Request]:
    """Answers and choices by turns."""
    asked = [
        Request(task, str(item["question"]), as_segments([str(option) for option in item["options"]]))  # type: ignore[attr-defined]
        for task, name in (("answer", "csqa"), ("choose", "mmlu"))
        for item in records(name)[: count // 2]
    ]
    return sorted(asked, key=lambda request: len(request.query))[:count]


def work_of(requests: Sequence[Request], methods: str, backend: HFBackend, tokens: int) -> Work[list[Output]]:
    """What `FairModel.run` would run."""
    ranker = find_ranker("first_token")
    return start(requests, parse(methods), backend, ranker=ranker, decoding=Decoding(max_new_tokens=tokens))


def outputs_of(works: Sequence[Work[list[Output]]], backend: HFBackend) -> list[list[Output]]:
    """Several works in one: their calls meet in the backend."""
    return finish(together(list(works)), backend)


def shuffled_batches(count: int, draw: random.Random) -> Iterator[list[tuple[int, int]]]:
    """All pairs of (request, order) in batches of 1 to 16."""
    pairs = [(request, order) for request in range(count) for order in range(ORDERS)]
    draw.shuffle(pairs)
    while pairs:
        size = draw.randint(1, MOST)
        yield pairs[:size]
        pairs = pairs[size:]


def results_per_request(backend: HFBackend, requests: Sequence[Request], methods: str, seed: int) -> list[int]:
    """How many different results each request has."""
    draw = random.Random(seed)
    orders = [[draw.sample(range(len(r.segments)), len(r.segments)) for _ in range(ORDERS)] for r in requests]
    found: dict[int, set[object]] = defaultdict(set)
    batches = list(shuffled_batches(len(requests), draw))
    for batch in track(batches, f"{backend.model.dtype} {methods}", console=Console(stderr=True)):
        own = [requests[i].reordered(orders[i][order]) for i, order in batch]
        strangers = draw.sample(list(requests), draw.randint(0, STRANGERS))
        works = [work_of(own, methods, backend, ANSWER_TOKENS)]
        if strangers:
            works.append(work_of(strangers, draw.choice(("none", *METHODS[:2])), backend, draw.randint(1, 9)))
        for (i, _), output in zip(batch, outputs_of(works, backend)[0], strict=True):
            found[i].add((output.text, output.winner, tuple(sorted(output.scores.items()))))
    return [len(found[i]) for i in range(len(requests))]


def throughput(backend: HFBackend, methods: str, kind: str, repeats: int) -> dict[str, object]:
    """Seconds for 16 requests with and without; medians of turns, and of the ratios within a turn."""
    groups = records("nq_groups10")
    passages = [p for group in groups for p in group["passages"]]  # type: ignore[attr-defined]
    task, tokens, size, _ = KINDS[kind]
    draw = random.Random(1)
    requests = [
        Request(task, f"What is said of {p['title']}?", as_segments([q["text"] for q in draw.sample(passages, size)]))
        for p in passages[:MOST]
    ]
    seconds: dict[str, list[float]] = {"order_free": [], "never": []}
    outputs_of([work_of(requests[:2], methods, backend, 2)], backend)  # what is proved once a process
    for _ in range(repeats):
        for setting, times in seconds.items():
            backend.batch_invariance = setting  # type: ignore[assignment]
            begun = time.perf_counter()
            outputs_of([work_of(requests, methods, backend, tokens)], backend)
            times.append(time.perf_counter() - begun)
    backend.batch_invariance = "order_free"
    ratios = [before / now for now, before in zip(seconds["order_free"], seconds["never"], strict=True)]
    medians = {f"{setting}_s": round(statistics.median(times), 2) for setting, times in seconds.items()}
    return {"kind": kind, "method": methods, **medians, "throughput": round(statistics.median(ratios), 3)}


def bits(backend: HFBackend, dtype: str, chosen: Sequence[str], count: int, seed: int) -> Iterator[dict[str, object]]:
    """Results per request, one row a method."""
    requests = some_requests(count)
    for methods in chosen:
        numbers = results_per_request(backend, requests, methods, seed)
        backend.batch_invariance = "never"
        before = results_per_request(backend, requests[::8], methods, seed)
        backend.batch_invariance = "order_free"
        yield {
            "dtype": dtype,
            "method": methods,
            "requests": len(numbers),
            "orders": ORDERS,
            "one_result": sum(number == 1 for number in numbers),
            "never_requests": len(before),
            "never_one_result": sum(number == 1 for number in before),
        }


def pages(record: dict[str, list[dict[str, object]]]) -> str:
    """Both tables in Markdown."""
    lines = ["| dtype | method | requests with one result | with batch_invariance=never |", "|---|---|---|---|"]
    lines += [
        f"| {r['dtype']} | {r['method']} | {r['one_result']} of {r['requests']} "
        f"| {r['never_one_result']} of {r['never_requests']} |"
        for r in record["bits"]
    ]
    lines += ["", "| 16 requests | dtype | method | seconds | never | throughput |", "|---|---|---|---|---|---|"]
    lines += [
        f"| {KINDS[str(r['kind'])][-1]} | {r['dtype']} | {r['method']} | {r['order_free_s']} | {r['never_s']} "
        f"| {r['throughput']:.2f} |"
        for r in record["throughput"]
    ]
    return "\n".join(lines)


def main() -> None:
    """Measures, prints, writes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=200)
    parser.add_argument("--dtypes", nargs="+", default=["float32", "bfloat16"])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--methods", nargs="+", default=list(METHODS))
    parser.add_argument("--only", choices=["bits", "throughput"], help="leave the other as it was measured last")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    keep_freed_memory()
    path = RESULTS / "batch_bits.json"
    record: dict[str, list[dict[str, object]]] = {"bits": [], "throughput": []}
    if path.exists():
        record |= json.loads(path.read_text(encoding="utf-8"))
    for dtype in options.dtypes:
        backend = fairpos.load("smollm2", device="cpu", dtype=dtype).backend
        assert isinstance(backend, HFBackend)
        measured: dict[str, Iterator[dict[str, object]]] = {}
        if options.only != "throughput":
            measured["bits"] = bits(backend, dtype, options.methods, options.requests, options.seed)
        if options.only != "bits":
            measured["throughput"] = (
                {"dtype": dtype, "threads": options.threads} | throughput(backend, methods, kind, options.repeats)
                for kind in KINDS
                for methods in options.methods
            )
        for part, rows in measured.items():
            for row in rows:
                same = ("dtype", "method", "kind")
                record[part] = [r for r in record[part] if any(r.get(key) != row.get(key) for key in same)] + [row]
                path.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    print(pages(record))
    fill("performance.md", "batch bits", pages(record))


if __name__ == "__main__":
    main()
