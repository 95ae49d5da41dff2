"""Every ranker beside each other on a real model: which finds the passage with the answer, and what does it cost?

    python -m benchmarks.rankers [--minutes 5]     goes on where it stopped; run it until it says that all is there

100 questions of NQ-open, each with its gold passage among 4 hard distractors (data/nq_groups10.jsonl: halves of its 10
groups, 5 questions on 5 passages), SmolLM2-135M-Instruct in float32. In the order of the file every question's gold
passage stands at every place equally often, so a model that always names one slot is right in .20.

Accuracy is how often the gold passage is ranked first; its interval is Wilson's, those of the reciprocal rank and of
the differences are paired bootstraps over questions. Tokens are counted as if nothing were shared between calls.
Seconds are of one core (processor time, which other work on the machine hardly moves), with the 5 questions of a
half-group together, which lets scored calls share what comes before the question. A call that an earlier row made
already is not run again: it counts with the seconds that it took then.
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import json
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import fairpos
from benchmarks.pages import fill
from fairpos import FairModel, Request, Segment, Usage
from fairpos.backends.base import Backend, Call, Reply, Score
from fairpos.files.journal import Journal
from fairpos.files.records import Record
from fairpos.metrics import bootstrap_interval, difference_interval, reciprocal_rank, wilson_interval
from fairpos.types import Output

HERE = Path(__file__).parent
REPLIES = HERE / "results" / "rankers-work" / "replies.jsonl"
RECORDS = HERE / "results" / "rankers.jsonl"
K = 5

# Name in the table -> methods, ranker.
ARMS: Mapping[str, tuple[str, str]] = {
    "first_token, one order": ("none", "first_token"),
    "first_token, 5 cyclic views": ("permutation:views=5", "first_token"),
    "first_token, capcal, one order": ("capcal", "first_token"),
    "first_token, capcal in 5 cyclic views": ("permutation:views=5+capcal", "first_token"),
    "embedding (minilm)": ("none", "embedding"),
    "pointwise": ("none", "pointwise"),
    "generate, one order": ("none", "generate"),
    "pairwise": ("none", "pairwise"),
    "generate, unconstrained, one order": ("none", "generate:constrained=false"),
    "generate, 5 cyclic views": ("permutation:views=5", "generate"),
}
BASELINE = "first_token, one order"


def halves() -> Iterator[list[tuple[Request, str]]]:
    """Five questions on five passages at a time, with the id of each one's gold passage."""
    for line in (HERE / "data" / "nq_groups10.jsonl").read_text().splitlines():
        group = json.loads(line)
        for first in (0, K):
            passages = tuple(
                Segment(id=f"{group['group']}-p{i}", title=p["title"], text=p["text"])
                for i, p in enumerate(group["passages"][first : first + K], first)
            )
            yield [
                (Request("rank", q["question"], passages), f"{group['group']}-p{q['gold_index']}")
                for q in group["questions"][first : first + K]
            ]


class Remembering:
    """A backend that runs no call twice: what it ran before, also in an earlier run, is read from a file.

    Attributes:
        seconds: Of all calls so far, those that were remembered included; a call's are its share of its batch.
    """

    def __init__(self, backend: Backend, path: Path) -> None:
        self.backend = backend
        self.name, self.capabilities = backend.name, backend.capabilities
        self.seconds = 0.0
        self._known: dict[str, tuple[Reply, float]] = {}
        self._path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        for line in path.read_text().splitlines() if path.exists() else []:
            key, text, log_probs, usage, seconds = json.loads(line)
            self._known[key] = (Reply(text=text, log_probs=tuple(log_probs), usage=Usage(*usage)), seconds)

    def run(self, calls: Sequence[Call]) -> list[Reply]:
        keys = [_key(call) for call in calls]
        new = {key: call for key, call in zip(keys, calls, strict=True) if key not in self._known}
        started = time.process_time()
        replies = self.backend.run(list(new.values()))
        each = (time.process_time() - started) / max(1, len(new))
        with self._path.open("a") as file:
            for key, reply in zip(new, replies, strict=True):
                self._known[key] = (reply, each)
                row = (key, reply.text, reply.log_probs, dataclasses.astuple(reply.usage), each)
                file.write(json.dumps(row) + "\n")
        self.seconds += sum(self._known[key][1] for key in keys)
        return [self._known[key][0] for key in keys]


def _key(call: Call) -> str:
    """Of everything that the reply depends on."""
    if isinstance(call, Score):
        asked: tuple[object, ...] = ("score", call.replies)
    else:
        asked = ("generate", call.listing, call.decoding.max_new_tokens)
    content = json.dumps([call.prompt.text, call.prompt.answer_start, *asked])
    return hashlib.sha256(content.encode()).hexdigest()[:24]


