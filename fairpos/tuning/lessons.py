"""What is learned from one request, and how far a student is from it.

    VoteLesson      a text that several orders wrote together, and what they expected at each of its tokens
    OptionsLesson   several texts, and how likely each ought to be: by a vote, or one of them is right

Losses are pure functions of the student's log-probabilities, in nats.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import Tensor

from fairpos.errors import InvalidRequest
from fairpos.prompts import Template
from fairpos.types import Request

_FLOOR = 1e-9  # of a probability whose logarithm is taken


@dataclass(frozen=True, slots=True)
class Expected:
    """What was expected as the next token.

    Attributes:
        tokens: The likeliest.
        log_probs: Theirs, normalised over the whole vocabulary.
    """

    tokens: tuple[int, ...]
    log_probs: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class VoteLesson:
    """One request and the text of a vote on it.

    Attributes:
        id: Of the request, unique among lessons.
        request: What is asked.
        reply: The text in tokens, with the one that ends it where it ended.
        steps: What was expected at each of them.
        template: How it is put into words; None: the task's own.
    """

    id: str
    request: Request
    reply: tuple[int, ...]
    steps: tuple[Expected, ...]
    template: Template | None = None


@dataclass(frozen=True, slots=True)
class OptionsLesson:
    """One request and what each of its options ought to get.

    Attributes:
        id: Of the request, unique among lessons.
        request: What is asked.
        targets: A probability for each segment, by id; they sum to 1.
        replies: The text that names each segment, by id; empty: the labels that the prompt gives them.
        margin: None: the student learns the distribution. Else its largest probability marks the right option, which
            shall be so many nats above every other.
        template: How it is put into words; None: the task's own.
    """

    id: str
    request: Request
    targets: tuple[tuple[str, float], ...]
    replies: tuple[tuple[str, str], ...] = ()
    margin: float | None = None
    template: Template | None = None


Lesson: TypeAlias = VoteLesson | OptionsLesson


def divergence_from_vote(log_probs: Tensor, steps: Sequence[Expected]) -> Tensor:
    """The mean over tokens of the Kullback-Leibler divergence from what was expected to what the student expects.

    Tokens that weren't kept are one event, "any other", so that the divergence is a proper one, and at most the whole.

    Args:
        log_probs: The student's, normalised, (tokens, V).
        steps: What was expected at each token.
    """
    found = []
    for own, expected in zip(log_probs, steps, strict=True):
        wanted = torch.tensor(expected.log_probs, dtype=own.dtype, device=own.device)
        known = own[torch.tensor(expected.tokens, device=own.device)]
        rest, own_rest = (1 - each.exp().sum() for each in (wanted, known))
        other = rest.clamp(min=0) * (rest.clamp(min=_FLOOR).log() - own_rest.clamp(min=_FLOOR).log())
        found.append((wanted.exp() * (wanted - known)).sum() + other)
    return torch.stack(found).mean()


def divergence_from_targets(scores: Tensor, targets: Tensor) -> Tensor:
    """The Kullback-Leibler divergence from targets (n,) to the softmax of scores (n,)."""
    return (torch.xlogy(targets, targets) - targets * torch.log_softmax(scores, dim=-1)).sum()


def shortfall_of_margin(scores: Tensor, right: int, margin: float) -> Tensor:
    """By how much the right option falls short of being `margin` nats above the others, the mean over them.

    The contrastive loss of fine-tuning with order-free attention (arXiv 2503.23483), as a hinge: 0 once it is.

    Args:
        scores: Log-probabilities of the options, (n,), n at least 2.
        right: Number of the right one.
        margin: Nats.
    """
    others = torch.cat([scores[:right], scores[right + 1 :]])
    return torch.relu(margin - (scores[right] - others)).mean()


def lesson_record(lesson: VoteLesson) -> dict[str, object]:
    """What a vote said, as JSON; the request is whoever reads it's own."""
    steps = [{"tokens": list(step.tokens), "log_probs": list(step.log_probs)} for step in lesson.steps]
    return {"id": lesson.id, "reply": list(lesson.reply), "steps": steps}


def parse_lesson(record: Mapping[str, Any], request: Request, template: Template | None) -> VoteLesson:
    """What `lesson_record` wrote.

    Raises:
        InvalidRequest: it is something else.
    """
    try:
        steps = tuple(Expected(tuple(step["tokens"]), tuple(step["log_probs"])) for step in record["steps"])
        return VoteLesson(str(record["id"]), request, tuple(record["reply"]), steps, template)
    except (KeyError, TypeError) as error:
        raise InvalidRequest(f"a lesson must have id, reply and steps of tokens and log_probs; {error}") from None
