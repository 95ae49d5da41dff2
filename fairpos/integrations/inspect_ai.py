"""inspect_ai: a model provider, and scorers that choose and judge free of order and labels.

    inspect eval task.py --model fairpos/smollm2 -M methods=permutation:views=3

    @task
    def colours():
        return Task(dataset=json_dataset("colours.jsonl"), solver=[], scorer=order_free_choice())

Both are found by inspect_ai's entry points. The provider answers in text; with methods, a prompt must list the choices
of the sample that it belongs to (as `multiple_choice()` does), and the answer is `ANSWER: X`. The scorers ask any model
of inspect_ai, in every rotation of the choices and with every assignment of the labels, and say in the score's metadata
what slots and labels did.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import cast

from fairpos.backends.base import Backend, Call, Generate, Reply
from fairpos.errors import InvalidRequest
from fairpos.extras import missing_extra
from fairpos.integrations.inspect_provider import FairposAPI, reason_of
from fairpos.methods.swap import mean_verdict
from fairpos.model import FairModel
from fairpos.passages import as_segments
from fairpos.prompts import EMPTY_ANSWER, slot_labels
from fairpos.types import Capability, Output, Request, Segment, Usage

try:
    import anyio
    from inspect_ai.model import GenerateConfig, Model, ModelUsage, get_model
    from inspect_ai.scorer import (
        CORRECT,
        INCORRECT,
        NOANSWER,
        PARTIAL,
        Metric,
        SampleScore,
        Score,
        Scorer,
        Target,
        accuracy,
        metric,
        scorer,
        stderr,
    )
    from inspect_ai.solver import TaskState
    from inspect_ai.util import collect
except ImportError as error:
    raise missing_extra("inspect_ai isn't installed", "inspect-ai", error) from None


@dataclass(frozen=True, slots=True)
class InspectBackend(Backend):
    """Any model of inspect_ai as a backend that writes text; used in a worker thread of an evaluation.

    Attributes:
        model: The model.
    """

    model: Model

    @property
    def name(self) -> str:
        """As inspect_ai calls it."""
        return str(self.model)

    @property
    def capabilities(self) -> frozenset[Capability]:
        """Text alone."""
        return frozenset({"generate"})

    def run(self, calls: Sequence[Call]) -> list[Reply]:
        """Replies of all calls, which inspect_ai runs at once as far as it allows."""
        return anyio.from_thread.run(self._generate_all, calls)

    async def _generate_all(self, calls: Sequence[Call]) -> list[Reply]:
        return list(await collect(*(self._generate_one(call) for call in calls)))

    async def _generate_one(self, call: Call) -> Reply:
        assert isinstance(call, Generate)
        # The limit of a verdict's length is ours only where neither the task nor the command line has one.
        config = GenerateConfig(max_tokens=self.model.config.max_tokens or call.decoding.max_new_tokens)
        output = await self.model.generate(call.prompt.text, config=config)
        spent = output.usage or ModelUsage()
        return Reply(
            status="ok" if output.completion else "empty",
            text=output.completion,
            usage=Usage(spent.input_tokens, spent.output_tokens, calls=1),
            finish="length" if output.stop_reason == "max_tokens" else "stop",
            detail=output.error or "",
        )


@dataclass(frozen=True, slots=True)
class Crossed:
    """A question asked in every rotation of its candidates and with every assignment of the labels.

    Attributes:
        output: The mean over all of them, in which slots and labels cancel.
        slots: By slot, share of the views that picked it, beyond 1 / k.
        labels: By label, the same.
        agreement: Share of the views that picked the winner; 0 where there is none.
    """

    output: Output
    slots: tuple[float, ...]
    labels: tuple[float, ...]
    agreement: float

    def to_metadata(self) -> dict[str, object]:
        """What a score says of it."""
        return {
            "scores": dict(self.output.scores),
            "slots": list(self.slots),
            "labels": list(self.labels),
            "position_effect": _gap_of(self.slots),
            "label_effect": _gap_of(self.labels),
            "agreement": self.agreement,
            "views": len(self.output.views),
            "usage": self.output.to_dict()["usage"],
            "notes": list(self.output.notes),
        }


def ask_crossed(fair: FairModel, request: Request) -> Crossed:
    """Asks for one winner in every rotation and labeling.

    COST: k * k calls for k candidates: 4 for a pair, 16 for four choices.
    HURTS: a model that goes by slot or letter alone has nothing left to say, which is a tie.

    Args:
        fair: The model.
        request: Of task "judge" or "choose".
    """
    canonical = request.canonical()
    k = len(canonical.segments)
    names = slot_labels(request.task, k)
    views = [
        replace(canonical.reordered([(i + turn) % k for i in range(k)]), labels=names[by:] + names[:by])
        for turn, by in product(range(k), range(k))
    ]
    outputs = fair.run(views)
    lost = [output for output in outputs if output.status != "ok" and not output.scores]
    picks = [(view, output.winner) for view, output in zip(views, outputs, strict=True) if output.winner is not None]
    notes: tuple[str, ...] = ()
    if lost:
        notes = (f"{len(lost)} of {len(outputs)} views gave no verdict ({lost[0].status}), so there is none",)
        found = Output(request.task, status="partial" if len(lost) < len(outputs) else lost[0].status)
    else:
        found = mean_verdict(request, outputs)
    slots = [sum(view.ids[slot] == winner for view, winner in picks) for slot in range(k)]
    by_label = [
        sum(dict(zip(view.labels or (), view.ids, strict=True))[name] == winner for view, winner in picks)
        for name in names
    ]
    share = max(1, len(picks))
    spent = sum((output.usage for output in outputs), Usage())
    records = tuple(view for output in outputs for view in output.views)
    agreed = sum(winner == found.winner for _, winner in picks) / len(outputs)
    return Crossed(
        replace(found, usage=spent, views=records, notes=(*found.notes, *notes)),
        tuple(count / share - 1 / k if picks else 0.0 for count in slots),
        tuple(count / share - 1 / k if picks else 0.0 for count in by_label),
        agreed,
    )


def _gap_of(shares: Sequence[float]) -> float:
    return max(shares) - min(shares)


def _effect_metric(name: str) -> Metric:
    """The gap between the best and the worst of some shares' means; 0: even, 1: always the same one."""

    def effect(scores: list[SampleScore]) -> float:
        rows = [row for score in scores if (row := (score.score.metadata or {}).get(name))]
        width = max(map(len, rows), default=0)
        columns = [[row[i] for row in rows if len(row) > i] for i in range(width)]
        return _gap_of([sum(column) / len(column) for column in columns]) if columns else 0.0

    return cast(Metric, effect)


