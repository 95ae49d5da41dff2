"""The demonstration's questions: ten groups of ten, each as two fives that share their passages."""

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
