"""How a view is asked for one winner: by the distribution over the labels, or in words that are parsed strictly.

A verdict in words counts only if it says one thing: `[[A]]`, or a JSON object whose "winner" or "verdict" is a label;
in whatever script brackets are, in whatever capitals, also as `[[Answer A]]`. A text without a verdict, with two
different ones or with a label that was not offered is unparsable, never guessed at.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import replace
from typing import Literal, TypeAlias

from fairpos.backends.base import Call, Generate, Reply, Score
from fairpos.prompts import TEMPLATES, Template, render
from fairpos.rankers.base import Asking, lack_of_mass, scored, view_of
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
        question=f"\n{_REASONS} as [[X]], where X is the letter of the right option.",
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

# Brackets as they are typed in other scripts, and as LaTeX escapes them.
_PLAIN_BRACKETS = str.maketrans(
    dict.fromkeys("【〔［", "[") | dict.fromkeys("】〕］", "]") | {"〚": "[[", "〛": "]]", "⟦": "[[", "⟧": "]]"}
)
_BRACKETS = re.compile(r"\[\s*\[\s*([^\[\]]*?)\s*\]\s*\]")
_KEYS = frozenset({"winner", "verdict", "final_verdict", "choice"})
# What people and models call the thing that has the label.
_CALLED = re.compile(
    r"\A(?:the\s+)?(?:answer|assistant|candidate|choice|letter|model|option|response|solution)\s*[:#]?\s*",
    re.IGNORECASE,
)
_AROUND = " \t\r\n*_`'\"“”‘’().,:;!"
_TIES = frozenset({"tie", "tied", "draw"})


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
    [reply] = yield [Score(prompt, tuple(space + label for label in labels), asking.attend)]
    lacking = lack_of_mass(prompt, reply)
    unread = reply.status == "unparsable" and not reply.log_probs
    if asking.may_use_words and (lacking or unread):
        template = in_words(asking.template or TEMPLATES[request.task])
        output = yield from _ask_in_words(request, asking, template)
        view = replace(output.views[0], mass=reply.mass or 0.0)
        note = f"a verdict in words, because {lacking or reply.detail}"
        return replace(output, usage=reply.usage + output.usage, views=(view,), notes=(*output.notes, note))
    if prompt.tie is None or not reply.log_probs or lacking:
        return scored(request, reply, reply.log_probs, lacking=lacking)
    *log_probs, tie = reply.log_probs
    # A tie that isn't listed has no more than what is listed: it can't be the verdict.
    listed = not (reply.bounded and reply.bounded[-1])
    return scored(request, reply, log_probs, tie=tie if listed else None)


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


def parse_verdict(text: str, labels: Sequence[str], tie: str | None = None) -> str | None:
    """The one label that a text names as its verdict.

    Capitals don't matter unless labels differ by them alone, nor does what the label is called (`[[Answer A]]`), nor
    the script that brackets are from. A thinking trace must be cut off before (`fairpos.backends.thinking`).

    Args:
        text: The reply.
        labels: Those that were offered.
        tie: The label for a tie, where it was offered; the word "tie" then means it too.

    Returns:
        A label, or `tie`; None where there is no verdict, or more than one.
    """
    allowed = [*labels, tie] if tie is not None else list(labels)
    fold = str.casefold if len({label.casefold() for label in allowed}) == len(allowed) else str
    known = {fold(label): label for label in allowed}
    if tie is not None:
        known |= {word: tie for word in _TIES if word not in known}
    plain = unicodedata.normalize("NFKC", text.translate(_PLAIN_BRACKETS)).replace("\\[", "[").replace("\\]", "]")
    named = {match.group(1) for match in _BRACKETS.finditer(plain)} | set(_json_verdicts(plain))
    found = {known.get(fold(_bare_label(name, known, fold))) for name in named}
    return found.pop() if len(found) == 1 else None


def _bare_label(name: str, known: Mapping[str, str], fold: Callable[[str], str]) -> str:
    """A verdict without what it is wrapped in or called, unless that itself is a label."""
    bare = name.strip("[]").strip(_AROUND)
    return bare if fold(bare) in known else _CALLED.sub("", bare, count=1).strip(_AROUND)


def _json_verdicts(text: str) -> list[str]:
    """What the JSON objects in a text give as winner or verdict."""
    decoder = json.JSONDecoder()
    found, start = [], text.find("{")
    while start >= 0:
        try:
            value, end = decoder.raw_decode(text, start)
        except (ValueError, RecursionError):
            start = text.find("{", start + 1)
            continue
        found += _verdicts_in(value)
        start = text.find("{", end)
    return found


def _verdicts_in(value: object) -> list[str]:
    """Of an object and of those in it; keys in any capitals."""
    if isinstance(value, list):
        return [verdict for item in value for verdict in _verdicts_in(item)]
    if not isinstance(value, dict):
        return []
    found = []
    for key, item in value.items():
        if key.casefold() in _KEYS and not isinstance(item, dict | list):
            found.append(str(item))
        else:
            found += _verdicts_in(item)
    return found
