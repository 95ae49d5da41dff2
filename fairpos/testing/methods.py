"""The contract of methods, on models that are made up and, where a method owns the attention, on a tiny real one.

check_method(MyMethod(views=3))             raises BrokenContract, which tells every fault
method_faults(MyMethod(views=3))            the same as data
METHOD_CONTRACT.checks                      the checks by name, for a test each
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from fairpos.backends.base import Backend, Decoding
from fairpos.errors import FairposError, InvalidComposition, UnsupportedBackend
from fairpos.methods.base import Method
from fairpos.methods.catalogue import parse, with_seed
from fairpos.options import options_of
from fairpos.rankers.base import find_ranker
from fairpos.runner import run
from fairpos.testing.contract import Contract, Fault, expect, expect_documented, expect_options_checked
from fairpos.testing.subjects import (
    EVERY_CALL,
    SEGMENTS,
    RecordingBackend,
    all_orders,
    biased_backend,
    request_for,
    wordy_backend,
)
from fairpos.types import TASKS, Output, Request

# What a method is composed with, one of each family; a method of the attention only where the backend lets it be owned.
PARTNERS = ("descending:relevance=given", "permutation:views=2", "swap", "capcal", "pine")
_FEW = Decoding(max_new_tokens=3)
_PIECES = (7, 16)  # tokens of a forward pass; the tiny model's prompts have about 90
_ENOUGH = 12  # new tokens, for a difference between two computations to show


@dataclass(frozen=True)
class MethodCase:
    """A method and the models that it is checked on.

    Attributes:
        method: Ready to be used: calibrated, where it has to be.
        backends: Models that can do what it requires.
    """

    method: Method
    backends: tuple[Backend, ...]

    @classmethod
    def of(cls, method: Method) -> MethodCase:
        """The method with the models that suit it."""
        if any(each.owns_attention for each in (method, *method.inner_methods)):
            from fairpos.testing.tiny import tiny_backend

            return cls(method, (tiny_backend(),))
        more = sorted(method.requires - {"generate", "score"})
        backends: list[Backend] = [biased_backend(*more)]
        if method.requires <= {"generate"}:
            backends.append(wordy_backend())
        return cls(method, tuple(backends))

    def requests(self) -> Iterator[tuple[Backend, Request]]:
        """A request of every task that the method is for, on every backend."""
        for backend in self.backends:
            for task in TASKS:
                if task in self.method.tasks:
                    yield backend, request_for(task)

    def run(
        self,
        request: Request,
        backend: Backend,
        methods: Sequence[Method] | None = None,
        decoding: Decoding = _FEW,
    ) -> Output:
        """The output of one request."""
        ranker = find_ranker("first_token" if "score" in backend.capabilities else "generate")
        chosen = [self.method] if methods is None else methods
        [output] = run([request], chosen, backend, ranker=ranker, decoding=decoding)
        return output

    def __str__(self) -> str:
        return repr(self.method)


METHOD_CONTRACT: Contract[MethodCase] = Contract("the contract of methods")


def method_faults(method: Method) -> tuple[Fault, ...]:
    """What is wrong with a method; see `check_method`."""
    return METHOD_CONTRACT.faults(MethodCase.of(method))


def check_method(method: Method) -> None:
    """Checks a method against the whole contract.

    COST: a second for a method of the input or output, a few for one of the attention, which needs `fairpos[local]`.

    Args:
        method: Ready to be used; one that has to be calibrated, calibrated (for the labels of 1 to 4 segments).

    Raises:
        BrokenContract: it has faults; the message lists them all.
    """
    METHOD_CONTRACT.hold(MethodCase.of(method))


@METHOD_CONTRACT.add
def says_what_it_is_costs_and_when_it_hurts(case: MethodCase) -> None:
    """Name, summary, family, tasks; a docstring with COST, HURTS and every option."""
    cls = type(case.method)
    expect_documented(cls)
    expect(cls.family in ("none", "input", "attention", "output"), f"family is {cls.family!r}")
    expect(bool(cls.tasks) and cls.tasks <= set(TASKS), f"tasks are {sorted(cls.tasks)}; there are {', '.join(TASKS)}")
    strange = cls.requires - {"generate", "score", "attention", "vote"}
    expect(not strange, f"requires what no backend can be asked for: {', '.join(strange)}")


@METHOD_CONTRACT.add
def refuses_options_out_of_range(case: MethodCase) -> None:
    """In Python and in text form, with what was got and what is allowed."""
    expect_options_checked("method", case.method)


@METHOD_CONTRACT.add
def keeps_the_ids(case: MethodCase) -> None:
    """Nothing lost, nothing made up, whatever the task and however many segments; equal texts stay apart."""
    twins = (*SEGMENTS[:2], replace(SEGMENTS[0], id="twin"), SEGMENTS[3])
    for backend, request in case.requests():
        for segments in (SEGMENTS, twins):
            asked = replace(request, segments=segments)
            output = case.run(asked, backend)
            _expect_ids(output, asked)
            expect(output.status == "ok", f"{request.task}: status {output.status} on a model that answers")
            if request.task == "rank":
                got = sorted(output.ranking)
                expect(got == sorted(asked.ids), f"rank: the ranking must have {sorted(asked.ids)}, got {got}")
        for count in (1, 2):
            few = replace(request, segments=SEGMENTS[:count])
            result = _run_or_refusal(case, few, backend)
            if result is not None:
                _expect_ids(result, few)


@METHOD_CONTRACT.add
def names_a_segment_as_winner(case: MethodCase) -> None:
    """The winner is None for a tie, or one of the ids: the one that its own ranking has first."""
    for backend, request in case.requests():
        output = case.run(request, backend)
        winner = output.winner
        expect(winner is None or winner in request.ids, f"{request.task}: winner {winner!r} is no segment's id")
        if winner is not None and output.ranking:
            first = output.ranking[0]
            expect(winner == first, f"{request.task}: winner {winner!r}, but the ranking begins with {first!r}")


@METHOD_CONTRACT.add
def adds_up_what_it_used(case: MethodCase) -> None:
    """Tokens and calls of the output are those that the model counted."""
    for backend, request in case.requests():
        recording = RecordingBackend(backend)
        usage = case.run(request, recording).usage
        counted = recording.usage
        got, wanted = (usage.prompt_tokens, usage.completion_tokens), (counted.prompt_tokens, counted.completion_tokens)
        expect(usage.calls == counted.calls, f"{request.task}: says {usage.calls} calls, made {counted.calls}")
        expect(got == wanted, f"{request.task}: says {got} prompt and new tokens, used {wanted}")


@METHOD_CONTRACT.add
def is_free_of_order_if_it_says_so(case: MethodCase) -> None:
    """`order_free`: the very same result, to the bit, for all 24 orders of four segments."""
    if not case.method.order_free:
        return
    for backend, request in case.requests():
        first = _result_of(case.run(request, backend))
        for view in all_orders(request):
            found = _result_of(case.run(view, backend))
            expect(found == first, f"{request.task}: order {view.ids} gives {found}, order {request.ids} {first}")


@METHOD_CONTRACT.add
def survives_failed_calls_and_says_so(case: MethodCase) -> None:
    """A view without a reply doesn't end the run, isn't a vote, and is told; nothing at all is no result."""
    for backend, request in case.requests():
        whole = RecordingBackend(backend)
        case.run(request, whole)
        for failing in range(min(len(whole.asked), 3)):
            output = case.run(request, RecordingBackend(backend, {failing}))
            _expect_ids(output, request)
            said = output.status != "ok" or output.notes or any(view.status != "ok" for view in output.views)
            expect(bool(said), f"{request.task}: call {failing} failed, and the output doesn't say so")
        if whole.asked:
            output = case.run(request, RecordingBackend(backend, EVERY_CALL))
            expect(output.status != "ok", f"{request.task}: every call failed, and the status is ok")
            result = output.text or output.ranking or output.winner
            expect(not result, f"{request.task}: every call failed, and there is a result: {result!r}")


@METHOD_CONTRACT.add
def repeats_with_a_seed(case: MethodCase) -> None:
    """The same seed gives the same result, whatever the global generators are at; any other seed works too."""
    for backend, request in case.requests():
        results = []
        for state in (1, 2):
            random.seed(state)
            results.append(_result_of(case.run(request, backend)))
        expect(results[0] == results[1], f"{request.task}: two runs give {results[0]} and {results[1]}")
        if "seed" in options_of(type(case.method)):
            for seed in (0, 1, 2):
                _expect_ids(case.run(request, backend, with_seed([case.method], seed)), request)


@METHOD_CONTRACT.add
def composes_with_each_family_or_says_why_not(case: MethodCase) -> None:
    """Around and inside of others it keeps the ids, or is refused with a reason; nothing else happens."""
    for backend, request in case.requests():
        for partner in PARTNERS:
            other = parse(partner)
            for methods in ((case.method, *other), (*other, case.method)):
                names = "+".join(method.name for method in methods)
                try:
                    output = case.run(request, backend, methods)
                except FairposError as error:
                    expect(len(str(error).split()) >= 4, f"{names} is refused without a reason: {error}")
                    continue
                except Exception as error:
                    raise AssertionError(f"{names} for {request.task}: {type(error).__name__}: {error}") from error
                _expect_ids(output, request)


@METHOD_CONTRACT.add
def is_refused_where_it_cannot_work(case: MethodCase) -> None:
    """A task that it isn't for, or a model that lacks what it requires, is refused before anything is asked."""
    backend = case.backends[0]
    for task in set(TASKS) - case.method.tasks:
        _expect_refused_unasked(case, request_for(task), backend, InvalidComposition)
    if case.method.requires - {"generate"}:
        [task, *_] = sorted(case.method.tasks)
        _expect_refused_unasked(case, request_for(task), wordy_backend(), UnsupportedBackend)


