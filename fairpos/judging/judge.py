"""Judging a file: records become cases, cases become verdicts, one line each, within a budget.

A verdict is `{id, winner, status, ids, scores, tie, views, usage, methods, judge, notes}` and, where the record had
them, `gold`, `correct`, `models`. `winner` is an answer's id or null: a tie where `status` is "ok", else no verdict.
Every view has its `order`, `status`, `winner`, `scores` and `text`, the judge's words; and, where it failed, `detail`.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from fairpos.backends.base import Decoding
from fairpos.errors import InvalidOption, InvalidRequest
from fairpos.files.records import Bad, Json, Lines, Record, segments_of, text_of
from fairpos.methods.base import Method
from fairpos.methods.cross_labels import CrossLabels
from fairpos.methods.swap import Swap
from fairpos.model import FairModel
from fairpos.prompts import Template, render, slot_labels
from fairpos.rankers.verdict import VerdictForm
from fairpos.types import Output, Request, Segment, Usage, View, as_segments


@dataclass(frozen=True, slots=True)
class Case:
    """A record that can be judged, and the line it came from."""

    line: int
    id: str
    request: Request
    record: Record
    gold: str | None = None


def case_of(line: int, record: Record, *, rubric: str | None = None, travelling: bool = False) -> Case:
    """A record as a case.

    Args:
        line: Its line number.
        record: `id, instruction, answers: [{id, text}]` or `response_a, response_b`; optional `gold` (an id),
            `reference` and `rubric`.
        rubric: For records that have none of their own.
        travelling: Labels belong to the answers, in the record's order, instead of to the slots.

    Raises:
        InvalidRequest: it can't be used; the message says why.
    """
    if "answers" in record:
        segments = segments_of(record, "answers")
    else:
        segments = [Segment(id=slot, text=text_of(record, f"response_{slot.lower()}")) for slot in "AB"]
    answers = as_segments(segments)
    if len(answers) < 2:
        raise InvalidRequest(f"needs at least 2 answers to compare, got {len(answers)}")
    gold = text_of(record, "gold") if record.get("gold") is not None else None
    if gold is not None and gold not in {answer.id for answer in answers}:
        raise InvalidRequest(f"gold {gold!r} is none of the answers: {', '.join(a.id for a in answers)}")
    parts = [text_of(record, "instruction")]
    for name, title in (("reference", "Reference answer"), ("rubric", "Rubric")):
        text = text_of(record, name) if record.get(name) is not None else (rubric if name == "rubric" else None)
        if text:
            parts.append(f"{title}:\n{text}")
    labels = slot_labels("judge", len(answers)) if travelling else None
    return Case(line, text_of(record, "id"), Request("judge", "\n\n".join(parts), answers, labels), record, gold)


def cases_of(lines: Lines, *, rubric: str | None = None, travelling: bool = False) -> tuple[list[Case], list[Bad]]:
    """All records as cases, and every line that can't be used, in the file's order."""
    cases: list[Case] = []
    bad = list(lines.bad)
    seen: dict[str, int] = {}
    for number, record in lines.records:
        try:
            case = case_of(number, record, rubric=rubric, travelling=travelling)
            if case.id in seen:
                raise InvalidRequest(f"id {case.id!r} is that of line {seen[case.id]} already")
            seen[case.id] = number
            cases.append(case)
        except InvalidRequest as error:
            bad.append(Bad(number, str(error)))
    return cases, sorted(bad, key=lambda each: each.line)


def crossed(methods: Sequence[Method]) -> tuple[Method, ...]:
    """The methods with both orders and all labelings around them: the mean over positions and labels."""
    chosen = tuple(methods)
    names = {method.name for method in chosen}
    if "cross_labels" not in names:
        # Inside of what turns the order, outside of what is calibrated or owns the attention.
        after = max(
            (i + 1 for i, method in enumerate(chosen) if method.order_free and not method.owns_attention), default=0
        )
        chosen = (*chosen[:after], CrossLabels(), *chosen[after:])
    return chosen if any(method.order_free for method in chosen) else (Swap(verdict="mean"), *chosen)


@dataclass(slots=True)
class Budget:
    """What may still be spent. A record is only started if the costliest one so far would fit.

    Args:
        text: "500 calls" or "20000 tokens" (prompt and new ones); cached calls are free.

    Raises:
        InvalidOption: something else.
    """

    text: str
    left: int = field(init=False)
    unit: str = field(init=False)
    costliest: int = field(init=False, default=0)

    def __post_init__(self) -> None:
        match = re.fullmatch(r"\s*(\d+)\s*(calls?|tokens?)\s*", self.text)
        if match is None:
            raise InvalidOption(f"a budget is like '500 calls' or '20000 tokens', got {self.text!r}")
        self.left = int(match.group(1))
        self.unit = match.group(2).removesuffix("s") + "s"

    def fits(self, wanted: int) -> int:
        """How many of so many records may run together now: one until a cost is known."""
        if self.costliest == 0:
            return min(wanted, 1) if self.left > 0 else 0
        return max(0, min(wanted, self.left // self.costliest))

    def spend(self, usages: Sequence[Usage]) -> None:
        """Takes off what a batch cost."""
        for usage in usages:
            tokens = 0 if usage.calls == 0 else usage.prompt_tokens + usage.completion_tokens
            cost = usage.calls if self.unit == "calls" else tokens
            self.left -= cost
            self.costliest = max(self.costliest, cost)


@dataclass(frozen=True, slots=True)
class Judge:
    """Who judges, and how.

    Attributes:
        fair: The model.
        methods: Outermost first, calibrated.
        name: The methods' text form, for the records.
        template: None takes the task's own.
        verdicts: See `fairpos.runner.run`.
        decoding: For verdicts in words.
    """

    fair: FairModel
    methods: tuple[Method, ...]
    name: str
    template: Template | None = None
    verdicts: VerdictForm = "auto"
    decoding: Decoding = Decoding(max_new_tokens=512)

    def ask(self, requests: Sequence[Request], methods: Sequence[Method]) -> list[Output]:
        """Runs requests."""
        return self.fair.run(requests, methods, template=self.template, verdicts=self.verdicts, decoding=self.decoding)

    def verdicts_on(
        self,
        cases: Sequence[Case],
        *,
        batch: int,
        budget: Budget | None = None,
        on_bad: Callable[[Bad], None] | None = None,
    ) -> Iterator[tuple[Case, Record]]:
        """Verdicts as they come.

        Args:
            cases: In this order.
            batch: Records that run together.
            budget: Ends the run early when it is spent.
            on_bad: Gets the records that the model can't take (too long); None: they raise.

        Raises:
            InvalidRequest: such a record, named by its line.
        """
        start = 0
        while start < len(cases):
            count = batch if budget is None else budget.fits(min(batch, len(cases) - start))
            if count == 0:
                return
            chosen = cases[start : start + count]
            start += count
            for case, output in self._together(chosen, on_bad):
                if budget is not None:
                    budget.spend([output.usage])
                yield case, verdict_of(case, output, self.name, self.fair.backend.name)

    def _together(self, cases: Sequence[Case], on_bad: Callable[[Bad], None] | None) -> list[tuple[Case, Output]]:
        try:
            return list(zip(cases, self.ask([case.request for case in cases], self.methods), strict=True))
        except InvalidRequest as error:
            if len(cases) > 1:  # one by one, to find whose fault it is
                return [pair for case in cases for pair in self._together([case], on_bad)]
            bad = Bad(cases[0].line, str(error))
            if on_bad is None:
                raise InvalidRequest(f"line {bad.line}: {bad.reason}") from None
            on_bad(bad)
            return []


def verdict_of(case: Case, output: Output, methods: str, judge: str) -> Record:
    """The line that is written for a case; its fields are described above."""
    record: Record = {
        "id": case.id,
        "winner": output.winner,
        "status": output.status,
        "ids": list(case.request.ids),
        "scores": _finite(output.scores),
        "tie": output.tie if output.tie is not None and math.isfinite(output.tie) else None,
        "views": [_view(view) for view in output.views],
        "usage": dict(dataclasses.asdict(output.usage)),
        "methods": methods,
        "judge": judge,
        "notes": list(output.notes),
    }
    if case.gold is not None:
        record["gold"] = case.gold
        record["correct"] = output.winner == case.gold
    models = models_of(case.record)
    if models:
        record["models"] = dict(models)
    return record


def decided(verdict: Record) -> bool:
    """Whether a line is a verdict: a winner, or a tie. "partial" with scores is, where an endpoint lists few labels."""
    status = verdict.get("status")
    return verdict.get("winner") is not None or status == "ok" or (status == "partial" and bool(verdict.get("scores")))


def _finite(scores: Mapping[str, float]) -> Record:
    """JSON has no infinity: null is the log of probability 0."""
    return {id: score if math.isfinite(score) else None for id, score in scores.items()}


def _view(view: View) -> Record:
    return {
        "order": list(view.order),
        "status": view.status,
        "winner": view.ranking[0] if view.ranking else None,
        "scores": _finite(view.scores),
        "text": view.text,
        **({"detail": view.detail} if view.detail else {}),
    }


def models_of(record: Record) -> Mapping[str, str]:
    """Which model wrote which answer: `model` of an answer, or `model_a` and `model_b`."""
    answers = record.get("answers")
    found = {}
    if isinstance(answers, list):
        for number, answer in enumerate(answers, 1):
            if isinstance(answer, dict) and answer.get("model") is not None:
                found[str(answer.get("id") or number)] = text_of(answer, "model")
    else:
        found = {slot: str(record[f"model_{slot.lower()}"]) for slot in "AB" if record.get(f"model_{slot.lower()}")}
    return found


def prompts_of(case: Case, verdict: Record, template: Template | None) -> dict[tuple[str, ...], str]:
    """The prompts of a verdict's views in words, by the order of ids shown."""
    views = verdict.get("views")
    place = {id: i for i, id in enumerate(case.request.ids)}
    prompts = {}
    for view in views if isinstance(views, list) else []:
        order = view.get("order") if isinstance(view, dict) else None
        if isinstance(order, list) and all(str(id) in place for id in order):
            view_request = case.request.reordered([place[str(id)] for id in order])
            prompts[view_request.ids] = render(view_request, template).text
    return prompts


