"""Does it help to put segments into a better order? Calibration, and all orderings beside each other.

    python -m benchmarks.reordering kv|nq [--minutes 10]

Each prompt is one line of a journal, so a run that is stopped (or out of its minutes) goes on where it was; what there
is so far is summed up into results/reordering.json after each run, and docs/reordering.md is drawn from it.

kv  10 key-value pairs, the plain prompt. Calibration on records 0 to 19, test on records 20 to 39 (two lists each).
    Exact match of the value, teacher-forced; relevance is bm25, for which the key is the query.
nq  5 passages, the default prompt. Calibration on groups 0 to 4, test on groups 5 to 9. Log-probability per token of
    the first accepted answer; relevance is bm25, or what the method reads.

The reference is the mean over all rotations, in which the gold segment stands in every slot once: what to expect of an
order that isn't known. Intervals are 95 % bootstraps of whole records (kv) or of whole lists of passages (nq).
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

import fairpos
from fairpos import Request, Segment
from fairpos.backends.base import Score, attention_reader
from fairpos.calibration.attention import looked
from fairpos.calibration.black_box import continued, intervals
from fairpos.calibration.layer_rules import fitted_layer, layers_by_rule
from fairpos.calibration.profile import Profile, Setting, Signal
from fairpos.calibration.samples import chosen, cyclic_views, fingerprint, samples_of
from fairpos.files.items import Item
from fairpos.files.journal import Journal
from fairpos.files.records import Lines, read
from fairpos.methods.catalogue import parse
from fairpos.metrics import bootstrap_interval, items_needed, wilson_interval
from fairpos.prompts import KEY_VALUE, Template, render

HERE = Path(__file__).parent
RESULTS = HERE / "results"
PAGE = HERE.parent / "docs" / "reordering.md"
PROFILES = ("fit", "u_shape", "logprob")  # attn_rank's, by how they were measured
PAGE_HEAD = """# Reordering: does it help?

Methods that put segments into a better order: `ascending`, `descending`, `edges`, `attn_rank`, and by the model's own
attention `icr`, `attention_calibrated`, `attention_sorting`; `query_twice` keeps the order and says the query on both
sides. [methods.md](methods.md) says what each costs and when it hurts. All of them show the same order whatever order
came in; it is returned as the view's `order`, and results refer to ids. Relevance is the score given with each segment,
or bm25 where there is none, or `relevance=embedding`, `icr`, ... A segment's `pinned` is a place that it keeps; those
of one `group` stay together, in the order given.

    fairpos calibrate attn_rank --model M --data FILE -k 10             attention by slot, for a local model
    fairpos calibrate attn_rank --model M --data FILE -k 10 --signal accuracy    by replies alone, for any model
    fairpos audit --task qa --data FILE --methods ascending,descending,edges,query_twice,attn_rank

The first two write a profile, which belongs to one model, one template and one number of segments. The last says on
your own questions which order helps, or to leave the order alone.