@METHOD_CONTRACT.add
def reads_prompts_in_pieces_or_refuses_to(case: MethodCase) -> None:
    """A forward pass of an attention may end inside of a segment: the same text comes out, or a reason."""
    if not case.method.owns_attention or "answer" not in case.method.tasks:
        return
    from transformers import GenerationConfig

    [backend], request = case.backends, request_for("answer")
    whole = case.run(request, backend, decoding=Decoding(max_new_tokens=_ENOUGH)).text
    for size in _PIECES:
        config = GenerationConfig(prefill_chunk_size=size, max_new_tokens=_ENOUGH, do_sample=False)
        try:
            found = case.run(request, backend, decoding=Decoding(generation_config=config)).text
        except FairposError:
            continue
        expect(found == whole, f"read in pieces of {size} tokens (prefill_chunk_size): {found!r}; at once: {whole!r}")


@METHOD_CONTRACT.add
def may_reuse_segments_if_it_says_so(case: MethodCase) -> None:
    """`reuses_segments`: from a store, where each segment was read without the others, comes the same text."""
    if not case.method.reuses_segments:
        return
    from fairpos.attention.store import SegmentStore
    from fairpos.backends.hf import HFBackend
    from fairpos.testing.tiny import tiny_backend

    fresh, decoding = tiny_backend(), Decoding(max_new_tokens=_ENOUGH)
    stored = HFBackend(fresh.model, fresh.tokenizer, name=fresh.name, store=SegmentStore())
    for request in (request_for("answer"), request_for("answer", SEGMENTS[1:])):
        found, wanted = (case.run(request, backend, decoding=decoding).text for backend in (stored, fresh))
        expect(found == wanted, f"reuses_segments: {found!r} with stored segments, {wanted!r} without")