@metric(scores="unreduced")
def position_effect() -> Metric:
    """How much slots differ: the mean share of picks of the best one minus that of the worst, labels crossed.

    0 is even, 1 is always the same slot; of a pair it is |P(first) - P(second)|. A few samples show some by chance.
    """
    return _effect_metric("slots")


@metric(scores="unreduced")
def label_effect() -> Metric:
    """The same of labels, orders crossed."""
    return _effect_metric("labels")


@metric(scores="unreduced")
def agreement() -> Metric:
    """The mean share of views that picked what was found over all of them."""

    def mean_agreement(scores: list[SampleScore]) -> float:
        found = [score.score.metadata["agreement"] for score in scores if score.score.metadata]
        return sum(found) / len(found) if found else 0.0

    return cast(Metric, mean_agreement)


@scorer(metrics=[accuracy(), stderr(), position_effect(), label_effect(), agreement()])
def order_free_choice(model: str | Model | None = None) -> Scorer:
    """Which of a sample's choices a model picks, over all rotations and labelings; the target is a letter.

    Args:
        model: Any model of inspect_ai, or its name; None: the one that is evaluated. `fairpos/...` is asked for
            log-probabilities, any other one for a verdict in words. A solver is of no use to it: `solver=[]`.

    COST: k * k calls for k choices.
    """

    async def score(state: TaskState, target: Target) -> Score:
        return await _scored_choice(model, Request("choose", state.input_text, _choices_of(state)), target)

    return cast(Scorer, score)


@scorer(metrics=[accuracy(), stderr(), position_effect(), label_effect(), agreement()])
def order_free_judge(model: str | Model | None = None) -> Scorer:
    """Which answer to the sample's input is better, over both orders and labelings.

    A sample with choices has its answers there, and the target is the letter of the better one. Else the evaluated
    model's answer is compared with the target: correct where it wins, partial where nothing tells them apart.

    Args:
        model: The judge; see `order_free_choice`.

    COST: 4 calls for a pair.
    """

    async def score(state: TaskState, target: Target) -> Score:
        if len(state.choices):
            request = Request("judge", state.input_text, _choices_of(state, empty=EMPTY_ANSWER))
            return await _scored_choice(model, request, target)
        pair = [Segment(id="answer", text=state.output.completion), Segment(id="reference", text=target.text)]
        request = Request("judge", state.input_text, as_segments(pair, empty=EMPTY_ANSWER))
        found = await _crossed_by(model, request)
        value = {"answer": CORRECT, "reference": INCORRECT}.get(found.output.winner or "", PARTIAL)
        return _score_of(found, value)

    return cast(Scorer, score)


def _choices_of(state: TaskState, empty: str | None = None) -> tuple[Segment, ...]:
    """The sample's choices under their letters, which are those before a solver shuffled them, as the target's is."""
    if len(state.choices) < 2:
        raise InvalidRequest(f"sample {state.sample_id!r} has {len(state.choices)} choices; at least 2 are needed")
    texts = {int(choice.original_position): str(choice.value) for choice in state.choices}
    names = slot_labels("choose", len(texts))
    return as_segments([Segment(id=names[place], text=texts[place]) for place in sorted(texts)], empty=empty)


async def _scored_choice(model: str | Model | None, request: Request, target: Target) -> Score:
    gold = target.text.strip()
    if gold not in request.ids:
        raise InvalidRequest(f"the target must be one of {', '.join(request.ids)}, got {gold!r}")
    found = await _crossed_by(model, request)
    return _score_of(found, CORRECT if found.output.winner == gold else INCORRECT)


async def _crossed_by(model: str | Model | None, request: Request) -> Crossed:
    asked = get_model(model)
    api = asked.api
    if not isinstance(api, FairposAPI):
        return cast(Crossed, await anyio.to_thread.run_sync(ask_crossed, FairModel(InspectBackend(asked)), request))
    return cast(Crossed, await anyio.to_thread.run_sync(api.ask_alone, lambda: ask_crossed(api.fair, request)))


def _score_of(found: Crossed, value: str) -> Score:
    output = found.output
    is_lost = output.status not in ("ok", "partial") or (not output.scores and output.winner is None)
    return Score(
        value=NOANSWER if is_lost else value,
        answer=output.winner,
        explanation=reason_of(output) if output.winner is None else None,
        reason="grader_failed" if is_lost else None,
        metadata=found.to_metadata(),
    )