What follows was drawn by `python -m benchmarks.reordering kv` (and `nq`) from benchmarks/results/reordering.json. The
reference is the mean over all rotations of the segments; intervals are 95 % bootstraps of whole records. Relevance is
bm25. `fit`, `u_shape` and `logprob` are three ways to measure attn_rank's profile: attention in the layer that agrees
best with the answers' log-probability (the default where answers are known), attention in the shallowest U-shaped layer
(the published rule), and that log-probability itself. All three come from one pass over the calibration samples, whose
cost is given. Items needed: how many would tell a difference as large as the one seen from none.
"""


@dataclass(frozen=True)
class Part:
    """One of the two experiments."""

    name: str
    count: int
    template: Template | None
    calibration: list[Item]
    test: list[Item]
    methods: tuple[str, ...]


def kv() -> Part:
    lines = read(HERE / "data" / "kv.jsonl")
    first, second = Lines(lines.records[:20]), Lines(lines.records[20:])
    methods = ("ascending", "descending", "edges", *PROFILES)
    return Part("kv", 10, KEY_VALUE, samples_of(first, 10), samples_of(second, 10), methods)


def nq() -> Part:
    samples: list[list[Item]] = []
    for _, group in read(HERE / "data" / "nq_groups10.jsonl").records:
        for half in (0, 5):
            passages = tuple(
                Segment(id=str(half + i), title=p["title"], text=p["text"])
                for i, p in enumerate(group["passages"][half : half + 5])  # type: ignore[index, call-overload]
            )
            questions: Any = group["questions"]
            samples.append(
                [
                    Item(
                        f"{group['group']}.{half}/{q['id']}",
                        Request("answer", q["question"], passages),
                        str(q["gold_index"]),
                        tuple(q["answers"]),
                    )
                    for q in questions[half : half + 5]
                ]
            )
    calibration = [question for number in (0, 1) for group in samples[:10] for question in group[number : number + 1]]
    test = [question for group in samples[10:] for question in group]
    read_from_attention = ("icr", "attention_calibrated", "attention_sorting")
    methods = ("ascending", "descending", "edges", "query_twice", *PROFILES, *read_from_attention)
    return Part("nq", 5, None, calibration, test, methods)


def calibrate(fair: fairpos.FairModel, part: Part, journal: Journal, probes: int) -> Iterator[None]:
    """Reads the attention and scores the answers of the calibration samples; yields after each."""
    for sample in chosen(part.calibration, probes // part.count, seed=0):
        key = f"{part.name}|{sample.id}|calibration"
        if key in journal.done:
            continue
        started, worked = time.monotonic(), time.process_time()
        reader = attention_reader(fair.backend)
        shares, log_probs = looked(reader, sample, "answer", part.template, score=True)
        assert log_probs is not None
        journal.append(
            {
                "key": key,
                "part": part.name,
                "method": "calibration",
                "item": sample.id,
                "shares": np.round(shares, 6).tolist(),
                "log_probs": log_probs.tolist(),
                "seconds": time.monotonic() - started,
                "cpu_seconds": time.process_time() - worked,
                "threads": torch.get_num_threads(),
            }
        )
        yield


def profiles(fair: fairpos.FairModel, part: Part, journal: Journal, folder: Path, probes: int) -> dict[str, Any]:
    """The three profiles from what was read and scored: the same as `fairpos calibrate` makes from these samples.

    Their cost is that of reading and scoring together.
    """
    used = chosen(part.calibration, probes // part.count, seed=0)
    rows = {row["item"]: row for row in journal.results() if row["part"] == part.name and "shares" in row}
    shares = np.array([rows[sample.id]["shares"] for sample in used])  # (samples, layers, K)
    log_probs = np.array([rows[sample.id]["log_probs"] for sample in used])
    cost = {name: sum(rows[sample.id][name] for sample in used) for name in ("seconds", "cpu_seconds")}
    fit, fit_words = fitted_layer(shares.mean(axis=0), log_probs.mean(axis=0))
    shallow, shallow_words = layers_by_rule(shares.mean(axis=0), "u_shape")
    made = {
        "fit": (intervals(shares[:, fit].mean(axis=1), "attention"), fit_words),
        "u_shape": (intervals(shares[:, shallow].mean(axis=1), "attention"), shallow_words),
        "logprob": (intervals(log_probs, "logprob"), "log-probability of the answer, black box"),
    }
    setting = Setting.of(fair.backend, "answer", part.template, part.count)
    for name, (slots, words) in made.items():
        signal: Signal = "logprob" if name == "logprob" else "attention"
        found = Profile(setting, signal, words, fingerprint(used), len(used), slots)
        found.save(folder / f"reordering-{part.name}-{name}.json")
    return {
        name: {
            "rule": words,
            "samples": len(used),
            "seconds": round(cost["seconds"], 1),
            "cpu_seconds": round(cost["cpu_seconds"], 1),
            "threads": rows[used[0].id]["threads"],
            "slots": [[slot.value, slot.low, slot.high] for slot in slots],
        }
        for name, (slots, words) in made.items()
    }


def views(fair: fairpos.FairModel, part: Part, sample: Item, method: str, folder: Path) -> list[Request]:
    """What is asked of a method: one order, or all rotations where the method keeps the order."""
    rotations = cyclic_views(sample, "answer")
    if method == "none":
        return rotations
    spec = method
    if method in PROFILES:
        spec = f"attn_rank:profile={folder / f'reordering-{part.name}-{method}.json'}"
    [chosen] = parse(spec)
    # Any input order gives the same view but for query_twice, which keeps it: the five questions about one list of
    # passages see one rotation, so that the gold passage of each stands in another slot.
    given = rotations[part.test.index(sample) // 5 % part.count]
    return chosen.ready([given], fair.backend, part.template).arrange(given, fair.backend)


def trials(fair: fairpos.FairModel, part: Part, journal: Journal, folder: Path) -> Iterator[None]:
    """Asks what isn't in the journal, record by record (list of passages by list); yields after every few prompts.

    What is asked twice is asked once, and questions about the same passages in the same order share their prefill.
    """
    for cluster in dict.fromkeys(map(cluster_of, part.test)):
        samples = [sample for sample in part.test if cluster_of(sample) == cluster]
        # The rotations of all questions together, then each question's own orders.
        pairs = [[(sample, "none") for sample in samples], *([(s, m) for m in part.methods] for s in samples)]
        for chunk in pairs:
            todo = [(s, m) for s, m in chunk if f"{part.name}|{s.id}|{m}" not in journal.done]
            if todo:
                ask(fair, part, todo, journal, folder)
                yield


def ask(fair: fairpos.FairModel, part: Part, todo: Sequence[tuple[Item, str]], journal: Journal, folder: Path) -> None:
    """Asks samples under methods, and appends what came of them."""
    wanted = []
    for sample, method in todo:
        asked = views(fair, part, sample, method, folder)
        prompts = [render(view, part.template) for view in asked]
        wanted.append(
            (sample, method, asked, [Score(prompt, (continued(prompt, sample.accepted[0]),)) for prompt in prompts])
        )
    distinct = list({(call.prompt.text, call.replies): call for *_, calls in wanted for call in calls}.values())
    replies = dict(
        zip(((call.prompt.text, call.replies) for call in distinct), fair.backend.run(distinct), strict=True)
    )
    for sample, method, asked, calls in wanted:
        found = [replies[call.prompt.text, call.replies] for call in calls]
        journal.append(
            {
                "key": f"{part.name}|{sample.id}|{method}",
                "part": part.name,
                "item": sample.id,
                "method": method,
                "slots": [view.ids.index(sample.gold or "") for view in asked],
                "log_prob": [reply.log_probs[0] / reply.tokens[0] for reply in found],
                "exact": [reply.greedy[0] for reply in found],
            }
        )


def cluster_of(sample: Item) -> str:
    """The record or list of passages that a sample belongs to."""
    return sample.id.split("/")[0]


def summary(part: Part, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Every method against the mean over rotations, on the items that all methods have."""
    done = [{r["item"] for r in rows if r["method"] == m} for m in ("none", *part.methods)]
    items = set.intersection(*done)
    measure = "exact" if part.name == "kv" else "log_prob"
    by = {(r["method"], r["item"]): r for r in rows if r["item"] in items}
    order = [s.id for s in part.test if s.id in items]
    plain = {i: dict(zip(by["none", i]["slots"], by["none", i][measure], strict=True)) for i in order}
    clusters = {s.id: cluster_of(s) for s in part.test if s.id in items}
    names = list(dict.fromkeys(clusters.values()))

    def clustered(values: dict[str, float]) -> np.ndarray:
        return np.array([np.mean([values[i] for i in order if clusters[i] == c]) for c in names])

    reference = {i: float(np.mean(list(plain[i].values()))) for i in order}
    by_slot = []
    for slot in range(part.count):
        found = bootstrap_interval(clustered({i: float(plain[i][slot]) for i in order}))
        by_slot.append([found.estimate, found.low, found.high])
    whole = bootstrap_interval(clustered(reference))
    table: dict[str, Any] = {"none, mean over rotations": {"value": [whole.estimate, whole.low, whole.high]}}
    for method in part.methods:
        values = {i: float(np.mean(by[method, i][measure])) for i in order}
        value = bootstrap_interval(clustered(values))
        difference = bootstrap_interval(clustered({i: values[i] - reference[i] for i in order}))
        right = sum(by[method, i]["exact"][0] for i in order)
        table[method] = {
            "value": [value.estimate, value.low, value.high],
            "difference": [difference.estimate, difference.low, difference.high],
            "items_needed": items_needed([values[i] - reference[i] for i in order]),
            "wilson": wilson_interval(right, len(order)) if measure == "exact" else None,
            "gold_slot": float(np.mean([by[method, i]["slots"][0] + 1 for i in order])),
        }
    return {"measure": measure, "items": len(order), "by_slot": by_slot, "methods": table}


