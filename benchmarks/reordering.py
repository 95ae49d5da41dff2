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
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import fairpos
from fairpos import Request, Segment
from fairpos.backends.base import Score
from fairpos.calibration import Sample, attention_profile, black_box_profile, samples_of
from fairpos.calibration.black_box import Until, continued
from fairpos.metrics import bootstrap_interval, items_needed, wilson_interval
from fairpos.profiles import Profile
from fairpos.prompts import KEY_VALUE, Template, render
from fairpos.records import Journal, Lines, read
from fairpos.registry import parse

HERE = Path(__file__).parent
RESULTS = HERE / "results"
PAGE = HERE.parent / "docs" / "reordering.md"
PROFILES = ("fit", "u_shape", "logprob")  # attn_rank's, by how they were measured


@dataclass(frozen=True)
class Part:
    """One of the two experiments."""

    name: str
    count: int
    template: Template | None
    calibration: list[Sample]
    test: list[Sample]
    methods: tuple[str, ...]


def kv() -> Part:
    lines = read(HERE / "data" / "kv.jsonl")
    first, second = Lines(lines.records[:20]), Lines(lines.records[20:])
    methods = ("ascending", "descending", "edges", *PROFILES)
    return Part("kv", 10, KEY_VALUE, samples_of(first, 10), samples_of(second, 10), methods)


def nq() -> Part:
    samples: list[list[Sample]] = []
    for _, group in read(HERE / "data" / "nq_groups10.jsonl").records:
        for half in (0, 5):
            passages = tuple(
                Segment(id=str(half + i), title=p["title"], text=p["text"])
                for i, p in enumerate(group["passages"][half : half + 5])  # type: ignore[index, call-overload]
            )
            questions: Any = group["questions"]
            samples.append(
                [
                    Sample(
                        f"{group['group']}.{half}/{q['id']}",
                        q["question"],
                        passages,
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


def profiles(fair: fairpos.FairModel, part: Part, folder: Path) -> Iterator[None]:
    """Measures what isn't there yet; yields after each so that the minutes can be looked at."""
    for name in PROFILES:
        path = folder / f"reordering-{part.name}-{name}.json"
        if path.exists():
            continue
        started = time.monotonic()
        if name == "logprob":
            until = Until(0.02, budget=100)
            found = black_box_profile(
                fair.backend, part.calibration, signal="logprob", template=part.template, until=until
            )
        else:
            found = attention_profile(
                fair.backend, part.calibration, template=part.template, layers=name, probes=100, seed=0
            )
        seconds = time.monotonic() - started
        record = json.loads(found.save(path).read_text())
        path.write_text(json.dumps(record | {"seconds": round(seconds, 1)}, indent=1) + "\n")
        print(f"{part.name} {name}: {seconds:.0f} s", flush=True)
        yield


def views(fair: fairpos.FairModel, part: Part, sample: Sample, method: str, folder: Path) -> list[Request]:
    """What is asked of a method: one order, or all rotations where the method keeps the order."""
    rotations = sample.views("answer")
    if method == "none":
        return rotations
    spec = method
    if method in PROFILES:
        spec = f"attn_rank:profile={folder / f'reordering-{part.name}-{method}.json'}"
    [chosen] = parse(spec)
    # Any input order gives the same view; query_twice keeps it, so it gets another one from sample to sample.
    given = rotations[part.test.index(sample) % part.count]
    return chosen.ready([given], fair.backend, part.template).arrange(given, fair.backend)


def trials(fair: fairpos.FairModel, part: Part, journal: Journal, folder: Path) -> Iterator[None]:
    """Asks what isn't in the journal, record by record; yields after each."""
    for sample in part.test:
        for method in ("none", *part.methods):
            key = f"{part.name}|{sample.id}|{method}"
            if key in journal.done:
                continue
            started = time.monotonic()
            asked = views(fair, part, sample, method, folder)
            prompts = [render(view, part.template) for view in asked]
            replies = fair.backend.run([Score(p, (continued(p, sample.answers[0]),)) for p in prompts])
            journal.append(
                {
                    "key": key,
                    "part": part.name,
                    "cluster": sample.id.split("/")[0],
                    "item": sample.id,
                    "method": method,
                    "slots": [view.ids.index(sample.gold or "") for view in asked],
                    "log_prob": [reply.log_probs[0] / reply.tokens[0] for reply in replies],
                    "exact": [reply.greedy[0] for reply in replies],
                    "seconds": round(time.monotonic() - started, 2),
                }
            )
            yield


def summary(part: Part, rows: list[dict[str, Any]], folder: Path) -> dict[str, Any]:
    """Every method against the mean over rotations, on the items that all methods have."""
    done = [{r["item"] for r in rows if r["method"] == m} for m in ("none", *part.methods)]
    items = set.intersection(*done)
    measure = "exact" if part.name == "kv" else "log_prob"
    by = {(r["method"], r["item"]): r for r in rows if r["item"] in items}
    order = [s.id for s in part.test if s.id in items]
    plain = {i: dict(zip(by["none", i]["slots"], by["none", i][measure], strict=True)) for i in order}
    clusters = {i: by["none", i]["cluster"] for i in order}
    names = list(dict.fromkeys(clusters.values()))

    def clustered(values: dict[str, float]) -> np.ndarray:
        return np.array([np.mean([values[i] for i in order if clusters[i] == c]) for c in names])

    reference = {i: float(np.mean(list(plain[i].values()))) for i in order}
    by_slot = []
    for slot in range(part.count):
        found = bootstrap_interval(clustered({i: float(plain[i][slot]) for i in order}))
        by_slot.append([found.estimate, found.low, found.high])
    whole = bootstrap_interval(clustered(reference))
    table: dict[str, Any] = {
        "none, mean over rotations": {"value": [whole.estimate, whole.low, whole.high], "seconds": None}
    }
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
            "seconds": float(np.mean([by[method, i]["seconds"] for i in order])),
        }
    measured = {}
    for name in PROFILES:
        path = folder / f"reordering-{part.name}-{name}.json"
        profile = Profile.load(path)
        slots = [[slot.value, slot.low, slot.high] for slot in profile.slots]
        seconds = json.loads(path.read_text())["seconds"]
        measured[name] = {"rule": profile.rule, "samples": profile.samples, "seconds": seconds, "slots": slots}
    return {"measure": measure, "items": len(order), "by_slot": by_slot, "methods": table, "profiles": measured}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=("kv", "nq"))
    parser.add_argument("--model", default="smollm2")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="stop after so long; the next run goes on")
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
        if late(profiles(fair, part, options.work)) or late(trials(fair, part, journal, options.work)):
            print(f"out of minutes, {len(journal.done)} lines in the journal; run it again to go on")
        rows: list[dict[str, Any]] = [row for row in journal.results() if row["part"] == part.name]
    try:
        found = summary(part, rows, options.work)
    except (KeyError, ValueError, TypeError, fairpos.FairposError):
        print("not enough yet to sum up")
        return
    path = RESULTS / "reordering.json"
    results = json.loads(path.read_text()) if path.exists() else {}
    results[part.name] = found | {"model": fair.backend.name}
    path.write_text(json.dumps(results, indent=1) + "\n")
    print(json.dumps(found["methods"], indent=1))


if __name__ == "__main__":
    main()
