"""Voting while generating, beside the mean over the orders that vote and beside one order-free prompt.

    python -m benchmarks.voting [--minutes 10]     goes on where it stopped; writes docs/voting.md

kv    40 records of 10 key-value pairs, the plain prompt: exact match of the value and its log-probability per token.
nq    60 questions on 5 passages, the default prompt: log-probability per token of the first accepted answer.
csqa  60 questions with 5 options, asked for a letter: probability among the options (the votes of a choice).

SmolLM2-135M-Instruct, float32, teacher-forced. The baseline is the mean over a full cycle of orders, which is what a
user of one arbitrary order can expect. Differences from it are paired; intervals are 95 % bootstraps over records,
lists of passages, or questions.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from transformers import SuppressTokensLogitsProcessor

import fairpos
from benchmarks import placement_designs, second_look
from benchmarks.attention_family import parts, triple
from fairpos import Request, Segment
from fairpos.backends.base import Ballot
from fairpos.backends.hf import HFBackend
from fairpos.backends.voting import pooled_steps
from fairpos.calibration.black_box import continued
from fairpos.calibration.samples import cyclic_views
from fairpos.files.items import Item
from fairpos.files.journal import Journal
from fairpos.files.records import read
from fairpos.layout import Layout
from fairpos.methods.catalogue import parse
from fairpos.metrics import bootstrap_interval, difference_interval
from fairpos.orders import designs
from fairpos.prompts import Template, render
from fairpos.tokenizing import continuation, tokenize

HERE = Path(__file__).parent
RESULTS = HERE / "results"
PAGE = HERE.parent / "docs" / "voting.md"
BALLOTS = {"uniform vote": Ballot("uniform"), "entropy-weighted vote": Ballot("entropy", 4.0)}
ORDER_FREE = ("set_based", "pine")
# Segments read in 1 or 2 orders, looked at in K (2 K) of them.
PLACEMENTS = {
    "placements, 1 base": "placements:views={k}",
    "placements, 1 base, uniform": "placements:views={k},weights=uniform",
    "placements, 2 bases": "placements:views={k},bases=2",
    "placements, 2 bases, twice the views": "placements:views={twice},bases=2",
}
MEAN = "mean over orders"
VIEWS = (2, 3, 5, 10)  # those that a list has segments for
TITLES = {
    "kv": "Key-value retrieval, 10 pairs",
    "nq": "NQ-open, 5 passages",
    "csqa": "CommonsenseQA, 5 options",
}
# Tokens written in the cost measurement.
WRITTEN = 16


def layouts_of(request: Request, template: Template | None, fair: fairpos.FairModel) -> dict[int, list[Layout]]:
    """The views of each number of views, in tokens."""
    canonical, k = request.canonical(), len(request.segments)
    views = {m: [canonical.reordered(order) for order in designs.cyclic(k, m, seed=0)] for m in VIEWS if m <= k}
    return {m: [tokenize(render(view, template), fair.tokenizer) for view in each] for m, each in views.items()}


def text_trial(fair: fairpos.FairModel, sample: Item, template: Template | None) -> dict[str, list[float]]:
    """Arm -> [log-probability per token, exact match] of the accepted answer."""
    backend = fair.backend
    assert isinstance(backend, HFBackend)
    request = cyclic_views(sample, "answer")[0]
    views = layouts_of(request, template, fair)
    prompt = render(request, template)
    reply = continuation(continued(prompt, sample.accepted[0]), fair.tokenizer)
    known: dict[tuple[int, ...], torch.Tensor] = {}

    def expected(layout: Layout) -> torch.Tensor:
        if layout.input_ids not in known:
            known[layout.input_ids] = backend.reply_log_probs([layout], reply)[0]
        return known[layout.input_ids]

    def figures(log_probs: torch.Tensor) -> list[float]:
        tokens = torch.tensor(reply)
        exact = bool((log_probs.argmax(-1) == tokens).all())
        return [float(log_probs.gather(1, tokens[:, None]).mean()), float(exact)]

    cycle = [figures(expected(layout)) for layout in views[len(request.segments)]]
    found = {MEAN: np.mean(cycle, axis=0).tolist()}
    for name, ballot in BALLOTS.items():
        for m, each in views.items():
            stacked = torch.stack([expected(layout) for layout in each])
            found[f"{name}, {m} views"] = figures(pooled_steps(stacked, ballot))
    for name in ORDER_FREE:
        method = next(iter(parse(name)))
        [layout] = views[len(request.segments)][:1]
        found[name] = figures(backend.reply_log_probs([layout], reply, method)[0])
    for name, spec in placements_for(len(request.segments)).items():
        [method] = parse(spec)
        assert method.pooling is not None
        rows = backend.reply_log_probs(views[len(request.segments)][:1], reply, method)
        found[name] = figures(pooled_steps(rows, method.pooling))
    return found


def placements_for(k: int) -> dict[str, str]:
    """Arm -> method, for lists of k segments."""
    return {name: spec.format(k=k, twice=2 * k) for name, spec in PLACEMENTS.items()}


def choice_trial(fair: fairpos.FairModel, request: Request, gold: str) -> dict[str, list[float]]:
    """Arm -> [log-probability of the right option among the options, whether it is the first]."""

    def figures(scores: dict[str, float]) -> list[float]:
        values = np.array(list(scores.values()))
        total = float(np.logaddexp.reduce(values))
        best = max(sorted(scores), key=scores.__getitem__)
        return [scores[gold] - total, float(best == gold)]

    canonical = request.canonical()
    cycle = [canonical.reordered(order) for order in designs.cyclic(len(request.segments), 5, seed=0)]
    outputs = fair.run(cycle, "none")
    found = {MEAN: np.mean([figures(dict(output.scores)) for output in outputs], axis=0).tolist()}
    for name, ballot in BALLOTS.items():
        for m in (m for m in VIEWS if m <= len(cycle)):
            methods = f"permutation:views={m},weights={ballot.weights}"
            found[f"{name}, {m} views"] = figures(dict(fair.run([request], methods)[0].scores))
    for name, spec in ({name: name for name in ORDER_FREE} | placements_for(len(request.segments))).items():
        found[name] = figures(dict(fair.run([request], spec)[0].scores))
    return found


def csqa() -> list[tuple[str, Request, str]]:
    """Question, request, id of the right option."""
    found = []
    for _, record in read(HERE / "data" / "csqa.jsonl").records:
        options: Any = record["options"]
        segments = tuple(Segment(id=str(i), text=text) for i, text in enumerate(options))
        found.append(
            (str(record["id"]), Request("choose", str(record["question"]), segments), str(record["gold_index"]))
        )
    return found


def trials(fair: fairpos.FairModel, journal: Journal, questions: int) -> Iterator[int]:
    """Asks what isn't in the journal; yields after each item, first how many there are."""
    kv, nq = parts(kv=40, nq=questions)
    choices = csqa()[:questions]
    yield len(kv.items) + len(nq.items) + len(choices)
    for part in (kv, nq):
        for cluster, sample in part.items:
            key = f"{part.name}|{sample.id}"
            if key not in journal.done:
                arms = text_trial(fair, sample, part.template)
                journal.append({"key": key, "part": part.name, "cluster": cluster, "arms": arms})
            yield 1
    for name, request, gold in choices:
        key = f"csqa|{name}"
        if key not in journal.done:
            journal.append({"key": key, "part": "csqa", "cluster": name, "arms": choice_trial(fair, request, gold)})
        yield 1


