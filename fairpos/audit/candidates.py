"""Which methods a short audit tries: few, cheap and different, by what the task can do about order and labels.

What a backend can't run is left out with the reason, so that a recommendation is one that works there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from fairpos.audit.runs import Plan
from fairpos.audit.tasks import AuditTask
from fairpos.backends.base import Backend
from fairpos.errors import FairposError
from fairpos.files.items import Item
from fairpos.methods.catalogue import parse
from fairpos.runner import check

_OF_PAIRS = ("swap:verdict=mean", "swap", "cross_labels", "swap:verdict=mean+cross_labels")
_OF_CHOICES = ("permutation:views=3", "cross_labels", "permutation:views=3+cross_labels", "contextual")
_OF_RANKINGS = ("permutation:views=3", "permutation:views=5")
_OF_ANSWERS = ("permutation:views=3", "query_twice", "placements:bases=2")
_OF_SCORED_PASSAGES = ("descending", "ascending", "edges")
_OF_ATTENTION = ("pine", "set_based")  # one call each, on a local model

_BY_TASK: Mapping[str, Sequence[str]] = {
    "judge": _OF_PAIRS,
    "choice": _OF_CHOICES,
    "rank": _OF_RANKINGS,
    "qa": _OF_ANSWERS,
    "kv": _OF_ANSWERS,
    "shots": _OF_ANSWERS,
}


@dataclass(frozen=True, slots=True)
class Candidates:
    """Methods to try.

    Attributes:
        names: Their text forms.
        left_out: Those that can't run here -> why.
    """

    names: Sequence[str]
    left_out: Mapping[str, str]


def candidates_for(task: AuditTask, items: Sequence[Item], backend: Backend, plan: Plan = Plan()) -> Candidates:
    """What is worth trying on these items with this model.

    Args:
        task: What is audited.
        items: Passages with scores of a retriever can be ordered by them.
        backend: The model.
        plan: How items are asked.
    """
    wanted = [*_BY_TASK[task.name], *_OF_ATTENTION]
    if task.asks == "answer" and all(s.score is not None for item in items for s in item.request.segments):
        wanted[1:1] = _OF_SCORED_PASSAGES
    names: list[str] = []
    left_out: dict[str, str] = {}
    for name in wanted:
        try:
            methods = parse(name)
            check(methods, task.asks, backend)
            for method in methods:
                method.ready([items[0].request], backend, plan.template or task.template)
            names.append(name)
        except FairposError as error:
            left_out[name] = str(error)
    return Candidates(names, left_out)
