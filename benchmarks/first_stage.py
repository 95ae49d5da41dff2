"""How much of a first stage's order SmolLM2-135M leaves in its ranking, plainly and under methods.

    python -m benchmarks.first_stage        some 3 minutes on one core

Forty questions of NQ-open (four of each group of data/nq_groups10.jsonl) with their gold passage and four hard
distractors, as BM25 orders them; best first, worst first, and in three random orders. Results go to
results/first_stage.json and docs/ranking.md.
"""

from __future__ import annotations

import json
from pathlib import Path

import fairpos
from benchmarks.pages import fill
from fairpos.audit.advice import shown
from fairpos.audit.first_stage.audit import OrderAudit, OrderPlan, audit_first_stage
from fairpos.audit.first_stage.figures import KINDS
from fairpos.audit.first_stage.orders import lists_that_matter
from fairpos.audit.first_stage.report import order_report
from fairpos.files.records import objects_of, read, segments_of
from fairpos.files.trec import Qrels
from fairpos.passages import as_segments
from fairpos.ranking.items import RankItem
from fairpos.relevance.base import find_relevance
from fairpos.types import Request

HERE = Path(__file__).parent
METHODS = ("permutation:views=5", "set_based")
QUESTIONS = 4  # of each group
PASSAGES = 5


def by_bm25() -> tuple[list[RankItem], Qrels]:
    """Questions with their passages, the best of BM25 first, and which one answers."""
    items: list[RankItem] = []
    qrels: Qrels = {}
    for _, group in read(HERE / "data" / "nq_groups10.jsonl").records:
        passages = as_segments(segments_of(group, "passages")[:PASSAGES])
        for question in objects_of(group["questions"], "questions")[:QUESTIONS]:
            asked, id = str(question["question"]), str(question["id"])
            scores = find_relevance("bm25").scores(asked, passages)
            order = sorted(passages, key=lambda segment, found=scores: (-found[segment.id], segment.id))  # type: ignore[misc]
            items.append(RankItem(id, Request("rank", asked, tuple(order))))
            qrels[id] = {passages[int(str(question["gold_index"]))].id: 1.0}
    return items, qrels


def table(found: OrderAudit) -> str:
    """The figures as a table, a row a method, and what they support."""
    rows = [
        "| | given | best | worst | random | best minus worst | spread | the order counts |",
        "|---|---|---|---|---|---|---|---|",
        f"| the orders themselves | {' | '.join(f'{found.plain.shown[kind]:.2f}' for kind in KINDS)} | | | |",
    ]
    for each in found.methods:
        cells = [shown(each.ndcg[kind]) for kind in KINDS]
        cells += [shown(each.figures[name]) for name in ("best_minus_worst", "spread")]
        rows.append(f"| `{each.method}` | {' | '.join(cells)} | {', '.join(each.biases) or 'not found'} |")
    advice = found.advice
    return "\n".join([*rows, "", f"{advice.order_words} {advice.headline}. {advice.reason}"])


def main() -> None:
    """Audits, and writes what was found."""
    lists, left_out = lists_that_matter(*by_bm25())
    backend = fairpos.load("smollm2").backend
    found = audit_first_stage(backend, lists, METHODS, OrderPlan(draws=3), batch=4, left_out=left_out)
    result = json.dumps(order_report(found, ""), indent=1)
    (HERE / "results" / "first_stage.json").write_text(result + "\n", encoding="utf-8")
    fill("ranking.md", "first_stage", table(found))


if __name__ == "__main__":
    main()
