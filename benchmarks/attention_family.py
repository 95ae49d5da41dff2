"""What every attention method does to real prompts on a small model, position by position, and what it costs.

    python -m benchmarks.attention_family [--minutes 10] [--kv 10] [--nq 20]

One command: it finds the channel for positional_hidden, asks all prompts, measures the costs, and draws the page
docs/attention-family.md from results/attention_family.json. Each prompt is one line of a journal, so a run that is
stopped (or out of its minutes) goes on where it was, and the page always shows what there is so far.

kv  10 key-value pairs, the plain prompt, every rotation: exact match of the value, teacher-forced.
nq  5 passages, the default prompt, every rotation: log-probability per token of the first accepted answer.

Methods that are order-free give the same for every rotation, so one is asked. Intervals are 95 % bootstraps over
records (kv) or lists of passages (nq), paired: differences are taken within an item.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

import fairpos
from benchmarks.memory import peak_mb
from fairpos.attention.cache import kept_in
from fairpos.backends.base import Score
from fairpos.calibration.black_box import continued
from fairpos.calibration.channel_search import search
from fairpos.calibration.samples import cyclic_views, samples_of
from fairpos.files.items import Item
from fairpos.files.journal import Journal
from fairpos.files.records import Lines, read
from fairpos.methods.catalogue import parse
from fairpos.metrics import bootstrap_interval
from fairpos.metrics.bootstrap import Interval, Statistic
from fairpos.metrics.by_position import accuracy, accuracy_by_position, gap, primacy, recency, worst_position
from fairpos.prompts import KEY_VALUE, Template, render

HERE = Path(__file__).parent
RESULTS = HERE / "results"
PAGE = HERE.parent / "docs" / "attention-family.md"
CHANNEL = RESULTS / "positional_hidden-smollm2.json"

METHODS = {
    "none": "none",
    "set_based": "set_based",
    "ape": "ape",
    "graph_kv": "graph_kv",
    "pine": "pine",
    "ms_poe": "ms_poe",
    "ms_poe, published": "ms_poe:assignment=published",
    "positional_hidden": f"positional_hidden:profile={CHANNEL.relative_to(HERE.parent)}",
    # At its default S, 2703 tokens on this model, string leaves prompts of this length as they are.
    "string, S=128": "string:S=128,W=32",
}
# Independent lists below which resampling says nothing.
FEWEST = 5
# Prompt of the cost measurement: prefix, segments, suffix, in tokens.
PREFIX, SEGMENTS, SIZE, SUFFIX, DECODED = 20, 20, 100, 30, 16


@dataclass(frozen=True)
class Part:
    """One of the two experiments; an item belongs to a cluster that is resampled as one."""

    name: str
    measure: str
    template: Template | None
    items: list[tuple[str, Item]]


def parts(kv: int, nq: int) -> list[Part]:
    """The items of both experiments, spread over the records of each file."""
    lists = samples_of(Lines(read(HERE / "data" / "kv.jsonl").records), 10)
    pairs = [(sample.id.split("/")[0], sample) for sample in lists[::2] + lists[1::2]][:kv]
    questions: list[list[tuple[str, Item]]] = []
    for _, group in read(HERE / "data" / "nq_groups10.jsonl").records:
        for half in (0, 5):
            passages = tuple(
                fairpos.Segment(id=str(half + i), title=p["title"], text=p["text"])
                for i, p in enumerate(group["passages"][half : half + 5])  # type: ignore[index, call-overload]
            )
            asked: Any = group["questions"]
            name = f"{group['group']}.{half}"
            questions.append(
                [
                    (
                        name,
                        Item(
                            q["id"],
                            fairpos.Request("answer", q["question"], passages),
                            str(q["gold_index"]),
                            tuple(q["answers"]),
                        ),
                    )
                    for q in asked[half : half + 5]
                ]
            )
    chosen = [each[number] for number in range(5) for each in questions][:nq]
    return [Part("kv", "exact", KEY_VALUE, pairs), Part("nq", "log_prob", None, chosen)]


def find_channel(fair: fairpos.FairModel) -> None:
    """The calibration of positional_hidden, on random texts and keys of its own."""
    found = search(fair.backend, texts=8, records=10, seed=0)  # type: ignore[arg-type]
    record = {"method": "positional_hidden", "model": "smollm2", "setting": asdict(found.setting)}
    record |= {"candidates": [asdict(c) for c in found.candidates], "plain_loss": found.plain_loss, "seed": 0}
    CHANNEL.write_text(json.dumps(record | {"helps": found.helps, "texts": 8, "records": 10}, indent=1) + "\n")


def measure_here(spec: str) -> dict[str, float]:
    """Seconds and peak memory of one method, in this process: nothing else may have run in it."""
    torch.set_num_threads(1)
    fair = fairpos.load("smollm2", device="cpu")
    ids = [3 + i * 7 % 40000 for i in range(PREFIX + SEGMENTS * SIZE + SUFFIX)]
    spans = [(PREFIX + i * SIZE, PREFIX + (i + 1) * SIZE) for i in range(SEGMENTS)]
    prefill, decode = [], []

    def ask() -> None:
        with fair.attending(ids, spans, spec) as (prompt, cache):
            started = time.perf_counter()
            logits = fair.model(prompt, **kept_in(cache), use_cache=True, logits_to_keep=1).logits
            prefill.append(time.perf_counter() - started)
            started = time.perf_counter()
            for _ in range(DECODED):
                logits = fair.model(logits[:, -1:].argmax(-1), **kept_in(cache), use_cache=True).logits
            decode.append((time.perf_counter() - started) / DECODED)

    peak = peak_mb(ask)
    ask()
    ask()
    return {"prefill": statistics.median(prefill), "decode": statistics.median(decode), "peak_mib": peak}


def costs(journal: Journal) -> Iterator[None]:
    """Each method in a process of its own; yields after each."""
    for method, spec in METHODS.items():
        key = f"cost|{method}"
        if key in journal.done:
            continue
        command = [sys.executable, "-m", "benchmarks.attention_family", "--measure", spec]
        done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=HERE.parent)
        journal.append({"key": key, "part": "cost", "method": method, **json.loads(done.stdout)})
        yield


def trials(fair: fairpos.FairModel, part: Part, journal: Journal) -> Iterator[None]:
    """Asks what isn't in the journal, item by item; yields after each prompt or set of rotations."""
    for cluster, sample in part.items:
        for method, spec in METHODS.items():
            key = f"{part.name}|{sample.id}|{method}"
            if key in journal.done:
                continue
            owner = next(iter(parse(spec)), None)
            views = cyclic_views(sample, "answer")
            free = owner is not None and owner.order_free
            prompts = [render(view, part.template) for view in (views[:1] if free else views)]
            replies = fair.backend.run([Score(p, (continued(p, sample.accepted[0]),), owner) for p in prompts])
            slots = range(len(views)) if free else [view.ids.index(sample.gold or "") for view in views]
            values = {
                "log_prob": [reply.log_probs[0] / reply.tokens[0] for reply in replies],
                "exact": [float(reply.greedy[0]) for reply in replies],
            }
            times = len(views) // len(prompts)
            by_slot = {
                name: [v for _, v in sorted(zip(slots, found * times, strict=True))] for name, found in values.items()
            }
            journal.append(
                {"key": key, "part": part.name, "cluster": cluster, "item": sample.id, "method": method, **by_slot}
            )
            yield


