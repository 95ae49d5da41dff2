"""Where an answer must stand to be found: BM25 and MiniLM, whole documents and chunks, on documents of 420 words.

    python -m benchmarks.retrieval        some 6 minutes on one core

A document is a gold passage of NQ-open (data/nq_groups10.jsonl) with its title, among six passages of other groups;
the passage is what moves. Questions of groups 0 to 4 have passages of groups 5 to 9 around their own, and the other way
round, so that no document holds another one's answer; the 50 documents of a half compete. Results go to
results/retrieval.json and docs/retrieval.md.
"""

from __future__ import annotations

import json
import random
from dataclasses import replace
from pathlib import Path

from benchmarks.pages import fill
from fairpos.audit.advice import shown
from fairpos.audit.retrieval.audit import RetrievalAudit, RetrievalPlan, audit_retriever
from fairpos.audit.retrieval.items import RetrievalItem
from fairpos.audit.retrieval.report import retrieval_report
from fairpos.files.records import read
from fairpos.types import Segment

HERE = Path(__file__).parent
AROUND = 6  # passages of other groups in a document
RETRIEVERS = ("bm25", "minilm")
PLAN = RetrievalPlan(places=5, chunks=(50, 100, 200))


def long_documents(seed: int = 0) -> list[RetrievalItem]:
    """The questions, each with its document and those that this competes with."""
    draw = random.Random(seed)
    groups = [record for _, record in read(HERE / "data" / "nq_groups10.jsonl").records]
    halves = groups[:5], groups[5:]
    items: list[RetrievalItem] = []
    for here, others in (halves, halves[::-1]):
        around = [_whole_text(passage) for group in others for passage in group["passages"]]
        made = [
            _long_item(group, question, draw.sample(around, AROUND), draw)
            for group in here
            for question in group["questions"]
        ]
        corpus = tuple(item.document for item in made)
        items += [replace(item, corpus=corpus, apart=frozenset({item.document.id})) for item in made]
    return items


def _whole_text(passage: dict) -> str:
    return f"{passage['title']}. {passage['text'].strip()}."


def _long_item(group: dict, question: dict, around: list[str], draw: random.Random) -> RetrievalItem:
    """A question whose passage stands somewhere among others."""
    own = _whole_text(group["passages"][question["gold_index"]])
    place = draw.randrange(len(around) + 1)
    text = " ".join([*around[:place], own, *around[place:]])
    start = text.index(own)
    document = Segment(id=question["id"], text=text)
    return RetrievalItem(question["id"], question["question"], document, ((start, start + len(own)),), ())


def table(found: list[RetrievalAudit]) -> str:
    """The figures as a table, a row a way of each retriever."""
    rows = [
        "| retriever | documents | passage first | in the middle | last | first minus last | start preferred | mean |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for audit in found:
        for way in audit.ways:
            places = [shown(way.by_place[number]) for number in (0, len(way.by_place) // 2, -1)]
            names = ("start_minus_end", "start_preferred", "moved_ndcg")
            cells = [audit.retriever, way.name, *places, *(shown(way.figures[name]) for name in names)]
            rows.append(f"| {' | '.join(cells)} |")
    depths = [
        "",
        "| words before the passage | questions | bm25 | minilm | minilm minus the start |",
        "|---|---|---|---|---|",
    ]
    by_word, by_vector = (audit.whole.by_depth for audit in found)
    for lexical, dense in zip(by_word, by_vector, strict=True):
        against = "" if dense.against_start is None else shown(dense.against_start, signed=True)
        span = f"{dense.low}{'+' if dense.high is None else f' to {dense.high - 1}'}"
        depths.append(f"| {span} | {dense.items} | {shown(lexical.ndcg)} | {shown(dense.ndcg)} | {against} |")
    said = [
        f"\n{audit.retriever}: {audit.advice.place_words} {audit.advice.headline}. {audit.advice.reason}"
        for audit in found
    ]
    return "\n".join([*rows, *depths, *said])


def main() -> None:
    """Audits both, and writes what was found."""
    items = long_documents()
    found = [audit_retriever(items, name, PLAN) for name in RETRIEVERS]
    results = [retrieval_report(audit, "") for audit in found]
    (HERE / "results" / "retrieval.json").write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    fill("retrieval.md", "retrieval", table(found))


if __name__ == "__main__":
    main()
