"""How a view is asked for one winner: by the distribution over the labels, or in words that are parsed strictly.

A verdict in words counts only if it says one thing: `[[A]]`, or a JSON object whose "winner" or "verdict" is a label. A
text without a verdict, with two different ones or with a label that was not offered is unparsable, never guessed at.
"""

from __future__ import annotations

import json
import re
from collections.abc import Generator, Sequence
from dataclasses import replace
from typing import Literal, TypeAlias

from fairpos.backends.base import Call, Generate, Reply, Score
from fairpos.prompts import TEMPLATES, Template, render
from fairpos.rankers.base import Asking, scored
from fairpos.types import Output, Request, Task, View

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
        question=f"\n{_REASONS} as [[X]], where X is the letter of the right option.",
        answer_start="",
    ),
}
JUDGE_IN_WORDS_WITH_TIES = replace(
    IN_WORDS["judge"],
    question=f"{IN_WORDS['judge'].question} If none is better, write [[{{tie}}]].",
)

_BRACKETS = re.compile(r"\[\[\s*([^\[\]]*?)\s*\]\]")
_KEYS = ("winner", "verdict")


def verdict(request: Request, asking: Asking) -> Generator[list[Call], list[Reply], Output]:
    """One view of task "judge" or "choose".

    COST: one forward pass over the prompt; in words, the generated text as well.
    HURTS: a distribution over letters says nothing of why, and small models name one letter whatever it holds.
    """
    if asking.in_words:
        return (yield from _in_words(request, asking))
    prompt = render(request, asking.template)
    space = "" if prompt.answer_start.endswith((" ", "[", '"')) or not prompt.answer_start else " "
    labels = prompt.labels if prompt.tie is None else (*prompt.labels, prompt.tie)
    [reply] = yield [Score(prompt, tuple(space + label for label in labels), asking.attend)]
    if prompt.tie is None or not reply.log_probs:
        return scored(request, reply, reply.log_probs)
    *log_probs, tie = reply.log_probs
    return scored(request, reply, log_probs, tie=tie)


def _in_words(request: Request, asking: Asking) -> Generator[list[Call], list[Reply], Output]:
    prompt = render(request, asking.template or IN_WORDS[request.task])
    [reply] = yield [Generate(prompt, asking.decoding, asking.attend)]
    if reply.status != "ok":
        view = View(request.ids, reply.status, reply.text, detail=reply.detail)
        return Output(request.task, status=reply.status, usage=reply.usage, views=(view,))
    label = parse_verdict(reply.text, prompt.labels, prompt.tie)
    status: Literal["ok", "unparsable"] = "unparsable" if label is None else "ok"
    winner = dict(zip(prompt.labels, request.ids, strict=True)).get(label or "")
    ranking = () if winner is None else (winner,)  # empty where the status is "ok": a tie
    view = View(request.ids, status, reply.text, ranking=ranking)
    return Output(request.task, ranking=ranking, winner=winner, status=status, usage=reply.usage, views=(view,))


def parse_verdict(text: str, labels: Sequence[str], tie: str | None = None) -> str | None:
    """The one label that a text names as its verdict.

    Args:
        text: The reply.
        labels: Those that were offered.
        tie: The label for a tie, where it was offered.

    Returns:
        A label, or `tie`; None where there is no verdict, or more than one.
    """
    found = {match.group(1) for match in _BRACKETS.finditer(text)} | set(_json_verdicts(text))
    allowed = {*labels, tie} if tie is not None else set(labels)
    if len(found) != 1 or not found <= allowed:
        return None
    return found.pop()


def _json_verdicts(text: str) -> list[str]:
    """What the JSON objects in a text give as "winner" or "verdict"."""
    decoder = json.JSONDecoder()
    found, start = [], text.find("{")
    while start >= 0:
        try:
            value, end = decoder.raw_decode(text, start)
        except (ValueError, RecursionError):
            start = text.find("{", start + 1)
            continue
        found += [str(value[key]) for key in _KEYS if key in value]
        start = text.find("{", end)
    return found
