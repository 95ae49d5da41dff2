"""A request becomes views, the views' calls run together, their replies become one output.

    request -> methods, outermost first (`steps`) -> leaves (`ask`) -> calls -> backend -> replies -> back up

Every stage is a generator that yields what it wants done and receives the results, so that the calls of all views of
all requests meet in one list before the backend sees any: batched on a local model, concurrent on an endpoint.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from math import exp

from fairpos.backends.base import Backend, Ballot, Decoding, Generate, Reply, Score
from fairpos.backends.work import Work, batch_invariant, finish, together
from fairpos.errors import InvalidComposition, InvalidRequest, UnsupportedBackend
from fairpos.methods.base import Method
from fairpos.prompts import Prompt, Template, render
from fairpos.rankers.base import Asking, Ranker, is_order_free, view_of
from fairpos.rankers.heard import cut_off_detail, heard
from fairpos.rankers.verdict import VerdictForm, verdict
from fairpos.replies.citations import read_citations
from fairpos.types import Output, Request, Task, Usage, View


def run(
    requests: Sequence[Request],
    methods: Sequence[Method],
    backend: Backend,
    *,
    ranker: Ranker,
    template: Template | None = None,
    decoding: Decoding = Decoding(),
    verdicts: VerdictForm = "auto",
    progress: Callable[[int, int], None] | None = None,
) -> list[Output]:
    """Runs requests with the same methods.

    Args:
        requests: Any number, run together.
        methods: Outermost first.
        backend: The model.
        ranker: How a view of task "rank" is asked.
        template: None takes each task's own.
        decoding: For generated text.
        verdicts: How tasks "judge" and "choose" are answered: "distribution" over the labels, "text" parsed strictly,
            "auto": the distribution where the backend has one.
        progress: Called with (requests done, requests in all).

    Raises:
        InvalidComposition: methods that can't work together or not for this task; before anything runs.
        UnsupportedBackend: the backend lacks a capability; before anything runs.
        NotCalibrated: a method's profile is missing or doesn't fit; before anything runs.
    """
    work = start(
        requests,
        methods,
        backend,
        ranker=ranker,
        template=template,
        decoding=decoding,
        verdicts=verdicts,
        progress=progress,
    )
    return finish(work, backend)


def run_each(requests: Sequence[Request], ask: Callable[[Sequence[Request]], list[Output]]) -> list[Output]:
    """Runs requests together; one that can't be asked (a prompt beyond the context) spoils no other.

    COST: nothing more where all can be asked; else the batch is asked again one by one, to find whose fault it is.

    Args:
        requests: Any number.
        ask: Runs requests together: `run` with all else that it takes.

    Returns:
        Outputs in the order of the requests. Status "invalid" where one can't be asked; a note and its view say why.
    """
    try:
        return ask(requests)
    except InvalidRequest as error:
        if len(requests) > 1:
            return [output for request in requests for output in run_each([request], ask)]
        [request] = requests
        view = View(request.ids, "invalid", detail=str(error))
        return [Output(request.task, status="invalid", usage=Usage(), views=(view,), notes=(str(error),))]


def start(
    requests: Sequence[Request],
    methods: Sequence[Method],
    backend: Backend,
    *,
    ranker: Ranker,
    template: Template | None = None,
    decoding: Decoding = Decoding(),
    verdicts: VerdictForm = "auto",
    progress: Callable[[int, int], None] | None = None,
) -> Work[list[Output]]:
    """`run` for whoever runs the calls: yields lists of calls, receives their replies, returns the outputs.

    So that the calls of several such works can share a batch (the service does that across its users).
    """
    for task in {request.task for request in requests}:
        check(methods, task, backend)
        if task == "rank":
            check_ranker(ranker, backend, methods)
    methods = [method.ready(requests, backend, template) for method in methods]
    if any(method.places_segments for method in methods):
        methods = [method.in_order_shown() for method in methods]
    judged = any(request.task in ("judge", "choose") for request in requests)
    asking = asking_of(methods, backend, template, decoding, verdicts if judged else None)
    if asking.attend is not None and asking.attend.order_free:
        # Labels belong to slots: without an order of its own, a request would bring the input order back in.
        requests = [request.canonical() for request in requests]
    work = together([_run_request(methods, request, backend, ranker, asking) for request in requests], progress)
    # What doesn't depend on the order of its segments shall not depend on its neighbours in a batch either.
    free = any(method.order_free for method in methods) or any(
        request.task == "rank" and is_order_free(ranker) for request in requests
    )
    return batch_invariant(work) if free else work


def asking_of(
    methods: Sequence[Method],
    backend: Backend,
    template: Template | None,
    decoding: Decoding,
    verdicts: VerdictForm | None,
) -> Asking:
    """What every call of a leaf shares; `verdicts` is None where none is asked for.

    Raises:
        UnsupportedBackend, InvalidComposition: verdicts that can't be given so.
    """
    in_words = verdicts is not None and answers_in_words(verdicts, methods, backend)
    owner = next((method for method in methods if method.owns_attention), None)
    # Methods that need the distribution have no use for a verdict in words.
    may_use_words = verdicts == "auto" and not any("score" in method.requires for method in methods)
    with_confidence = any(method.needs_confidence for method in methods)
    return Asking(template, decoding, owner, in_words, may_use_words, with_confidence)


def check(methods: Sequence[Method], task: Task, backend: Backend) -> None:
    """Refuses what can't work, before any compute."""
    methods = [each for method in methods for each in (method, *method.inner_methods)]
    owners = [m.name for m in methods if m.owns_attention]
    if len(owners) > 1:
        raise InvalidComposition(
            f"{' and '.join(owners)} each replace the model's attention; only one of them can be used at a time"
        )
    check_task(methods, task)
    for method in methods:
        missing = method.requires and method.requires - backend.capabilities
        if missing:
            raise UnsupportedBackend(
                f"method {method.name!r} needs a backend that can {', '.join(sorted(missing))} (a local model can); "
                f"{backend.name!r} can {', '.join(sorted(backend.capabilities))}"
            )


