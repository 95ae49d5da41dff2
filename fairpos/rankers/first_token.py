"""Rank all segments by one forward pass: the distribution over their labels where the reply would name the best.

The idea of FIRST (Reddy et al., arXiv 2406.15657): the first token of a listwise reply already ranks.
"""

from __future__ import annotations

from collections.abc import Generator

from fairpos.backends.base import Call, Reply, Score
from fairpos.prompts import render
from fairpos.rankers.base import Asking, scored
from fairpos.types import Output, Request


def first_token(request: Request, asking: Asking) -> Generator[list[Call], list[Reply], Output]:
    """Scores are log-probabilities of each segment's label as the reply.

    Labels of several tokens ("10") are scored whole, up to and with the closing bracket where one label begins another.

    COST: one forward pass for all segments (a short second one for each first token of longer labels).
    HURTS: small models name one slot whatever it holds: SmolLM2-135M answers "[1]" always. Use it with several views.
    """
    prompt = render(request, asking.template)
    # A label that begins another ("1" and "10") would get the other's probability too: close both.
    ambiguous = any(a != b and b.startswith(a) for a in prompt.labels for b in prompt.labels)
    replies = tuple(f"{label}]" if ambiguous else label for label in prompt.labels)
    [reply] = yield [Score(prompt, replies, asking.attend)]
    return scored(request, reply, reply.log_probs)
