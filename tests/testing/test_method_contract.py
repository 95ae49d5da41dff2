"""Every method in the registry keeps the contract, and the contract finds what doesn't."""

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import ClassVar

import pytest
from torch import Tensor

from fairpos.attention.batch import Batch
from fairpos.attention.layer import Attention, Layer
from fairpos.attention.segments import PromptTensors
from fairpos.attention.set_based import SetBasedAttention
from fairpos.backends.base import Backend
from fairpos.calibration.profile import Profile, Setting, Slot
from fairpos.calibration.slot_rates import SlotRates
from fairpos.errors import InvalidRequest
from fairpos.layout import Layout
from fairpos.methods.attn_rank import AttnRank
from fairpos.methods.base import Family, Method
from fairpos.methods.catalogue import all_methods, parse
from fairpos.methods.gold_panning import GoldPanning
from fairpos.methods.label_prior import LabelPrior
from fairpos.methods.none import NoMethod
from fairpos.methods.set_based import SetBased
from fairpos.options import option
from fairpos.outputs import folded, ranked_by_score
from fairpos.rankers.base import find_ranker
from fairpos.runner import run
from fairpos.testing.contract import BrokenContract
from fairpos.testing.methods import METHOD_CONTRACT, MethodCase, check_method, method_faults
from fairpos.testing.subjects import SEGMENTS, biased_backend, request_for
from fairpos.types import TASKS, Output, Request, Task

# Beside the defaults, settings that run other code; methods that must be told something before they can run are told.
SPECS = {
    "positional_hidden": ["positional_hidden:channel=7,layers=1-2"],
    "string": ["string:S=10,W=4"],
    "permutation": [
        "permutation",
        "permutation:views=4,aggregation=kemeny",
        "permutation:views=4,weights=entropy",
        "permutation:design=random,views=3,aggregation=majority",
        "permutation:design=latin,views=8,aggregation=rrf",
    ],
    "route": ["route:inner=placements:views=3", "route:inner=rotor,margin=1"],
    "placements": ["placements:views=3", "placements:views=4,bases=2", "placements:views=3,stored=true"],
    "swap": ["swap", "swap:verdict=mean"],
    "blitz": ["blitz", "blitz:size=2,top=1", "blitz:size=3,top=0"],
    "joint": ["joint", "joint:size=2,replicates=3", "joint:size=3,aggregation=rank_centrality"],
    "windows": ["windows", "windows:size=3,stride=1", "windows:size=2,stride=1,kind=disjoint"],
    "graph_kv": ["graph_kv", "graph_kv:top=1"],
    "icr": ["icr", "icr:best=edges"],
}


def slot_profile(task: Task) -> Profile:
    setting = Setting.of(biased_backend(), task, None, 4)
    return Profile(setting, "accuracy", "by hand", "none", 1, tuple(Slot(v, v, v) for v in (0.5, 0.1, 0.2, 0.4)))


def slot_rates(task: Task, count: int) -> SlotRates:
    """Every slot is named mostly if the right one stands there, the first ones a little too often."""
    rows = []
    for right in range(count):
        weights = [3.0 * (slot == right) + 1 / (1 + slot) for slot in range(count)] + [0.1]
        rows.append(tuple(weight / sum(weights) for weight in weights))
    return SlotRates(Setting.of(biased_backend(), task, None, count), tuple(rows), "none", 1)


def ask_plainly(requests: Sequence[Request]) -> list[Output]:
    return run(requests, [], biased_backend(), ranker=find_ranker("first_token"))


@cache
def methods_in(name: str) -> list[Method]:
    """A method in all its settings, calibrated where it must be."""
    cls = all_methods()[name]
    if issubclass(cls, AttnRank):
        return [AttnRank(profile=tuple(map(slot_profile, sorted(cls.tasks))))]
    if issubclass(cls, GoldPanning):
        return [GoldPanning(tuple(slot_rates(task, count) for task in sorted(cls.tasks) for count in (2, 3, 4)))]
    if issubclass(cls, LabelPrior):
        requests = [request_for(task, SEGMENTS[:count]) for task in sorted(cls.tasks) for count in (2, 3, 4)]
        return [
            cls().calibrate(requests, lambda views: run(views, [], biased_backend(), ranker=find_ranker("first_token")))
        ]
    return [NoMethod()] if name == "none" else [parse(spec)[0] for spec in SPECS.get(name, [name])]


@pytest.mark.parametrize("check", METHOD_CONTRACT.checks)
@pytest.mark.parametrize("name", all_methods())
def test_every_method_keeps_the_contract(name, check):
    for method in methods_in(name):
        METHOD_CONTRACT.checks[check](MethodCase.of(method))


# --- The contract itself: what breaks it is found, each fault by the check that is for it


@dataclass(frozen=True)
class Careless(Method):
    """Shows the segments as they come, and says that it doesn't matter."""

    name: ClassVar[str] = "careless"
    family: ClassVar[Family] = "output"
    summary: ClassVar[str] = "claims to be free of order, loses a segment, and lets nobody win"
    order_free: ClassVar[bool] = True

    def combine(self, request: Request, views: Sequence[Request], outputs: Sequence[Output]) -> Output:
        [output] = outputs
        return replace(output, ranking=output.ranking[:-1], winner="nobody")