def check_task(methods: Sequence[Method], task: Task) -> None:
    """Refuses methods that aren't for a task.

    Raises:
        InvalidComposition: one isn't.
    """
    for method in methods:
        if task not in method.tasks:
            raise InvalidComposition(
                f"method {method.name!r} is for {', '.join(sorted(method.tasks))}; got task {task!r}"
            )


def check_ranker(ranker: Ranker, backend: Backend, methods: Sequence[Method] = ()) -> None:
    """Refuses a ranker that the backend can't serve, or a method can't use.

    Raises:
        UnsupportedBackend: the backend lacks a capability.
        InvalidComposition: a method needs one distribution over the segments.
    """
    for method in methods:
        if method.needs_confidence and not getattr(ranker, "is_distribution", False):
            raise InvalidComposition(
                f"method {method.name!r} needs one distribution over all segments, as the ranker 'first_token' reads "
                f"it; {ranker.name!r} gives none"
            )
    missing = ranker.requires and ranker.requires - backend.capabilities
    if missing:
        raise UnsupportedBackend(
            f"ranker {ranker.name!r} needs a backend that can {', '.join(sorted(missing))}; {backend.name!r} can "
            f"{', '.join(sorted(backend.capabilities))}. Rankers 'generate' and 'embedding' need no scores."
        )


def answers_in_words(verdicts: VerdictForm, methods: Sequence[Method], backend: Backend) -> bool:
    """Whether verdicts are to be generated, rather than read from the distribution over labels.

    Raises:
        UnsupportedBackend: the distribution is wanted, and the backend has none.
        InvalidComposition: words are wanted, and a method needs the distribution.
    """
    can_score = verdicts != "text" and "score" in backend.capabilities
    if verdicts == "distribution" and not can_score:
        raise UnsupportedBackend(f"{backend.name!r} gives no distribution over labels; take verdicts='text'")
    for method in methods:
        if not can_score and "score" in method.requires:
            raise InvalidComposition(
                f"method {method.name!r} needs the distribution over labels; verdicts are in words"
            )
    return not can_score


def _run_request(
    methods: Sequence[Method], request: Request, backend: Backend, ranker: Ranker, asking: Asking
) -> Work[Output]:
    """One request under the methods that are left."""
    owner = next((method for method in methods if method.owns_attention), None)
    if owner is not None:  # one that came along with another method, too
        asking = replace(asking, attend=owner)
    if not methods:
        output = yield from ask(request, ranker, asking)
        return output
    steps = methods[0].steps(request, backend)
    views = next(steps)
    while True:
        asked = [((*methods[0].inside(number), *methods[1:]), view) for number, view in enumerate(views)]
        inner = _run_views(asked, backend, ranker, asking)
        ballot = methods[0].ballot(request, backend)
        outputs = yield from (inner if ballot is None else _run_voted(inner, ballot))
        try:
            views = steps.send(outputs)
        except StopIteration as stop:
            combined: Output = stop.value
            return combined