def costs(fair: fairpos.FairModel, journal: Journal) -> None:
    """Seconds of an answer of 16 tokens relative to one plain order, in turns, for one list of each kind."""
    backend = fair.backend
    assert isinstance(backend, HFBackend)
    decoding = fairpos.Decoding(
        max_new_tokens=WRITTEN, logits_processor=[SuppressTokensLogitsProcessor([fair.tokenizer.eos_token_id])]
    )
    for part in parts(kv=1, nq=1):
        key = f"cost|{part.name}"
        if key in journal.done:
            continue
        [(_, sample)] = part.items
        request = cyclic_views(sample, "answer")[0]
        views = layouts_of(request, part.template, fair)
        arms = {f"vote, {m} views": (lambda each=each: backend.vote(each, None, decoding)) for m, each in views.items()}
        [one] = views[len(request.segments)][:1]
        alone = dict.fromkeys(("none", *ORDER_FREE)) | placements_for(len(request.segments))
        for name, spec in alone.items():
            method = next(iter(parse(spec or name)), None)
            arms[name] = lambda method=method, one=one: backend.generate([one], method, decoding)
        seconds: dict[str, list[float]] = {name: [] for name in arms}
        for _ in range(6):
            for name, ask in arms.items():
                started = time.perf_counter()
                ask()
                seconds[name].append(time.perf_counter() - started)
        ratios = {
            name: statistics.median(a / b for a, b in zip(each[1:], seconds["none"][1:], strict=True))
            for name, each in seconds.items()
        }
        found = {"prompt_tokens": len(one), "threads": torch.get_num_threads(), "ratios": ratios}
        journal.append({"key": key, "part": "cost", "of": part.name, **found})


def clustered(rows: Sequence[dict[str, Any]], arm: str, figure: int) -> list[float]:
    """The mean of each cluster's items."""
    names = dict.fromkeys(row["cluster"] for row in rows)
    return [float(np.mean([r["arms"][arm][figure] for r in rows if r["cluster"] == name])) for name in names]