def test_a_method_that_lies_about_order_drops_an_id_and_makes_up_a_winner_fails_in_each_place():
    faults = {fault.check: fault.detail for fault in method_faults(Careless())}
    assert "the ranking must have" in faults["keeps_the_ids"] or "nobody" in faults["keeps_the_ids"]
    assert "winner 'nobody' is no segment's id" in faults["names_a_segment_as_winner"]
    assert re.match(r"answer: order \(.*\) gives .*, order \(.*\) \{", faults["is_free_of_order_if_it_says_so"])
    assert "has no COST" in faults["says_what_it_is_costs_and_when_it_hurts"]
    assert "winner names nobody" in faults["survives_failed_calls_and_says_so"]
    with pytest.raises(BrokenContract, match=r"(?s)of 12 checks fail for Careless\(\).*nobody"):
        check_method(Careless())


@dataclass(frozen=True)
class Sound(Method):
    """Asks twice and takes the mean; each of the faulty ones below differs from it in one thing.

    COST: two calls.
    HURTS: nobody.

    Attributes:
        times: How often it asks.
        seed: Of nothing.
    """

    name: ClassVar[str] = "sound"
    family: ClassVar[Family] = "output"
    summary: ClassVar[str] = "asks twice"
    tasks: ClassVar[frozenset[Task]] = frozenset({"rank"})
    order_free: ClassVar[bool] = True
    times: int = option(2, minimum=1, maximum=4)
    seed: int = 0

    def arrange(self, request: Request, backend: Backend) -> list[Request]:
        return [request.canonical()] * self.times

    def combine(self, request: Request, views: Sequence[Request], outputs: Sequence[Output]) -> Output:
        scored = [output for output in outputs if output.scores]
        if not scored:
            whole = [output for output in outputs if output.ranking]
            return folded(
                replace(whole[0], winner=None) if whole else Output("rank", status=outputs[0].status), outputs
            )
        means = {id: sum(output.scores[id] for output in scored) / len(scored) for id in request.ids}
        return folded(self.finish(ranked_by_score(request, means)), outputs)

    def finish(self, output: Output) -> Output:
        return output


class Drops(Sound):
    def finish(self, output):
        return replace(output, ranking=output.ranking[1:])


class Repeats(Sound):
    def finish(self, output):
        return replace(output, ranking=(output.ranking[0], *output.ranking))


class OtherWinner(Sound):
    def finish(self, output):
        return replace(output, winner=output.ranking[-1])


class FreeRides(Sound):
    def combine(self, request, views, outputs):
        return replace(super().combine(request, views, outputs), usage=outputs[0].usage)


class InOrder(Sound):
    def arrange(self, request, backend):
        return [request] * self.times


class Throws(Sound):
    def combine(self, request, views, outputs):
        return super().combine(request, views, [output for output in outputs if output.status == "ok"])


class Rolls(Sound):
    def finish(self, output):
        return replace(output, scores={id: random.random() for id in output.scores})


class TakesAnything(Sound):
    def __post_init__(self):
        pass


class Picky(Sound):
    def combine(self, request, views, outputs):
        if any(len(output.views) != 1 for output in outputs):
            raise KeyError("views")
        return super().combine(request, views, outputs)


class AsksFirst(Sound):
    tasks = frozenset({"rank", "answer"})

    def steps(self, request, backend):
        outputs = yield self.arrange(request, backend)
        if request.task != "rank":
            raise InvalidRequest("only rankings, it turns out")
        return self.combine(request, [], outputs)


@pytest.mark.parametrize(
    ("method", "checks"),
    [
        (Sound(), set()),
        (Drops(), {"keeps_the_ids", "names_a_segment_as_winner"}),
        (Repeats(), {"keeps_the_ids"}),
        (OtherWinner(), {"names_a_segment_as_winner"}),
        (FreeRides(), {"adds_up_what_it_used"}),
        (InOrder(), {"is_free_of_order_if_it_says_so"}),
        (Throws(), {"survives_failed_calls_and_says_so"}),
        (Rolls(), {"repeats_with_a_seed", "is_free_of_order_if_it_says_so"}),
        (TakesAnything(), {"refuses_options_out_of_range"}),
        (Picky(), {"composes_with_each_family_or_says_why_not"}),
        (AsksFirst(), {"keeps_the_ids"}),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Method) else "",
)
def test_each_fault_is_found_by_the_check_that_is_for_it(method, checks):
    found = {fault.check for fault in method_faults(method)}
    # Its class has no docstring of its own, which is another fault than the one planted.
    assert found - {"says_what_it_is_costs_and_when_it_hurts"} >= checks
    assert bool(found - {"says_what_it_is_costs_and_when_it_hurts"}) == bool(checks)


@dataclass(frozen=True)
class Mutual(SetBased):
    """Segments share their positions and see each other up to their own: set_based with another mask.

    COST: a mask.
    HURTS: nobody.
    """

    name: ClassVar[str] = "mutual"

    def attend(self, layouts: Sequence[Layout]) -> Attention:
        return MutualAttention(Batch(layouts))


class MutualAttention(SetBasedAttention):
    def prefill(self, layer: Layer, layout: Layout, row: PromptTensors) -> Tensor:
        queries = row.positions[row.first : row.first + row.q.shape[2], None]
        return layer.attend(row.q_rotated, row.k, row.v, mask=row.positions <= queries)


def test_an_attention_that_needs_all_segments_at_once_is_told_that_it_gets_pieces_and_stored_ones():
    faults = {fault.check: fault.detail for fault in method_faults(Mutual())}
    assert set(faults) == {"reads_prompts_in_pieces_or_refuses_to", "may_reuse_segments_if_it_says_so"}
    assert "in pieces of 7 tokens (prefill_chunk_size)" in faults["reads_prompts_in_pieces_or_refuses_to"]
    assert "with stored segments" in faults["may_reuse_segments_if_it_says_so"]


def test_all_tasks_are_checked():
    assert {request.task for _, request in MethodCase.of(NoMethod()).requests()} == set(TASKS)
