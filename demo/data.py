"""The demonstration's questions, ten groups of ten, each as two fives that share passages; and what came of them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from fairpos import Segment

DATA = Path(__file__).parents[1] / "benchmarks" / "data" / "nq_groups10.jsonl"


@dataclass(frozen=True)
class Question:
    """A question with five passages, of which one holds the answer."""

    text: str
    answers: tuple[str, ...]
    passages: tuple[Segment, ...]
    gold: str  # id of the passage that holds the answer

    def correct(self, text: str) -> bool:
        """Whether an answer holds one of the accepted answers."""
        return any(answer.lower() in text.lower() for answer in self.answers)


def questions(path: Path = DATA) -> list[Question]:
    """All questions, those that share passages beside each other."""
    found = []
    for line in path.read_text(encoding="utf-8").splitlines():
        group = json.loads(line)
        for half in (slice(0, 5), slice(5, 10)):
            passages = tuple(
                Segment(id=f"{group['group']}-{i}", title=passage["title"], text=passage["text"])
                for i, passage in list(enumerate(group["passages"]))[half]
            )
            for question in group["questions"][half]:
                gold = f"{group['group']}-{question['gold_index']}"
                found.append(Question(question["question"], tuple(question["answers"]), passages, gold))
    return found


@dataclass(frozen=True)
class Ranked:
    """Part (a): which passage came first, for each question."""

    gold_positions: list[int]  # of the passage with the answer, in the one order; from 0
    one_order: list[bool]  # top-1 right
    five_views: list[bool]

    def by_position(self, right: list[bool]) -> list[float | None]:
        """The share that is right, by the position of the gold passage; None where it never stands."""
        by = [[r for r, at in zip(right, self.gold_positions, strict=True) if at == i] for i in range(5)]
        return [sum(b) / len(b) if b else None for b in by]


@dataclass(frozen=True)
class Answered:
    """Part (c): the answers to one question, a row per method, a column per rotation; and why each method is shown."""

    question: Question
    texts: dict[str, list[str]]
    roles: dict[str, str]
