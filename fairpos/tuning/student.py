"""A student: the local model with a method's attention in force, on the way to whose weights gradients flow.

The seam is a function of the call, so nothing has to be switched on: `LocalModel.attending(gradients=True)` is the
call, and all questions about the same segments share the one reading of them, as when they are asked.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from fairpos.backends.base import Call, Decoding, Generate, Score
from fairpos.backends.caches import keeps_all
from fairpos.backends.hf import HFBackend
from fairpos.errors import InvalidComposition, UnsupportedModel
from fairpos.layout import Layout
from fairpos.methods.base import Method
from fairpos.prompts import Template
from fairpos.rankers.base import find_ranker
from fairpos.runner import start
from fairpos.tokenizing import continuation
from fairpos.tuning.lessons import (
    Lesson,
    VoteLesson,
    divergence_from_targets,
    divergence_from_vote,
    shortfall_of_margin,
)
from fairpos.types import Request


@dataclass(frozen=True)
class Student:
    """Who learns.

    Attributes:
        local: The model, with the weights that are trained inside of it.
        method: In force; None: the plain attention.
    """

    local: HFBackend
    method: Method | None

    def loss(self, lessons: Sequence[Lesson]) -> Tensor:
        """The mean loss of lessons about the same segments in the same order, with its way back to the weights.

        COST: one reading of the segments, and of each question with its replies.

        Raises:
            InvalidComposition: the lessons don't begin alike.
        """
        asked = [self._tokens_asked(lesson) for lesson in lessons]
        replies = [each for _, each in asked]
        steps = self.log_probs([layout for layout, _ in asked], replies)
        return torch.stack([_loss_of(*each) for each in zip(lessons, replies, steps, strict=True)]).mean()

    def _tokens_asked(self, lesson: Lesson) -> tuple[Layout, list[tuple[int, ...]]]:
        """A lesson's prompt and the replies to it, in tokens; those of options in the order of its targets."""
        methods = () if self.method is None else (self.method,)
        call = the_only_call(lesson.request, methods, self.local, lesson.template)
        layout = self.local.layout(call.prompt)
        if isinstance(lesson, VoteLesson):
            return layout, [lesson.reply]
        texts = dict(lesson.replies)
        if not texts:
            assert isinstance(call, Score)
            texts = dict(zip(call.prompt.request.ids, call.replies, strict=False))
        return layout, [continuation(texts[id], self.local.tokenizer) for id, _ in lesson.targets]

    def log_probs(self, layouts: Sequence[Layout], replies: Sequence[Sequence[Sequence[int]]]) -> list[list[Tensor]]:
        """What is expected at every token of every reply to prompts that begin alike: (tokens, V) each, by prompt."""
        start = layouts[0].suffix_start
        head = replace(layouts[0], input_ids=layouts[0].input_ids[:start])
        if any(layout.input_ids[:start] != head.input_ids for layout in layouts):
            raise InvalidComposition("lessons that are learned together must show the same segments in the same order")
        tails = [layout.input_ids[start:] for layout in layouts]
        rows = [(*tail, *reply[:-1]) for tail, each in zip(tails, replies, strict=True) for reply in each]
        longest = max(map(len, rows))
        ids = [[*row, *[self.local.pad] * (longest - len(row))] for row in rows]  # what comes after is seen by nobody
        with self.local.attending([head], self.method, longest, gradients=torch.is_grad_enabled()) as (batch, cache):
            self.local.prefill(batch, cache)
            if not keeps_all(cache):
                raise UnsupportedModel(f"{type(self.local.model).__name__} keeps a state of its own; it can't be tuned")
            cache.batch_repeat_interleave(len(rows))
            logits = self.local.read(torch.tensor(ids, device=self.local.device), cache)
        left = iter(logits)
        found = []
        for tail, each in zip(tails, replies, strict=True):
            places = [slice(len(tail) - 1, len(tail) - 1 + len(reply)) for reply in each]
            found.append([torch.log_softmax(next(left)[place], dim=-1) for place in places])
        return found


def the_only_call(
    request: Request,
    methods: Sequence[Method],
    local: HFBackend,
    template: Template | None,
    decoding: Decoding = Decoding(),
) -> Call:
    """The one call in which the library itself would ask a request, so that what is trained is what is asked.

    Raises:
        InvalidComposition: it would make several.
    """
    work = start([request], methods, local, ranker=find_ranker("first_token"), template=template, decoding=decoding)
    calls = next(work)
    work.close()
    if len(calls) != 1 or not isinstance(calls[0], Generate | Score):
        raise InvalidComposition(f"a lesson is one call; these methods make {len(calls)}")
    return calls[0]


def _loss_of(lesson: Lesson, replies: Sequence[Sequence[int]], steps: Sequence[Tensor]) -> Tensor:
    """Of one lesson, from what the student expects at every token of its replies."""
    if isinstance(lesson, VoteLesson):
        return divergence_from_vote(steps[0], lesson.steps)
    said = [
        each.gather(1, torch.tensor(reply, device=each.device)[:, None]).sum()
        for reply, each in zip(replies, steps, strict=True)
    ]
    scores = torch.stack(said)
    targets = torch.tensor([wanted for _, wanted in lesson.targets], dtype=scores.dtype, device=scores.device)
    if lesson.margin is None:
        return divergence_from_targets(scores, targets)
    return shortfall_of_margin(scores, int(targets.argmax()), lesson.margin)