def read_template(path: Path) -> Template:
    """A template from a TOML file with the fields of `Template`.

    Raises:
        InvalidOption: it can't be read, or has other fields.
    """
    import tomllib

    names = [f.name for f in dataclasses.fields(Template)]
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise InvalidOption(f"can't read the template {path}: {error}") from None
    if not set(values) <= set(names) or not {"instruction", "segment", "question"} <= set(values):
        raise InvalidOption(
            f"template {path} must have instruction, segment and question, and may have answer_start, chat and repeat; "
            f"it has {', '.join(values) or 'nothing'}"
        )
    kinds = {name: bool if name == "chat" else str for name in names}
    for name, value in values.items():
        if not isinstance(value, kinds[name]):
            raise InvalidOption(f"template {path}: {name} must be {kinds[name].__name__}, got {value!r}")
    return Template(**values)


def with_ties(template: Template) -> Template:
    """The template, made to offer a tie after its question if it doesn't yet."""
    if template.ties:
        return template
    return replace(template, question=f"{template.question} If none is better, reply with {{tie}}.")


__all__ = [
    "Budget",
    "Case",
    "Json",
    "Judge",
    "case_of",
    "cases_of",
    "crossed",
    "models_of",
    "prompts_of",
    "read_template",
    "verdict_of",
    "with_ties",
]