def page(results: dict[str, Any]) -> str:
    """docs/reordering.md from the results."""
    parts = [PAGE_HEAD]
    for name, title in (("kv", "10 key-value pairs"), ("nq", "5 passages of Natural Questions")):
        if name not in results:
            continue
        found = results[name]
        exact = found["measure"] == "exact"
        what = "Exact match of the value" if exact else "Log-probability of the answer, nats per token"
        parts.append(
            f"## {title} ({found['model']}, {found['items']} test items)\n\n{what}. By the gold segment's slot:\n"
        )
        curve = [f"{value:.2f} ({low:.2f} to {high:.2f})" for value, low, high in found["by_slot"]]
        parts.append("| slot | plain | " + " | ".join(f"profile {p}" for p in PROFILES) + " |")
        parts.append("|---" * (2 + len(PROFILES)) + "|")
        for i, cell in enumerate(curve):
            cells = []
            for profile in PROFILES:
                value, low, high = found["profiles"][profile]["slots"][i]
                best = value == max(slot[0] for slot in found["profiles"][profile]["slots"])
                cells.append(f"{'**' * best}{value:.3f}{'**' * best} ({low:.3f} to {high:.3f})")
            parts.append(f"| {i + 1} | {cell} | " + " | ".join(cells) + " |")
        parts.append("")
        for profile in PROFILES:
            measured = found["profiles"][profile]
            parts.append(
                f"- profile {profile}: {measured['rule']}; {measured['samples']} calibration samples, "
                f"{measured['seconds']:.0f} s ({measured['cpu_seconds']:.0f} s of processor time, threads: "
                f"{measured['threads']})"
            )
        parts.append("\n| order | value | against the mean over rotations | items needed | gold's slot, mean |")
        parts.append("|---|---|---|---|---|")
        for method, row in found["methods"].items():
            label = f"attn_rank, profile {method}" if method in PROFILES else method
            value = "{:.2f} ({:.2f} to {:.2f})".format(*row["value"])
            if "difference" not in row:
                parts.append(f"| {label} | {value} | | | |")
                continue
            difference = "{:+.2f} ({:+.2f} to {:+.2f})".format(*row["difference"])
            needed = row["items_needed"] if row["items_needed"] is not None else ""
            parts.append(f"| {label} | {value} | {difference} | {needed} | {row['gold_slot']:.1f} |")
        parts.append("")
    return "\n".join(parts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=("kv", "nq"))
    parser.add_argument("--model", default="smollm2")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="stop after so long; the next run goes on")
    parser.add_argument("--probes", type=int, default=100, help="prompts that are read and scored for the profiles")
    parser.add_argument("--work", type=Path, default=RESULTS / "reordering-work", help="journal and profiles")
    options = parser.parse_args()
    started = time.monotonic()
    makers: dict[str, Callable[[], Part]] = {"kv": kv, "nq": nq}
    part = makers[options.part]()
    fair = fairpos.load(options.model)
    options.work.mkdir(parents=True, exist_ok=True)

    def late(steps: Iterator[None]) -> bool:
        return any(time.monotonic() - started > 60 * options.minutes for _ in steps)

    with Journal(options.work / "trials.jsonl", resume=True, key="key") as journal:
        if late(calibrate(fair, part, journal, options.probes)):
            print(f"out of minutes, {len(journal.done)} lines in the journal; run it again to go on")
            return
        measured = profiles(fair, part, journal, options.work, options.probes)
        print(json.dumps(measured, indent=1), flush=True)
        if late(trials(fair, part, journal, options.work)):
            print(f"out of minutes, {len(journal.done)} lines in the journal; run it again to go on")
        rows: list[dict[str, Any]] = [row for row in journal.results() if row["part"] == part.name]
    found = summary(part, rows) | {"profiles": measured}
    path = RESULTS / "reordering.json"
    results = json.loads(path.read_text()) if path.exists() else {}
    results[part.name] = found | {"model": fair.backend.name}
    path.write_text(json.dumps(results, indent=1) + "\n")
    PAGE.write_text(page(results), encoding="utf-8")
    print(json.dumps(found["methods"], indent=1))


if __name__ == "__main__":
    main()
