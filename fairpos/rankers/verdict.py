"""How a view is asked for one winner: by the distribution over the labels, or in words, read by
`fairpos.replies.verdict`."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import replace
from typing import Literal, TypeAlias

from fairpos.backends.base import Call, Generate, Reply, Score
from fairpos.prompts import TEMPLATES, Template, render
from fairpos.rankers.base import Asking, lack_of_mass, scored, view_of
from fairpos.replies.verdict import parse_verdict
from fairpos.types import Output, Request, Task

VerdictForm: TypeAlias = Literal["auto", "distribution", "text"]

JUDGE_WITH_TIES = replace(
    TEMPLATES["judge"],
    question="Which answer follows the instruction better? Reply with its letter, or with {tie} if none is better.",
)
_REASONS = "Give your reasons in a few sentences. Then write your verdict on a line of its own"
IN_WORDS: dict[Task, Template] = {
    "judge": replace(
        TEMPLATES["judge"],
        question=f"Which answer follows the instruction better? {_REASONS} as [[X]], where X is its letter.",
        answer_start="",
    ),
    "choose": replace(
        TEMPLATES["choose"],
        question=f"{_REASONS} as [[X]], where X is the letter of the right option.",
        answer_start="",
    ),
}
JUDGE_IN_WORDS_WITH_TIES = replace(
    IN_WORDS["judge"],
    question=f"{IN_WORDS['judge'].question} If none is better, write [[{{tie}}]].",
)

_WORDED = {
    TEMPLATES["judge"]: IN_WORDS["judge"],
    JUDGE_WITH_TIES: JUDGE_IN_WORDS_WITH_TIES,
    TEMPLATES["choose"]: IN_WORDS["choose"],
}


def verdict(request: Request, asking: Asking) -> Generator[list[Call], list[Reply], Output]:
    """One view of task "judge" or "choose".

    Where the labels have too little of the distribution to mean anything, the verdict is asked for in words if it may
    be, and else there is none.

    COST: one forward pass over the prompt; in words, the generated text as well.
    HURTS: a distribution over letters says nothing of why, and small models name one letter whatever it holds.
    """
    if asking.in_words:
        return (yield from _ask_in_words(request, asking, asking.template or IN_WORDS[request.task]))
    prompt = render(request, asking.template)
    space = "" if prompt.answer_start.endswith((" ", "[", '"')) or not prompt.answer_start else " "
    labels = prompt.labels if prompt.tie is None else (*prompt.labels, prompt.tie)
    replies = tuple(space + label for label in labels)
    [reply] = yield [Score(prompt, replies, asking.attend)]
    lacking = lack_of_mass(prompt, reply)
    unread = reply.status == "unparsable" and not reply.log_probs
    if asking.may_use_words and (lacking or unread):
        template = in_words(asking.template or TEMPLATES[request.task])
        output = yield from _ask_in_words(request, asking, template)
        view = replace(output.views[0], mass=reply.mass or 0.0)
        note = f"a verdict in words, because {lacking or reply.detail}"
        return replace(output, usage=reply.usage + output.usage, views=(view,), notes=(*output.notes, note))
    if prompt.tie is None or not reply.log_probs or lacking:
        return scored(request, reply, reply.log_probs, said=replies, lacking=lacking)
    *log_probs, tie = reply.log_probs
    # A tie that isn't listed has no more than what is listed: it can't be the verdict.
    listed = not (reply.bounded and reply.bounded[-1])
    return scored(request, reply, log_probs, said=replies, tie=tie if listed else None)


def in_words(template: Template) -> Template:
    """The template, made to ask for a verdict in words."""
    if template in _WORDED:
        return _WORDED[template]
    tie = " If none is better, write [[{tie}]]." if template.ties else ""
    question = f"{template.question}\n{_REASONS} as [[X]], where X is the letter.{tie}"
    return replace(template, question=question, answer_start="")


def _ask_in_words(request: Request, asking: Asking, template: Template) -> Generator[list[Call], list[Reply], Output]:
    prompt = render(request, template)
    [reply] = yield [Generate(prompt, asking.decoding, asking.attend)]
    if reply.status != "ok":
        view = view_of(request.ids, reply)
        return Output(request.task, status=reply.status, usage=reply.usage, views=(view,))
    label = parse_verdict(reply.text, prompt.labels, prompt.tie)
    status: Literal["ok", "unparsable"] = "unparsable" if label is None else "ok"
    winner = dict(zip(prompt.labels, request.ids, strict=True)).get(label or "")
    ranking = () if winner is None else (winner,)  # empty where the status is "ok": a tie
    view = view_of(request.ids, reply, ranking=ranking, status=status)
    return Output(request.task, ranking=ranking, winner=winner, status=status, usage=reply.usage, views=(view,))