def clustered(rows: list[dict[str, Any]], measure: str) -> np.ndarray:
    """(clusters, positions), the mean of each cluster's items."""
    names = sorted({row["cluster"] for row in rows})
    return np.array([np.mean([row[measure] for row in rows if row["cluster"] == name], axis=0) for name in names])


def summary(part: Part, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Every method on the items that all methods have."""
    own = [row for row in rows if row["part"] == part.name]
    items = set.intersection(*({row["item"] for row in own if row["method"] == m} for m in METHODS))
    tables = {
        m: clustered([row for row in own if row["method"] == m and row["item"] in items], part.measure) for m in METHODS
    }
    figures: dict[str, Statistic] = {
        "mean": accuracy,
        "worst": worst_position,
        "gap": gap,
        "first_middle": primacy,
        "last_middle": recency,
    }
    methods: dict[str, Any] = {}
    for method, table in tables.items():
        methods[method] = {name: triple(bootstrap_interval(table, figure)) for name, figure in figures.items()}
        methods[method]["by_position"] = accuracy_by_position(table).tolist()
        both = np.stack([table, tables["none"]], axis=1)  # resampled together
        methods[method]["mean_minus_none"] = triple(bootstrap_interval(both, difference(accuracy)))
        methods[method]["worst_minus_none"] = triple(bootstrap_interval(both, difference(worst_position)))
    clusters = len(next(iter(tables.values())))
    return {"measure": part.measure, "items": len(items), "clusters": clusters, "methods": methods}


def difference(figure: Statistic) -> Statistic:
    """Of a table (..., items, 2, positions): the figure of the first minus that of the second."""
    return lambda both: np.asarray(figure(both[..., 0, :]) - figure(both[..., 1, :]))


def triple(interval: Interval) -> list[float]:
    return [interval.estimate, interval.low, interval.high]


def page(results: dict[str, Any]) -> str:
    """docs/attention-family.md."""
    lines = [
        "# The attention methods on real prompts",
        "",
        "Written by `python -m benchmarks.attention_family`; do not edit. SmolLM2-135M-Instruct, float32, one CPU",
        "thread. Brackets are 95 % bootstrap intervals, paired within records (kv) or lists of passages (nq).",
        "`first - middle` and `last - middle` compare positions of the gold segment; an order-free method has the same",
        "value everywhere, so its worst position is its mean. `string` at its default S (2703 tokens here) leaves",
        "these prompts as they are, so it is shown with S = 128. The worst of several positions is in part the",
        "noisiest one: with few questions, gap and worst position flatter the order-free methods.",
        "",
    ]
    titles = {
        "kv": "Key-value retrieval, 10 pairs: exact match of the value",
        "nq": "NaturalQuestions, 5 passages: log-probability per token of the answer",
    }
    for name, title in titles.items():
        if name not in results:
            continue
        found = results[name]
        lines += [f"## {title}", "", f"{found['items']} questions in {found['clusters']} independent lists.", ""]
        lines += [
            "| method | mean | mean - none | worst position | worst - none | gap | first - middle | last - middle |"
        ]
        lines += ["|---|---|---|---|---|---|---|---|"]
        for method, row in found["methods"].items():
            names = ("mean", "mean_minus_none", "worst", "worst_minus_none", "gap", "first_middle", "last_middle")
            cells = [cell(row[figure]) for figure in names]
            lines.append(f"| {method} | " + " | ".join(cells) + " |")
        lines += ["", *verdict(found), ""]
    if "cost" in results:
        tokens = PREFIX + SEGMENTS * SIZE + SUFFIX
        lines += [f"## Cost, relative to none, for {SEGMENTS} segments of {SIZE} tokens ({tokens} in all)", ""]
        lines += ["| method | prefill | a decoded token | peak memory |", "|---|---|---|---|"]
        plain = results["cost"]["none"]
        for method, row in results["cost"].items():
            ratios = [f"{row[key] / plain[key]:.2f}" for key in ("prefill", "decode", "peak_mib")]
            lines.append(f"| {method} | " + " | ".join(ratios) + " |")
        lines += ["", f"none: {plain['prefill']:.2f} s, {plain['decode'] * 1000:.0f} ms, {plain['peak_mib']:.0f} MiB."]
    return "\n".join(lines) + "\n"


def cell(values: list[float]) -> str:
    estimate, low, high = values
    return f"{estimate:.2f} [{low:.2f}, {high:.2f}]"


def verdict(found: dict[str, Any]) -> list[str]:
    """Which methods lose, and which win, where the interval of the difference says so."""
    words = []
    for figure, what in (("mean_minus_none", "on average"), ("worst_minus_none", "at the worst position")):
        for sign, verb in ((-1, "Loses"), (1, "Wins")):
            names = [m for m, row in found["methods"].items() if min(sign * row[figure][1], sign * row[figure][2]) > 0]
            words.append(f"- {verb} against none {what}: {', '.join(names) or 'no method'}.")
    return words


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kv", type=int, default=10, help="lists of key-value pairs, of 80")
    parser.add_argument("--nq", type=int, default=20, help="questions, of 100")
    parser.add_argument(
        "--only", nargs="+", choices=("kv", "nq", "costs"), help="leaves the other figures as they were"
    )
    parser.add_argument("--minutes", type=float, default=float("inf"), help="stop after so long; the next run goes on")
    parser.add_argument("--work", type=Path, default=RESULTS / "attention_family-work", help="the journal's folder")
    parser.add_argument("--measure", metavar="METHODS", help="only the cost of these, as JSON")
    options = parser.parse_args()
    if options.measure is not None:
        print(json.dumps(measure_here(options.measure)))
        return
    started = time.monotonic()
    torch.set_num_threads(1)
    wanted = options.only or ["kv", "nq", "costs"]
    chosen = [part for part in parts(options.kv, options.nq) if part.name in wanted]
    options.work.mkdir(parents=True, exist_ok=True)
    with Journal(options.work / "trials.jsonl", resume=True, key="key") as journal:
        fair = fairpos.load("smollm2", device="cpu")
        if not CHANNEL.exists():
            find_channel(fair)
        steps = {part.name: trials(fair, part, journal) for part in chosen}
        if "costs" in wanted:
            steps["costs"] = costs(journal)
        totals = {**{part.name: len(part.items) * len(METHODS) for part in chosen}, "costs": len(METHODS)}
        columns = (TextColumn("{task.description:6}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        with Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True)) as bar:
            for name, work in steps.items():
                done = sum(key.startswith(f"{name.removesuffix('s')}|") for key in journal.done)
                task = bar.add_task(name, total=totals[name], completed=done)
                while time.monotonic() - started < 60 * options.minutes and next(work, work) is not work:
                    bar.advance(task)
        rows: list[dict[str, Any]] = list(journal.results())
    path = RESULTS / "attention_family.json"
    results: dict[str, Any] = json.loads(path.read_text()) if path.exists() and options.only else {}
    measured = {row["method"]: row for row in rows if row["part"] == "cost"}
    if measured.keys() == METHODS.keys():
        keys = ("prefill", "decode", "peak_mib")
        results["cost"] = {method: {key: measured[method][key] for key in keys} for method in METHODS}
    for part in chosen:
        done = [{row["item"] for row in rows if row["part"] == part.name and row["method"] == m} for m in METHODS]
        lists = {row["cluster"] for row in rows if row.get("item") in set.intersection(*done)}
        if len(lists) >= FEWEST:
            results[part.name] = summary(part, rows)
        else:
            print(f"{part.name}: {len(lists)} lists done by all methods; {FEWEST} are needed for an interval")
    if not results:
        print("not enough yet to sum up; run it again to go on")
        return
    path.write_text(json.dumps(results, indent=1) + "\n")
    PAGE.write_text(page(results))
    print(f"{path.relative_to(HERE.parent)} and {PAGE.relative_to(HERE.parent)} written")


if __name__ == "__main__":
    main()
