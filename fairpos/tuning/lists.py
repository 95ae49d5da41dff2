"""From items to lists of lessons: which are learned, which are held out, and what is learned of each.

lists_of      items about the same segments together, since they share one reading
split_lists   lists held out by the seed, never single questions: their passages would be known already
teach         without labels: what the teacher's orders say together
label_lessons with labels: the right option, a margin above the others
"""

from __future__ import annotations

import hashlib
import math
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeAlias

from fairpos.audit.tasks import AuditTask, value_of
from fairpos.backends.hf import HFBackend
from fairpos.errors import InvalidRequest
from fairpos.files.items import TIE, Item
from fairpos.files.journal import Journal
from fairpos.files.text import json_text
from fairpos.methods.catalogue import parse
from fairpos.rankers.base import find_ranker
from fairpos.runner import run
from fairpos.tuning.lessons import Lesson, OptionsLesson
from fairpos.tuning.teaching import Teacher

Items: TypeAlias = Sequence[Item]
Progress: TypeAlias = Callable[[int, int], None]
_AT_ONCE = 8  # requests with options that a teacher is asked together


def lists_of(items: Items) -> list[list[Item]]:
    """Items about the same segments together, in the order in which these come first."""
    found: dict[object, list[Item]] = {}
    for item in items:
        found.setdefault((item.request.task, item.request.canonical().segments), []).append(item)
    return list(found.values())


def split_lists(lists: Sequence[list[Item]], share: float, seed: int) -> tuple[list[list[Item]], list[list[Item]]]:
    """Lists to learn from and lists held out, at least one of each.

    Args:
        lists: At least two.
        share: Of the lists that are held out.
        seed: Of who is.

    Raises:
        InvalidRequest: there are fewer than two lists.
    """
    if len(lists) < 2:
        raise InvalidRequest(
            f"tuning needs at least 2 lists of different segments, one to learn from and one to hold out; got "
            f"{len(lists)}"
        )
    count = min(max(1, round(share * len(lists))), len(lists) - 1)
    chosen = set(random.Random(f"{seed} held out").sample(range(len(lists)), count))
    return [each for i, each in enumerate(lists) if i not in chosen], [lists[i] for i in sorted(chosen)]


def teach(
    local: HFBackend, task: AuditTask, items: Items, teacher: str, folder: Path, progress: Progress | None = None
) -> dict[str, Lesson]:
    """What the teacher says to each item, by id; it is kept in the folder, and nobody is asked twice.

    Items with options to which it has no answer are left out.

    COST: of a text see `Teacher.lessons`; of options the teacher's own.
    """
    journal_path = folder / f"lessons-{_digest_of(local, task, items, teacher)}.jsonl"
    with Journal(journal_path, resume=True) as journal:
        if task.asks == "answer":
            asked = Teacher(local, parse(teacher), task.template, task.decoding.max_new_tokens)
            said = asked.lessons({item.id: item.request for item in items}, journal, progress)
            return {lesson.id: lesson for lesson in said}
        _ask_for_options(local, task, items, teacher, journal, progress)
        scores: dict[str, Any] = {str(line["id"]): line["scores"] for line in journal.results()}
    return {item.id: _voted_lesson(item, task, scores[item.id]) for item in items if scores[item.id]}


def _ask_for_options(
    local: HFBackend, task: AuditTask, items: Items, teacher: str, journal: Journal, progress: Progress | None
) -> None:
    left = [item for item in items if item.id not in journal.done]
    for start in range(0, len(left), _AT_ONCE):
        some = left[start : start + _AT_ONCE]
        outputs = run(
            [item.request for item in some],
            parse(teacher),
            local,
            ranker=find_ranker("first_token"),
            template=task.template,
            verdicts="distribution",
        )
        for item, output in zip(some, outputs, strict=True):
            whole = output.scores.keys() == set(item.request.ids)
            journal.append({"id": item.id, "scores": dict(output.scores) if whole else {}})
        if progress is not None:
            progress(len(items) - len(left) + start + len(some), len(items))


def _voted_lesson(item: Item, task: AuditTask, scores: Mapping[str, float]) -> OptionsLesson:
    """The options' shares of the vote."""
    best = max(scores.values())
    weights = {id: math.exp(score - best) for id, score in scores.items()}
    total = math.fsum(weights.values())
    targets = tuple((id, weights[id] / total) for id in sorted(weights))
    return OptionsLesson(item.id, item.request, targets, template=task.template)


def label_lessons(task: AuditTask, items: Items, margin: float) -> dict[str, Lesson]:
    """The right option of each item, by id, that shall be `margin` nats above the others; without those that have none.

    Args:
        task: One with options (`settings.LABELLED`).
        items: What is asked.
        margin: Nats.

    Raises:
        InvalidRequest: no item has a label.
    """
    known = [item for item in items if item.gold in item.request.ids and item.gold != TIE]
    if not known:
        raise InvalidRequest("no item says which segment is right; without --labels none needs to")
    return {item.id: _label_lesson(task, item, margin) for item in known}


def _label_lesson(task: AuditTask, item: Item, margin: float) -> OptionsLesson:
    targets = tuple((id, float(id == item.gold)) for id in sorted(item.request.ids))
    replies = tuple((segment.id, value_of(segment)) for segment in item.request.segments) if task.name == "kv" else ()
    return OptionsLesson(item.id, item.request, targets, replies, margin, task.template)


def _digest_of(local: HFBackend, task: AuditTask, items: Items, teacher: str) -> str:
    """8 hexadecimal digits of all that the teacher's words depend on."""
    asked = [[item.id, item.request.query, [asdict(s) for s in item.request.segments]] for item in items]
    words = None if task.template is None else task.template.fingerprint
    whole = [teacher, task.name, words, local.revision, str(local.model.dtype), asked]
    return hashlib.sha256(json_text(whole).encode()).hexdigest()[:8]