def _expect_refused_unasked(case: MethodCase, request: Request, backend: Backend, error: type[FairposError]) -> None:
    recording = RecordingBackend(backend)
    try:
        case.run(request, recording)
    except error:
        expect(not recording.asked, f"{request.task}: refused after {len(recording.asked)} calls")
    else:
        able = ", ".join(sorted(backend.capabilities))
        raise AssertionError(f"{request.task} must be refused with {error.__name__} on a model that can {able}")


def _run_or_refusal(case: MethodCase, request: Request, backend: Backend) -> Output | None:
    try:
        return case.run(request, backend)
    except FairposError:
        return None


def _expect_ids(output: Output, request: Request) -> None:
    """Whatever an output names is a segment of the request, and at most once."""
    ids = request.ids
    expect(output.task == request.task, f"task {request.task!r} became {output.task!r}")
    expect(len(set(output.ranking)) == len(output.ranking), f"the ranking names an id twice: {output.ranking}")
    for what, named in (
        ("ranking", output.ranking),
        ("scores", output.scores),
        ("winner", () if output.winner is None else (output.winner,)),
        ("ties", (id for group in output.ties for id in group)),
    ):
        strange = sorted(set(named) - set(ids))
        expect(not strange, f"{request.task}: {what} names {', '.join(strange)}; the segments are {', '.join(ids)}")
    if output.scores:
        unscored = sorted(set(output.ranking) - output.scores.keys())
        expect(not unscored, f"{request.task}: {', '.join(unscored)} is ranked beside others that have scores")


def _result_of(output: Output) -> dict[str, object]:
    """What of an output no order may change; scores by id."""
    return {
        "text": output.text,
        "ranking": output.ranking,
        "ties": {frozenset(group) for group in output.ties},
        "scores": dict(sorted(output.scores.items())),
        "winner": output.winner,
        "tie": output.tie,
        "status": output.status,
    }