def _run_views(
    asked: Sequence[tuple[tuple[Method, ...], Request]], backend: Backend, ranker: Ranker, asking: Asking
) -> Work[list[Output]]:
    """The output of each view under its methods.

    A ranker that is free of order is asked once for all views of the same segments: the others get its output, without
    the calls, which were not made.
    """
    firsts = list(range(len(asked)))
    if is_order_free(ranker) and all(view.task == "rank" for _, view in asked):
        shown = [(methods, view.canonical()) for methods, view in asked]
        firsts = [shown.index(each) for each in shown]
    distinct = sorted(set(firsts))
    outputs = yield from together([_run_request(*asked[first], backend, ranker, asking) for first in distinct])
    found = dict(zip(distinct, outputs, strict=True))
    return [
        found[first] if first == number else replace(found[first], usage=Usage(), views=())
        for number, first in enumerate(firsts)
    ]


def _run_voted(inner: Work[list[Output]], ballot: Ballot) -> Work[list[Output]]:
    """Views whose texts are one text, voted on token by token: their calls as one, whose reply all of them get."""
    try:
        calls = next(inner)
        while True:
            texts = [call for call in calls if isinstance(call, Generate) and not call.voters]
            if len(texts) < len(calls) or len({call.attend for call in texts}) > 1:
                raise InvalidComposition(
                    "views that vote while generating need one text each, read by the same attention: name "
                    "permutation once, and put no route inside of it"
                )
            voters = tuple(call.prompt for call in texts[1:])
            [reply] = yield [replace(texts[0], voters=voters, ballot=ballot)]
            reply = replace(reply, is_shared=len({call.prompt.names for call in texts}) > 1)
            # One of them carries the cost of all, and what each of them said.
            calls = inner.send([reply] + [replace(reply, usage=Usage(), vote=None)] * len(voters))
    except StopIteration as stop:
        outputs: list[Output] = stop.value
        return outputs


def ask(request: Request, ranker: Ranker, asking: Asking) -> Work[Output]:
    """One view, asked as its task wants it; what is read of its replies is neither thinking nor a vote cut off."""
    if request.task == "rank":
        return (yield from heard(ranker(request, asking), keeps_cut_off=False))
    if request.task in ("judge", "choose"):
        return (yield from heard(verdict(request, asking), keeps_cut_off=False))
    return (yield from heard(_ask_for_text(request, asking), keeps_cut_off=True))


def _ask_for_text(request: Request, asking: Asking) -> Work[Output]:
    """The text that a view gets. One that is cut off is kept, and said to be so."""
    prompt = render(request, asking.template)
    [reply] = yield [Generate(prompt, asking.decoding, asking.attend)]
    text = reply.text.strip() if reply.status == "ok" else None
    cut_off = reply.status == "ok" and reply.finish == "length"
    detail = cut_off_detail(reply) if cut_off else reply.detail
    view = view_of(request.ids, reply, status="cut_off" if cut_off else reply.status, detail=detail)
    notes = (f"the answer is {detail}",) if cut_off else ()
    output = Output("answer", text=text, status=reply.status, usage=reply.usage, views=(view,), notes=notes)
    output = _with_citations(output, prompt, reply)
    return (yield from _scored_text(output, prompt, reply, asking)) if asking.with_confidence and text else output


def _with_citations(output: Output, prompt: Prompt, reply: Reply) -> Output:
    """The output with what its text cites of this view; numbers of slots mean nothing where several views wrote it."""
    if not output.text or not prompt.names or (prompt.names_are_slots and reply.is_shared):
        return output
    names: dict[str, list[str]] = {}
    for name, id in prompt.names:
        names.setdefault(name, []).append(id)
    cited = read_citations(output.text, {name: sorted(ids) for name, ids in names.items()})
    return replace(output, citations=cited.citations, unknown_citations=cited.unknown)


def _scored_text(output: Output, prompt: Prompt, reply: Reply, asking: Asking) -> Work[Output]:
    """The output of a text with its confidence: the geometric mean of the probabilities of the text's tokens."""
    [found] = yield [Score(prompt, (reply.text,), asking.attend)]
    output = replace(output, usage=output.usage + found.usage)
    mean = found.mean_log_prob if found.status == "ok" else None
    if mean is None:
        return replace(output, notes=(*output.notes, f"the text could not be scored: {found.detail or found.status}"))
    return replace(output, confidence=exp(mean))
