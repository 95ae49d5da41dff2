"""Ways through a long list beside `windows`: nDCG@10 against calls, tokens and rounds.

    python -m benchmarks.long_lists                        writes benchmarks/results/long_lists.json, docs/ranking.md
    python -m benchmarks.long_lists --model smollm2        the embedded model on lists of real passages, printed alone

100 passages a query, of which 30 are relevant in three grades; a first stage gives an order to begin with. The rankers
are made up, so that their bias is known: each prefers a passage by its worth (a standard deviation of 2 nats), plus
what the row says. Tokens are words of the prompts, 60 a passage.

    exact     nothing more
    noisy     Gaussian noise of 1 nat, drawn anew for every prompt
    biased    the same noise, and 3 nats for the first slot falling to 0 in the middle, 1.5 for the last
"""

from __future__ import annotations

import argparse
import json
import math
import random
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.pages import fill
from fairpos import FairModel, Segment, load
from fairpos.backends.base import Backend, Call, Reply
from fairpos.backends.fake import FakeBackend
from fairpos.metrics.ndcg import ndcg
from fairpos.testing.subjects import RecordingBackend

HERE = Path(__file__).parent
PASSAGES, WORDS, TOP = 100, 60, 10
GRADES = [3.0] * 5 + [2.0] * 10 + [1.0] * 15
FIRST_STAGE_NOISE = 3.0  # nats, against a worth with a standard deviation of 2

# (what it is called, methods, ranker)
WAYS = [
    ("first stage alone", None, ""),
    ("windows", "windows", "first_token"),
    ("blitz", "blitz", "first_token"),
    ("blitz, cycles as ties", "blitz:cycles=tie", "first_token"),
    ("joint, 2 replicates", "joint", "first_token"),
    ("joint, 4 replicates", "joint:replicates=4", "first_token"),
    ("joint, 4 replicates, rank centrality", "joint:replicates=4,aggregation=rank_centrality", "first_token"),
    ("setwise, 1 view", "none", "setwise:views=1"),
    ("tournament, 1 view", "none", "tournament:size=20,views=1"),
    ("windows of 10", "windows:size=10,stride=5", "first_token"),
    ("blitz, windows of 10", "blitz:size=10", "first_token"),
    ("windows of 10, 4 views inside", "windows:size=10,stride=5+permutation:views=4", "first_token"),
    ("blitz, windows of 10, 4 views inside", "blitz:size=10+permutation:views=4", "first_token"),
    ("windows, 4 views inside", "windows+permutation:views=4", "first_token"),
    ("blitz, 4 views inside", "blitz+permutation:views=4", "first_token"),
    ("blitz, cycles as ties, 4 views inside", "blitz:cycles=tie+permutation:views=4", "first_token"),
    ("joint, 2 replicates, 4 views inside", "joint+permutation:views=4", "first_token"),
    ("setwise, 4 views", "none", "setwise:views=4"),
    ("tournament, 4 views", "none", "tournament:size=20,views=4"),
]


@dataclass(frozen=True)
class Query:
    """One list to be ranked: the passages with the first stage's scores, and their grades."""

    text: str
    passages: tuple[Segment, ...]
    grades: dict[str, float]


class RoundCounter(RecordingBackend):
    """Counts how often a backend is asked: calls of one list don't need each other's replies."""

    rounds = 0

    def run(self, calls: Sequence[Call]) -> list[Reply]:
        """One round."""
        self.rounds += 1
        return super().run(calls)


def slot_bias(slot: int, count: int) -> float:
    """3 nats for the first slot falling to 0 in the middle, 1.5 for the last."""
    place = slot / max(1, count - 1)
    return 3 * max(0.0, 1 - 2 * place) + 1.5 * max(0.0, 2 * place - 1)


def worth_of(query: str, segment: Segment) -> float:  # noqa: ARG001
    """Written into the text."""
    return float(segment.text.split()[0])


RANKERS: dict[str, FakeBackend] = {
    "exact": FakeBackend(quality=worth_of),
    "noisy": FakeBackend(quality=worth_of, noise=1.0),
    "biased": FakeBackend(quality=worth_of, noise=1.0, slot_bias=slot_bias),
}


def made_up(count: int) -> Iterator[Query]:
    """Queries whose passages' worths are drawn, seeded."""
    for number in range(count):
        draw = random.Random(number)
        worths = sorted((draw.gauss(0, 2) for _ in range(PASSAGES)), reverse=True)
        passages = [
            Segment(
                id=f"p{i}",
                text=f"{worth:.6f}" + " word" * (WORDS - 1),
                score=worth + draw.gauss(0, FIRST_STAGE_NOISE),
            )
            for i, worth in enumerate(worths)
        ]
        grades = {f"p{i}": grade for i, grade in enumerate(GRADES)}
        yield Query(f"query {number}", tuple(draw.sample(passages, PASSAGES)), grades)