def summary(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Figures of every arm, and paired differences from the mean over orders."""
    found = {}
    for arm in rows[0]["arms"]:
        entry = {}
        for figure, name in enumerate(("log_prob", "exact")):
            values, base = clustered(rows, arm, figure), clustered(rows, MEAN, figure)
            own, gain = bootstrap_interval(values), difference_interval(values, base)
            entry[name], entry[f"{name}_gain"] = triple(own), triple(gain)
        found[arm] = entry
    return {"items": len(rows), "clusters": len({row["cluster"] for row in rows}), "arms": found}


def page(results: dict[str, Any]) -> str:
    """docs/voting.md."""
    lines = [
        "# Voting while generating",
        "",
        "Written by `python -m benchmarks.voting`; do not edit. SmolLM2-135M-Instruct, float32, teacher-forced.",
        "`permutation` lets the views of an answer decode in step and vote at every token (`weights=uniform`: the mean",
        "log-probability, renormalised; `weights=entropy`: views that are sure count more). The first row of a table",
        "is the mean over a full cycle of orders: what one arbitrary order gives. Differences are from that row,",
        "paired; brackets are 95 % bootstrap intervals. `placements` reads the segments in one or two orders and looks",
        "at them in as many as there are segments (entropy weights, unless it says uniform).",
        "",
    ]
    for name, title in TITLES.items():
        if name not in results:
            continue
        found = results[name]
        what = "exact match" if name != "csqa" else "accuracy"
        unit = "log-probability per token" if name != "csqa" else "log-probability of the right option"
        lines += [f"## {title}", "", f"{found['items']} questions in {found['clusters']} independent lists.", ""]
        lines += [f"| | {what} | difference | {unit} | difference |", "|---|---|---|---|---|"]
        for arm, row in found["arms"].items():
            cells = [
                cell(row["exact"]),
                cell(row["exact_gain"], "+"),
                cell(row["log_prob"]),
                cell(row["log_prob_gain"], "+"),
            ]
            if arm == MEAN:
                cells[1] = cells[3] = ""
            lines.append(f"| {arm} | " + " | ".join(cells) + " |")
        lines += ["", *verdict(found, what), ""]
    lines += placement_designs.section()
    lines += second_look.section()
    if "cost" in results:
        lines += [f"## Cost of an answer of {WRITTEN} tokens, relative to one plain order", ""]
        lines += ["| | " + " | ".join(results["cost"]) + " |", "|---|" + "---|" * len(results["cost"])]
        arms = dict.fromkeys(arm for row in results["cost"].values() for arm in row["ratios"])
        for arm in arms:
            cells = [f"{row['ratios'][arm]:.2f}" if arm in row["ratios"] else "" for row in results["cost"].values()]
            lines.append(f"| {arm} | " + " | ".join(cells) + " |")
        sizes = ", ".join(f"{name}: {row['prompt_tokens']} tokens" for name, row in results["cost"].items())
        threads = ", ".join(sorted({str(row["threads"]) for row in results["cost"].values()}))
        lines += [
            "",
            f"Prompts of {sizes}. Wall time, threads: {threads}, medians of 5 rounds in turns. A vote of m views is m",
            "prefills and a batch of m rows for every token; of placements, a prefill for each base and a suffix",
            "for each view.",
        ]
    return "\n".join(lines) + "\n"


def cell(values: Sequence[float], sign: str = "") -> str:
    estimate, low, high = values
    return f"{estimate:{sign}.3f} [{low:{sign}.3f}, {high:{sign}.3f}]"


def verdict(found: dict[str, Any], what: str) -> list[str]:
    """Which arms win and lose where the interval says so."""
    words = []
    for figure, title in (("exact_gain", what), ("log_prob_gain", "log-probability")):
        for sign, verb in ((1, "Better"), (-1, "Worse")):
            names = [a for a, row in found["arms"].items() if min(sign * row[figure][1], sign * row[figure][2]) > 0]
            words.append(f"- {verb} than the mean over orders in {title}: {'; '.join(names) or 'nothing'}.")
    return words


def main() -> None:
    """Measures, prints, writes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=float("inf"), help="stop after so long; the next run goes on")
    parser.add_argument("--work", type=Path, default=RESULTS / "voting-work", help="the journal's folder")
    parser.add_argument("--questions", type=int, default=60, help="of nq and of csqa, of 100 each")
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    started = time.monotonic()
    torch.set_num_threads(options.threads)
    options.work.mkdir(parents=True, exist_ok=True)
    with Journal(options.work / "trials.jsonl", resume=True, key="key") as journal:
        fair = fairpos.load("smollm2", device="cpu")
        work = trials(fair, journal, options.questions)
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        with Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True)) as bar:
            task = bar.add_task("asking", total=next(work))
            for step in work:
                bar.advance(task, step)
                if time.monotonic() - started > 60 * options.minutes:
                    break
            else:
                costs(fair, journal)
        rows: list[dict[str, Any]] = list(journal.results())
    results: dict[str, Any] = {}
    for name in TITLES:
        own = [row for row in rows if row["part"] == name]
        if len({row["cluster"] for row in own}) >= 5:
            results[name] = summary(own)
    measured = {
        row["of"]: {k: row[k] for k in ("prompt_tokens", "threads", "ratios")} for row in rows if row["part"] == "cost"
    }
    file = RESULTS / "voting.json"
    before = json.loads(file.read_text()).get("cost", {}) if file.exists() else {}
    if before or measured:
        results["cost"] = before | measured
    file.write_text(json.dumps(results, indent=1) + "\n")
    PAGE.write_text(page(results))
    print(page(results))


if __name__ == "__main__":
    main()
