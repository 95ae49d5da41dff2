"""What is told of a request's outputs: the reply's `fairpos` block, its headers and tokens; or why there is none."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from urllib.parse import quote

from fairpos.calibration.profile import Profile
from fairpos.methods.base import Method
from fairpos.types import Output, Task

from .asking import Ask
from .errors import ServiceError
from .metrics import Metrics
from .schemas.base import Usage as TokenUsage
from .schemas.options import Done, Vote
from .traces import describe_request

_LONGEST_HEADER = 4096  # of x-fairpos-order; the body always has it


def done(ask: Ask, outputs: Sequence[Output]) -> Done:
    """The reply's `fairpos` block; the request's span is told the same."""
    describe_request(
        task=ask.request.task,
        methods=ask.spec,
        order_free=any(method.order_free for method in ask.methods),
        segments=len(ask.request.segments),
        views=sum(len(output.views) for output in outputs),
        calls=sum(output.usage.calls for output in outputs),
        prompt_tokens=sum(output.usage.prompt_tokens for output in outputs),
        completion_tokens=sum(output.usage.completion_tokens for output in outputs),
    )
    orders = [list(view.order) for output in outputs for view in output.views if view.order]
    notes = [*ask.notes, *(note for output in outputs for note in output.notes)]
    votes = [vote for output in outputs for vote in output.votes]
    return Done(
        methods=ask.spec,
        order=orders[0] if orders and all(order == orders[0] for order in orders) else None,
        orders=orders,
        calls=sum(output.usage.calls for output in outputs),
        profile=profile_of(ask.methods),
        left_out=[id for output in outputs for id in output.left_out],
        unknown_citations=list(dict.fromkeys(name for output in outputs for name in output.unknown_citations)),
        notes=notes,
        agreement=min((vote.agreement for vote in votes), default=None),
        votes=[Vote.model_validate(asdict(vote)) for vote in votes] if ask.tells_votes else None,
    )


def usage(outputs: Sequence[Output]) -> TokenUsage:
    """Tokens over all calls."""
    prompt = sum(output.usage.prompt_tokens for output in outputs)
    new = sum(output.usage.completion_tokens for output in outputs)
    return TokenUsage(prompt_tokens=prompt, completion_tokens=new, total_tokens=prompt + new)


def headers(what: Done) -> dict[str, str]:
    """The `x-fairpos-*` headers; ids are percent-encoded."""
    found = {"x-fairpos-methods": quote(what.methods, safe=":=,+._-"), "x-fairpos-calls": str(what.calls)}
    order = ",".join(quote(id, safe="") for id in what.order or ())
    if order and len(order) <= _LONGEST_HEADER:
        found["x-fairpos-order"] = order
    if what.profile:
        found["x-fairpos-profile"] = quote(what.profile, safe="/:._-")
    return found


def profile_of(methods: Sequence[Method]) -> str | None:
    """The calibration that the methods used, where they name one."""
    names: list[str] = []
    for method in methods:
        value = getattr(method, "profile", None)
        for profile in value if isinstance(value, tuple) else ():
            names += [profile.file_name] if isinstance(profile, Profile) else []
    return ", ".join(dict.fromkeys(names)) or None


def usable_output(metrics: Metrics, task: Task, outputs: Sequence[Output]) -> Output:
    """The one output, if there is a result in it.

    Raises:
        ServiceError: 502 the model's reply could not be used.
    """
    [output] = outputs
    for view in output.views:
        if view.status not in ("ok", "partial"):
            metrics.unparsable.labels(task, view.status).inc()
    if output.status not in ("ok", "partial"):
        detail = next((view.detail for view in output.views if view.detail), "")
        raise ServiceError(
            504 if output.status == "timeout" else 502,
            f"model_{output.status}",
            f"the model's reply can't be used: {output.status}{f' ({detail})' if detail else ''}",
        )
    return output


def full_text(output: Output) -> str:
    """The answer as the model wrote it, white space included: what a stream of it shows."""
    texts = {view.text for view in output.views}
    whole = texts.pop() if len(texts) == 1 else None
    return whole if whole is not None and whole.strip() == output.text else output.text or ""
