"""Every item in several orders under every method.

The orders are rotations that put the gold segment at chosen positions (all, unless fewer are asked for), so that every
item has a score at every position and methods are compared on the same orders. With `cross` the labels are turned as
well: each order is asked again with every assignment of labels to slots, which tells position from label.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial

from fairpos.audit.tasks import AuditTask
from fairpos.backends.once import OnceBackend
from fairpos.errors import InvalidOption
from fairpos.files.items import Item
from fairpos.files.journal import Journal
from fairpos.files.records import Record
from fairpos.methods.base import Method
from fairpos.methods.catalogue import parse
from fairpos.methods.label_prior import calibrated
from fairpos.model import FairModel
from fairpos.prompts import slot_labels
from fairpos.rankers.verdict import VerdictForm
from fairpos.types import Output, Request

_LEARNED_FROM = 200


@dataclass(frozen=True, slots=True)
class Trial:
    """One output: an item, in one order, under one method.

    Attributes:
        method: Text form.
        item: Id.
        order: Number of the order among the item's; `shown` has the ids.
        labels: Number of the labeling, where labels were crossed; None: the method's own labels.
        shown: Ids in the order given to the method.
        picked: The id that was named; None: a tie, or none.
        status: Of the output.
        score: 0 to 1; None where there is no gold.
        margin: Of two segments, the first id's score minus the second's (ids in the file's order); else None.
        ranking: Ids, best first, where there is one.
        gold_label: Index of the label of the gold segment in the prompt; None where several prompts were folded.
        text: The answer, where it is one.
        calls, prompt_tokens, completion_tokens, seconds: Cost, as if nothing had been remembered from other trials;
            seconds are the trial's part of its batch.
    """

    method: str
    item: str
    order: int
    labels: int | None
    shown: tuple[str, ...]
    picked: str | None
    status: str
    score: float | None
    margin: float | None = None
    ranking: tuple[str, ...] = ()
    gold_label: int | None = None
    text: str | None = None
    calls: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    seconds: float = 0.0

    @property
    def slot(self) -> int | None:
        """The slot that was picked."""
        return self.shown.index(self.picked) if self.picked in self.shown else None

    @property
    def key(self) -> str:
        """Its name in the journal."""
        return f"{self.method}|{self.item}|{self.order}|{self.labels}"


def gold_positions(k: int, count: int | None) -> list[int]:
    """Positions for the gold segment: all of k, or so many evenly spread ones, the first and the last among them.

    Raises:
        InvalidOption: fewer than 2, or more than k.
    """
    if count is None:
        return list(range(k))
    if not 2 <= count <= k:
        raise InvalidOption(f"orders must be in 2..{k} for {k} segments, got {count}")
    return sorted({round(i * (k - 1) / (count - 1)) for i in range(count)})


def views_of(item: Item, positions: Sequence[int]) -> list[Request]:
    """The item's request, rotated so that the gold segment (or the first) stands at each of the positions."""
    k = len(item.request.segments)
    gold = 0 if item.gold is None else item.request.ids.index(item.gold)
    return [item.request.reordered([(gold - position + i) % k for i in range(k)]) for position in positions]


def run_trials(
    fair: FairModel,
    task: AuditTask,
    items: Sequence[Item],
    methods: Sequence[str],
    *,
    orders: int | None = None,
    cross: bool = False,
    ranker: str = "first_token",
    verdicts: VerdictForm = "auto",
    batch: int = 8,
    seed: int = 0,
    journal: Journal | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> list[Trial]:
    """Runs an audit.

    COST: methods x items x orders calls; with `cross`, k labelings of every order on top. A scored call that repeats
    another one is made once, which costs a method that is free of order one order instead of all.

    Args:
        fair: The model.
        task: What is audited.
        items: All with the same number of segments.
        methods: Text forms.
        orders: Positions of the gold segment; None: all.
        cross: Also turn the labels; for tasks with labels.
        ranker: For task "rank".
        verdicts: As in `FairModel.run`.
        batch: Items that run together.
        seed: Of what calibrated methods learn from.
        journal: Trials that are there are not run again; new ones are appended.
        progress: Called with (trials done, trials in all).

    Raises:
        InvalidOption: no items, or more orders than segments.
    """
    if not items:
        raise InvalidOption("an audit needs at least 1 item")
    k = len(items[0].request.segments)
    positions = gold_positions(k, orders)
    known = _known(journal)
    once = fair.backend if isinstance(fair.backend, OnceBackend) else OnceBackend(fair.backend)
    fair = FairModel(once)
    labelings: list[int | None] = [None, *(range(k) if cross and task.asks != "answer" else ())]
    total = len(methods) * len(items) * len(positions) * len(labelings)
    trials: list[Trial] = []

    def ask(requests: Sequence[Request], chosen: Sequence[Method]) -> list[Output]:
        return fair.run(
            requests, chosen, ranker=ranker, template=task.template, verdicts=verdicts, decoding=task.decoding
        )

    for name in methods:
        chosen: tuple[Method, ...] | None = None
        for start in range(0, len(items), batch):
            asked = [
                (item, order, labeling, _labelled(view, labeling))
                for item in items[start : start + batch]
                for order, view in enumerate(views_of(item, positions))
                for labeling in labelings
            ]
            here = [known.get(f"{name}|{item.id}|{order}|{labeling}") for item, order, labeling, _ in asked]
            missing = [each for each, trial in zip(asked, here, strict=True) if trial is None]
            if missing and chosen is None:  # nothing is calibrated for a method that is done already
                sample = random.Random(seed).sample(list(items), min(_LEARNED_FROM, len(items)))
                chosen = calibrated(parse(name), [item.request for item in sample], ask)
            trials += [trial for trial in here if trial is not None]
            for trial in _run(task, name, missing, partial(ask, chosen=chosen or ()), once):
                trials.append(trial)
                if journal is not None:
                    journal.append({"key": trial.key, **asdict(trial)})
            if progress is not None:
                progress(len(trials), total)
    return trials


def _labelled(view: Request, labeling: int | None) -> Request:
    """Labels turned by so many slots; None leaves them to the method."""
    if labeling is None:
        return view
    labels = slot_labels(view.task, len(view.segments))
    k = len(labels)
    return replace(view, labels=tuple(labels[(i + labeling) % k] for i in range(k)))


def _run(
    task: AuditTask,
    name: str,
    asked: Sequence[tuple[Item, int, int | None, Request]],
    ask: Callable[[Sequence[Request]], list[Output]],
    once: OnceBackend,
) -> Iterator[Trial]:
    if not asked:
        return
    started = once.seconds
    outputs = ask([view for *_, view in asked])
    seconds = (once.seconds - started) / len(asked)
    for (item, order, labeling, view), output in zip(asked, outputs, strict=True):
        yield Trial(
            name,
            item.id,
            order,
            labeling,
            view.ids,
            task.picked(item, output),
            output.status,
            task.correct(item, output),
            _margin(item, output.scores),
            output.ranking,
            _gold_label(item, view, output),
            output.text,
            output.usage.calls + output.usage.cached,
            output.usage.prompt_tokens + output.usage.cached_prompt_tokens,
            output.usage.completion_tokens + output.usage.cached_completion_tokens,
            seconds,
        )


def _margin(item: Item, scores: Mapping[str, float]) -> float | None:
    ids = item.request.ids
    if len(ids) != 2 or not all(abs(scores.get(id, float("inf"))) < float("inf") for id in ids):
        return None
    return scores[ids[0]] - scores[ids[1]]


def _gold_label(item: Item, view: Request, output: Output) -> int | None:
    if item.gold is None or len(output.views) != 1 or view.task == "answer":
        return None
    if view.labels is not None:
        names = sorted(view.labels, key=lambda label: (len(label), label))
        return names.index(view.labels[view.ids.index(item.gold)])
    return output.views[0].order.index(item.gold)


def _known(journal: Journal | None) -> dict[str, Trial]:
    return {} if journal is None else {trial.key: trial for trial in map(_trial, journal.results())}


def _trial(record: Record) -> Trial:
    values = {key: value for key, value in record.items() if key != "key"}
    for name in ("shown", "ranking"):
        value = values[name]
        assert isinstance(value, list)
        values[name] = tuple(map(str, value))  # type: ignore[assignment]
    return Trial(**values)  # type: ignore[arg-type]
