"""Chosen heads beside all heads: what `fairpos calibrate icr` is worth to `icr`, and what it saves.

    python -m benchmarks.heads            some 15 minutes on one core

NQ-open, each question's gold passage among 4 hard distractors (data/nq_groups10.jsonl), SmolLM2-135M-Instruct in
float32. Heads are chosen on the questions of groups 0 to 4 and used on every other question of groups 5 to 9; no
passage is in both. Results go to results/heads.json. nDCG is of the list of five, with a paired bootstrap over
questions; seconds are processor time of one core, which other work on the machine hardly moves.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path

import torch

import fairpos
from fairpos import FairModel, Request
from fairpos.calibration.heads import WITHIN, best_heads, read_lists
from fairpos.files.items import Item
from fairpos.metrics import bootstrap_interval, difference_interval, ndcg
from fairpos.metrics.bootstrap import Interval
from fairpos.relevance.icr import InContextRelevance

HERE = Path(__file__).parent
RESULTS = HERE / "results" / "heads.json"


def questions(groups: range) -> list[Item]:
    """Questions with their five passages, of whole groups."""
    found = []
    for number in groups:
        group = json.loads((HERE / "data" / "nq_groups10.jsonl").read_text().splitlines()[number])
        passages = [fairpos.Segment(id=str(i), **passage) for i, passage in enumerate(group["passages"])]
        for question in group["questions"]:
            gold = question["gold_index"]
            shown = tuple(passages[:5] if gold < 5 else passages[5:])
            request = Request("answer", question["question"], shown)
            found.append(Item(question["id"], request, str(gold), relevant=(str(gold),)))
    return found


def measured(fair: FairModel, source: InContextRelevance, items: Sequence[Item]) -> tuple[list[float], float]:
    """nDCG of each list, and the seconds for all of them."""
    bound = source.on(fair.backend)
    found = []
    started = time.process_time()
    for item in items:
        scores = bound.scores(item.request.query, item.request.segments)
        ranking = sorted(scores, key=lambda id: (-scores[id], id == item.gold))
        found.append(ndcg(ranking, {item.gold or "": 1.0}))
    return found, time.process_time() - started


def main() -> None:
    torch.set_num_threads(1)
    fair = fairpos.load("smollm2")
    fit, test = questions(range(5)), questions(range(5, 10))[::2]
    results: dict[str, object] = {"fitted_on": len(fit), "lists": len(test)}
    plain, seconds = measured(fair, InContextRelevance(), test)
    results["all heads"] = row(bootstrap_interval(plain), seconds)
    read = read_lists(fair.backend, fit)
    for name, within, by in (
        ("ndcg, all layers", 1.0, "ndcg"),
        ("ndcg", WITHIN, "ndcg"),
        ("contrast", WITHIN, "contrast"),
    ):
        profile = best_heads(fair.backend, read, measure=by, within=within)  # type: ignore[arg-type]  # both are measures
        values, own = measured(fair, InContextRelevance(profile=profile), test)
        results[name] = row(bootstrap_interval(values), own) | {
            "difference": list_of(difference_interval(values, plain)),
            "share_of_seconds": own / seconds,
            "heads": [list(pair) for pair in profile.heads],
            "in_sample": [profile.ndcg, profile.ndcg_all_heads],
        }
        RESULTS.write_text(json.dumps(results, indent=1) + "\n")
    print(json.dumps(results, indent=1))


def row(ndcg_found: Interval, seconds: float) -> dict[str, object]:
    return {"ndcg": list_of(ndcg_found), "seconds": seconds}


def list_of(interval: Interval) -> list[float]:
    return [interval.estimate, interval.low, interval.high]


if __name__ == "__main__":
    main()
