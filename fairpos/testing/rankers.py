"""The contract of rankers: `check_ranker(MyRanker())` raises BrokenContract, which tells every fault.

The model that it is checked on scores labels and the words yes and no, and writes lists of labels. A ranker that asks
for anything else brings a model that can answer: `check_ranker(MyRanker(), ToldBackend(reply))`.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from typing import ClassVar

from fairpos.backends.base import Backend, Decoding, Generate
from fairpos.backends.work import finish
from fairpos.methods.pine import Pine
from fairpos.prompts import Template
from fairpos.rankers.base import Asking, Ranker, is_order_free
from fairpos.testing.contract import Contract, Fault, expect, expect_documented, expect_options_checked
from fairpos.testing.subjects import (
    EVERY_CALL,
    SEGMENTS,
    RecordingBackend,
    biased_backend,
    request_for,
    wordy_backend,
)
from fairpos.types import Output, Request, Segment

_OWN_MODEL = (
    'the contract\'s model knows labels, "yes" and "no"; where a ranker asks for something else, give a model that '
    "answers that: check_ranker(ranker, ToldBackend(reply)), of fairpos.testing.subjects"
)


@dataclass(frozen=True)
class RankerCase:
    """A ranker and the models that it is checked on."""

    ranker: Ranker
    backends: tuple[Backend, ...]
    twins: ClassVar[tuple[Segment, ...]] = (*SEGMENTS[:2], replace(SEGMENTS[0], id="twin"), SEGMENTS[3])

    @classmethod
    def of(cls, ranker: Ranker, *backends: Backend) -> RankerCase:
        """The ranker with these models, or those of the contract that suit it."""
        if backends:
            return cls(ranker, backends)
        can_be_wordy = ranker.requires <= {"generate"}
        return cls(ranker, (biased_backend(), wordy_backend()) if can_be_wordy else (biased_backend(),))

    def requests(self) -> Iterator[tuple[Backend, Request]]:
        """Four segments, two of which say the same, two, and one; on every backend."""
        for backend in self.backends:
            for segments in (SEGMENTS, self.twins, SEGMENTS[:2], SEGMENTS[:1]):
                yield backend, request_for("rank", segments)

    def ask(
        self, request: Request, backend: Backend, failing: Collection[int] = (), asking: Asking | None = None
    ) -> tuple[Output, RecordingBackend]:
        """The ranker's output for one view, and the record of what it asked."""
        recording = RecordingBackend(backend, failing)
        return finish(self.ranker(request, asking or Asking()), recording), recording

    def __str__(self) -> str:
        return repr(self.ranker)


RANKER_CONTRACT: Contract[RankerCase] = Contract("the contract of rankers")


def ranker_faults(ranker: Ranker, *backends: Backend) -> tuple[Fault, ...]:
    """What is wrong with a ranker; see `check_ranker`."""
    return RANKER_CONTRACT.faults(RankerCase.of(ranker, *backends))


def check_ranker(ranker: Ranker, *backends: Backend) -> None:
    """Checks a ranker against the whole contract.

    Args:
        ranker: The ranker.
        backends: Models that can answer what it asks; none: the contract's own.

    Raises:
        BrokenContract: it has faults; the message lists them all.
    """
    RANKER_CONTRACT.hold(RankerCase.of(ranker, *backends))


@RANKER_CONTRACT.add
def says_what_it_is_costs_and_when_it_hurts(case: RankerCase) -> None:
    """Name, summary; a docstring with COST, HURTS and every option."""
    expect_documented(type(case.ranker))
    strange = case.ranker.requires - {"generate", "score", "attention", "vote"}
    expect(not strange, f"requires what no backend can be asked for: {', '.join(strange)}")


@RANKER_CONTRACT.add
def refuses_options_out_of_range(case: RankerCase) -> None:
    """In Python and in text form, with what was got and what is allowed."""
    expect_options_checked("ranker", case.ranker)


