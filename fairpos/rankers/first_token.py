"""Rank all segments by one forward pass: the distribution over their labels where the reply would name the best.

The idea of FIRST (Reddy et al., arXiv 2406.15657): the first token of a listwise reply already ranks.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from fairpos.backends.base import Score
from fairpos.prompts import Prompt, render, slot_labels
from fairpos.rankers.base import Asked, Asking, lack_of_mass, register, scored
from fairpos.types import Capability, Request

# Without I, with which refusals begin.
_LETTERS = "ABCDEFGHJKLMNOPQRSTUVWXYZ"
_MOST_DIGITS = 9  # segments whose numbers are one digit each


@register
@dataclass(frozen=True)
class FirstToken:
    """Scores are log-probabilities of each segment's label as the reply.

    In our own words 10 to 25 segments are called by letters in the place of their numbers: one token each, where "10"
    and "12" are two that begin alike. Longer labels are scored whole, all of them up to and with the mark that closes
    one where one begins another ("1" and "10").

    COST: one forward pass for all segments; beyond 25, or in a template of the caller's beyond 9, a short second one
    for each beginning of longer labels, which an endpoint is asked for in calls of their own.
    HURTS: small models name one slot whatever it holds: SmolLM2-135M answers "[1]" always. Use it with several views.
    An endpoint lists few alternatives: past them there is no more than an upper bound, and the status is "partial".
    """

    name: ClassVar[str] = "first_token"
    summary: ClassVar[str] = "reads the distribution over the labels where the reply would name the best; one pass"
    source: ClassVar[str] = "FIRST, arXiv 2406.15657"
    requires: ClassVar[frozenset[Capability]] = frozenset({"score"})
    is_distribution: ClassVar[bool] = True

    def __call__(self, request: Request, asking: Asking) -> Asked:
        """One scored call."""
        prompt = render(request if asking.template is not None else lettered(request), asking.template)
        prompt, replies = replies_to(prompt)
        [reply] = yield [Score(prompt, replies, asking.attend)]
        return scored(request, reply, reply.log_probs, said=replies, lacking=lack_of_mass(prompt, reply))


def lettered(request: Request) -> Request:
    """The request with a letter for each number, where it has as many segments as that helps, and labels are numbers.

    The letter of a number is always the same, so that labels that a method turns mean what they meant.
    """
    numbers = slot_labels("rank", len(request.segments))
    labels = request.labels or numbers
    if not _MOST_DIGITS < len(numbers) <= len(_LETTERS) or set(labels) != set(numbers):
        return request
    return replace(request, labels=tuple(_LETTERS[int(label) - 1] for label in labels))


def replies_to(prompt: Prompt) -> tuple[Prompt, tuple[str, ...]]:
    """The replies that name each segment, and the prompt up to where they differ.

    A blank before a word is a part of the word's token, and a token of its own before a digit.
    """
    labels = prompt.labels
    if any(a != b and b.startswith(a) for a in labels for b in labels):
        close = "]" if prompt.answer_start.endswith("[") else "."
        return prompt, tuple(label + close for label in labels)
    if prompt.answer_start.endswith(" ") and all(label.isalpha() for label in labels):
        return replace(prompt, answer_start=prompt.answer_start[:-1]), tuple(f" {label}" for label in labels)
    return prompt, labels
