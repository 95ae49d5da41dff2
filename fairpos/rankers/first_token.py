"""Rank all segments by one forward pass: the distribution over their labels where the reply would name the best.

The idea of FIRST (Reddy et al., arXiv 2406.15657): the first token of a listwise reply already ranks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from fairpos.backends.base import Score
from fairpos.prompts import render
from fairpos.rankers.base import Asked, Asking, lack_of_mass, register, scored
from fairpos.types import Capability, Request


@register
@dataclass(frozen=True)
class FirstToken:
    """Scores are log-probabilities of each segment's label as the reply.

    Up to 26 segments have labels of one token each, if the caller doesn't label them (`fairpos.prompts.slot_labels`).
    Beyond that labels are numbers, scored whole; one that begins another ("1" and "10") up to and with the mark that
    closes it.

    COST: one forward pass for all segments; beyond 26 a short second one for each first token of longer labels, which
    an endpoint is asked for in calls of their own.
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
        prompt = render(request, asking.template)
        close = "]" if prompt.answer_start.endswith("[") else "."
        replies = tuple(label + close if begins_another(label, prompt.labels) else label for label in prompt.labels)
        [reply] = yield [Score(prompt, replies, asking.attend)]
        return scored(request, reply, reply.log_probs, said=replies, lacking=lack_of_mass(prompt, reply))


def begins_another(label: str, labels: Sequence[str]) -> bool:
    """Whether this label would get the probability of another one, too, if nothing closed it."""
    return any(other != label and other.startswith(label) for other in labels)