def record(arm: str, number: int, output: Output, gold: str, seconds: float) -> Record:
    """One question's result."""
    return {
        "id": f"{arm}|{number}",
        "arm": arm,
        "question": number,
        "right": output.winner == gold,
        "reciprocal_rank": reciprocal_rank(output.ranking, [gold]),
        "views": dict(Counter(view.status for view in output.views)),
        "calls": output.usage.calls,
        "prompt_tokens": output.usage.prompt_tokens,
        "new_tokens": output.usage.completion_tokens,
        "seconds": round(seconds, 4),
    }


def measure(minutes: float) -> bool:
    """Runs what is missing for so long; whether all is there."""
    import torch

    torch.set_num_threads(1)
    backend = Remembering(fairpos.load("smollm2", device="cpu").backend, REPLIES)
    fair = FairModel(backend)
    fair.rank("warm up", ["one", "two"], ranker="embedding")
    end = time.monotonic() + 60 * minutes
    with Journal(RECORDS, resume=True) as journal:
        for arm, (methods, ranker) in ARMS.items():
            for half, asked in enumerate(halves()):
                numbers = range(half * K, half * K + K)
                if all(f"{arm}|{number}" in journal.done for number in numbers):
                    continue
                if time.monotonic() > end:
                    return False
                started, before = time.process_time(), backend.seconds
                outputs = fair.run([request for request, _ in asked], methods, ranker=ranker)
                # The embedding ranker asks no backend: its time is what passed.
                asking = backend.seconds - before
                seconds = (asking or time.process_time() - started) / K
                for number, output, (_, gold) in zip(numbers, outputs, asked, strict=True):
                    if f"{arm}|{number}" not in journal.done:
                        journal.append(record(arm, number, output, gold, seconds))
    return True


def summary(records: Sequence[Record]) -> list[dict[str, object]]:
    """One row an arm, in their order; arms that aren't complete are left out."""
    by_arm = {arm: {r["question"]: r for r in records if r["arm"] == arm} for arm in ARMS}
    everyone = set(by_arm[BASELINE])
    rows: list[dict[str, object]] = []
    for arm, found in by_arm.items():
        if not found or set(found) != everyone:
            continue
        each = [found[q] for q in sorted(found, key=int)]  # type: ignore[arg-type]
        base = [by_arm[BASELINE][r["question"]] for r in each]
        right = sum(bool(r["right"]) for r in each)
        low, high = wilson_interval(right, len(each))
        rank = bootstrap_interval([float(str(r["reciprocal_rank"])) for r in each])
        gain = difference_interval([float(bool(r["right"])) for r in each], [float(bool(r["right"])) for r in base])
        statuses: Counter[str] = Counter()
        for r in each:
            assert isinstance(r["views"], dict)
            statuses.update({str(k): int(str(v)) for k, v in r["views"].items()})
        mean = {name: sum(float(str(r[name])) for r in each) / len(each) for name in COSTS}
        methods, ranker = ARMS[arm]
        rows.append(
            {
                "arm": arm,
                "methods": methods,
                "ranker": ranker,
                "questions": len(each),
                "accuracy": [right / len(each), low, high],
                "mrr": [rank.estimate, rank.low, rank.high],
                "gain_over_one_order": [gain.estimate, gain.low, gain.high],
                "views": dict(statuses),
                **{name: round(value, 3) for name, value in mean.items()},
            }
        )
    return rows


COSTS = ("calls", "prompt_tokens", "new_tokens", "seconds")


def table(rows: Sequence[Mapping[str, object]]) -> str:
    """The rows in Markdown."""

    def three(value: object, sign: str = "") -> str:
        assert isinstance(value, list)
        middle, low, high = (f"{v:{sign}.2f}" for v in value)
        return f"{middle} ({low} to {high})"

    columns = ("ranker", "accuracy (95 %)", "against one order", "MRR (95 %)", "calls", "read", "written", "seconds")
    lines = [f"| {' | '.join(columns)} |", "|---" * len(columns) + "|"]
    lines += [
        f"| {row['arm']} | {three(row['accuracy'])} | {three(row['gain_over_one_order'], '+')} | {three(row['mrr'])} | "
        f"{row['calls']:.0f} | {row['prompt_tokens']:.0f} | {row['new_tokens']:.0f} | {row['seconds']:.2f} |"
        for row in rows
    ]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=1e9, help="stop after about so long")
    complete = measure(parser.parse_args().minutes)
    records = [json.loads(line) for line in RECORDS.read_text().splitlines()]
    rows = summary(records)
    (HERE / "results" / "rankers.json").write_text(json.dumps(rows, indent=1) + "\n")
    fill("ranking.md", "rankers", table(rows))
    print(table(rows))
    print("all is there" if complete else f"{len(records)} of {100 * len(ARMS)} records; run it again")


if __name__ == "__main__":
    main()