@RANKER_CONTRACT.add
def ranks_every_segment_once(case: RankerCase) -> None:
    """On a model that answers; equal texts stay apart; the winner is the first, unless it is tied."""
    for backend, request in case.requests():
        output, _ = case.ask(request, backend)
        said = next((view.text or view.detail for view in output.views if view.status != "ok"), None)
        expect(output.status == "ok", f"status {output.status} on a model that says {said!r}; {_OWN_MODEL}")
        got = sorted(output.ranking)
        expect(got == sorted(request.ids), f"the ranking must have {sorted(request.ids)}, got {got}")
        allowed = (None, output.ranking[0])
        expect(output.winner in allowed, f"winner {output.winner!r}, but the ranking begins with {output.ranking[0]!r}")
        strange = sorted(set(output.scores) - set(request.ids))
        expect(not strange, f"scores of {', '.join(strange)}, which are no segments")


@RANKER_CONTRACT.add
def tells_segments_apart(case: RankerCase) -> None:
    """Four segments that differ in everything aren't all tied, on every model."""
    outputs = [case.ask(request_for("rank"), backend)[0] for backend in case.backends]
    apart = any(len(output.groups) != 1 for output in outputs)
    expect(apart, f"{', '.join(outputs[0].ranking)} are all tied, whatever they say; {_OWN_MODEL}")


@RANKER_CONTRACT.add
def adds_up_what_it_used(case: RankerCase) -> None:
    """Tokens and calls of the output are those that the model counted."""
    for backend, request in case.requests():
        output, recording = case.ask(request, backend)
        expect(output.usage == recording.usage, f"says {output.usage}, used {recording.usage}")


@RANKER_CONTRACT.add
def survives_failed_calls_and_says_so(case: RankerCase) -> None:
    """A call without a reply doesn't end the run and is told; a ranking of nothing is none."""
    for backend, request in case.requests():
        _, whole = case.ask(request, backend)
        for failing in range(min(len(whole.asked), 3)):
            output, _ = case.ask(request, backend, {failing})
            expect(output.status != "ok", f"call {failing} of {len(whole.asked)} failed, and the status is ok")
            strange = sorted(set(output.ranking) - set(request.ids))
            expect(not strange, f"the ranking names {', '.join(strange)}")
        if whole.asked:
            output, _ = case.ask(request, backend, EVERY_CALL)
            expect(output.status != "ok", "every call failed, and the status is ok")
            expect(not output.ranking and output.winner is None, f"every call failed, and {output.ranking} is ranked")


@RANKER_CONTRACT.add
def gives_the_same_again(case: RankerCase) -> None:
    """Two runs of one view give one ranking and the same scores."""
    for backend, request in case.requests():
        (first, _), (second, _) = case.ask(request, backend), case.ask(request, backend)
        expect(first == second, f"two runs give {first} and {second}")


@RANKER_CONTRACT.add
def is_free_of_order_where_it_says_so(case: RankerCase) -> None:
    """One output for all orders of segments that differ: methods ask it once for all of them."""
    if not is_order_free(case.ranker):
        return
    request = request_for("rank")
    for backend in case.backends:
        told, _ = case.ask(request, backend)
        for order in itertools.permutations(range(len(request.segments))):
            output, _ = case.ask(request.reordered(order), backend)
            expect(output == told, f"says order_free, but {order} gives {output}, and the order shown first {told}")


@RANKER_CONTRACT.add
def hands_on_who_owns_the_attention(case: RankerCase) -> None:
    """The method that owns the attention reaches every call."""
    owner = Pine()
    _, recording = case.ask(request_for("rank"), case.backends[0], asking=Asking(attend=owner))
    for number, call in enumerate(recording.asked):
        expect(call.attend == owner, f"call {number} is asked without the method that owns the attention")


@RANKER_CONTRACT.add
def hands_on_template_and_decoding(case: RankerCase) -> None:
    """Every prompt is in the caller's words, and every text is sampled as the caller says."""
    template = Template(instruction="Words of the caller. ", segment="{label} {text} ", question="{query}")
    decoding = Decoding(temperature=0.5, top_p=0.9, seed=7)
    _, recording = case.ask(request_for("rank"), case.backends[0], asking=Asking(template=template, decoding=decoding))
    for number, call in enumerate(recording.asked):
        own = call.prompt.instruction
        expect(own == template.instruction, f"call {number} doesn't use asking.template; its prompt begins {own!r}")
        if isinstance(call, Generate):
            got = replace(call.decoding, max_new_tokens=decoding.max_new_tokens, stop=decoding.stop)
            expect(got == decoding, f"call {number} must have asking.decoding, {decoding}, got {call.decoding}")