def real(count: int) -> Iterator[Query]:
    """Questions of NQ-open: their own passages and those of the questions after them, in a seeded order."""
    lines = (HERE / "data" / "nq_groups10.jsonl").read_text(encoding="utf-8").splitlines()
    groups = [json.loads(line) for line in lines]
    texts = [passage["text"] for group in groups for passage in group["passages"]]
    for number, group in enumerate(groups[:count]):
        own = [passage["text"] for passage in group["passages"]]
        rest = [text for text in dict.fromkeys(texts) if text not in own]
        draw = random.Random(number)
        chosen = draw.sample([*own, *rest[: PASSAGES - len(own)]], PASSAGES)
        gold = {f"p{i}": 1.0 for i, text in enumerate(chosen) if text in own}
        passages = tuple(Segment(id=f"p{i}", text=text) for i, text in enumerate(chosen))
        yield Query(group["questions"][0]["question"], passages, gold)


def measure(backend: Backend, queries: Sequence[Query], methods: str | None, ranker: str) -> dict[str, float]:
    """Means over the queries."""
    rows = []
    for query in queries:
        counter = RoundCounter(backend)
        if methods is None:
            order = sorted(query.passages, key=lambda segment: -(segment.score or 0.0))
            rows.append((ndcg([segment.id for segment in order], query.grades, TOP), 0, 0, 0))
            continue
        output = FairModel(counter).rank(query.text, query.passages, methods, ranker=ranker)
        assert sorted(output.ranking) == sorted(segment.id for segment in query.passages)
        used = output.usage
        rows.append((ndcg(output.ranking, query.grades, TOP), used.calls, used.prompt_tokens, counter.rounds))
    names = ("ndcg", "calls", "tokens", "rounds")
    found = {name: statistics.fmean(column) for name, column in zip(names, zip(*rows, strict=True), strict=True)}
    error = statistics.stdev(row[0] for row in rows) / math.sqrt(len(rows)) if len(rows) > 1 else math.nan
    return found | {"error": error}


def table(rows: Sequence[dict[str, object]], queries: int) -> str:
    """Of all rankers; tokens beside those of `windows`."""
    lines = [
        f"{queries} queries of {PASSAGES} passages; windows and groups of 20 or as said, setwise of 10. nDCG@10 with",
        "its standard error; tokens as a multiple of those of `windows` (of 20) with as many views.",
    ]
    for name in dict.fromkeys(str(row["ranker"]) for row in rows):
        lines += ["", f"| {name} ranker | nDCG@10 | calls | tokens | rounds |", "|---|---|---|---|---|"]
        own = [row for row in rows if row["ranker"] == name]
        tokens = {row["way"]: float(str(row["tokens"])) for row in own}
        for row in own:
            base = tokens["windows, 4 views inside" if "4 views" in str(row["way"]) else "windows"]
            lines.append(
                f"| {row['way']} | {row['ndcg']:.3f} ± {row['error']:.3f} | {row['calls']:.1f} | "
                f"{float(str(row['tokens'])) / base:.2f} | {row['rounds']:.1f} |"
            )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--queries", type=int, default=40)
    parser.add_argument(
        "--model", help="an embedded model, a folder, a hub id; instead of the rankers that are made up"
    )
    given = parser.parse_args()
    if given.model:
        backends: dict[str, Backend] = {given.model: load(given.model).backend}
        queries = list(real(given.queries))
    else:
        backends, queries = dict(RANKERS), list(made_up(given.queries))
    rows: list[dict[str, object]] = []
    for name, backend in backends.items():
        for way, methods, ranker in WAYS:
            if given.model and methods is None:
                continue
            found = measure(backend, queries, methods, ranker)
            rows.append({"ranker": name, "way": way, **{key: round(value, 4) for key, value in found.items()}})
            print(rows[-1], flush=True)
    text = table(rows, given.queries)
    if given.model:
        print(text)
        return
    settings = {"queries": given.queries, "passages": PASSAGES, "words": WORDS, "first_stage_noise": FIRST_STAGE_NOISE}
    result = json.dumps({"settings": settings, "rows": rows}, indent=1)
    (HERE / "results" / "long_lists.json").write_text(result + "\n", encoding="utf-8")
    fill("ranking.md", "long_lists", text)


if __name__ == "__main__":
    main()
