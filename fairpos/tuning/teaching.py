"""What a vote says: the text that several orders write together, and what they expect at each of its tokens.

    orders of one list -> read once -> each question: decoded in step, voted on at every token (`backends.voting`)

No labels are needed: the vote is the teacher. Lessons are kept in a journal, so that a teacher is asked once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from transformers import Cache

from fairpos.attention.batch import Batch
from fairpos.backends.base import Decoding, Generate
from fairpos.backends.caches import continued
from fairpos.backends.generation_config import end_tokens, generation_config_of
from fairpos.backends.hf import HFBackend
from fairpos.backends.voting import pooled
from fairpos.errors import InvalidComposition
from fairpos.files.journal import Journal
from fairpos.layout import Layout
from fairpos.methods.base import Method
from fairpos.prompts import Template
from fairpos.tuning.lessons import Expected, VoteLesson, lesson_record, parse_lesson
from fairpos.tuning.student import the_only_call
from fairpos.types import Request

KEPT = 32  # tokens of a distribution


@dataclass(frozen=True)
class Teacher:
    """Who is learned from.

    Attributes:
        local: The model as it is.
        methods: Under which it writes one text: `permutation`, perhaps with an attention inside.
        template: None takes each task's own.
        max_new_tokens: Of a text, at most.
    """

    local: HFBackend
    methods: Sequence[Method]
    template: Template | None = None
    max_new_tokens: int = 32

    def lessons(
        self,
        requests: Mapping[str, Request],
        journal: Journal | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> list[VoteLesson]:
        """What it says to each request, in their order.

        COST: `views` readings of each list, whatever the number of its questions, and every text once a view.

        Args:
            requests: By id.
            journal: Has what was said before, and gets what is said.
            progress: Called with (lessons there, lessons in all).

        Raises:
            InvalidComposition: its methods don't make one text of several.
        """
        said = [] if journal is None else [line for line in journal.results() if line["id"] in requests]
        found = {id: parse_lesson(line, requests[id], self.template) for line in said for id in [str(line["id"])]}
        calls = {id: self._call_of(request) for id, request in requests.items() if id not in found}
        for ids, heads in self._same_lists(calls):
            for lesson in self._teach_list(ids, heads, calls, requests):
                found[lesson.id] = lesson
                if journal is not None:
                    journal.append(lesson_record(lesson))
                if progress is not None:
                    progress(len(found), len(requests))
        return [found[id] for id in requests]

    def _call_of(self, request: Request) -> Generate:
        decoding = Decoding(max_new_tokens=self.max_new_tokens)
        call = the_only_call(request, self.methods, self.local, self.template, decoding)
        if not isinstance(call, Generate) or (call.attend is not None and call.attend.pooling is not None):
            raise InvalidComposition("a teacher writes one text in several orders: take permutation")
        return call

    def _layouts_of(self, call: Generate) -> list[Layout]:
        return [self.local.layout(prompt) for prompt in (call.prompt, *call.voters)]

    def _same_lists(self, calls: Mapping[str, Generate]) -> Iterator[tuple[list[str], tuple[Layout, ...]]]:
        """Ids of the calls that begin alike in every order, and these beginnings."""
        groups: dict[tuple[Layout, ...], list[str]] = {}
        for id, call in calls.items():
            heads = tuple(
                replace(each, input_ids=each.input_ids[: each.suffix_start]) for each in self._layouts_of(call)
            )
            groups.setdefault(heads, []).append(id)
        for heads, ids in groups.items():
            yield ids, heads

    def _teach_list(
        self,
        ids: Sequence[str],
        heads: Sequence[Layout],
        calls: Mapping[str, Generate],
        requests: Mapping[str, Request],
    ) -> list[VoteLesson]:
        """What it says to the questions about one list."""
        first, found = calls[ids[0]], []
        tails = [self.local.layout(calls[id].prompt) for id in ids]
        room = max(len(tail) - tail.suffix_start for tail in tails) + self.max_new_tokens
        with self.local.attending(heads, first.attend, room) as (batch, cache):
            self.local.prefill(batch, cache)
            for id, tail in zip(ids, tails, strict=True):
                with continued(cache) as own:
                    reply, steps = self._vote_on_text(batch, own, tail.input_ids[tail.suffix_start :], calls[id])
                found.append(VoteLesson(id, requests[id], reply, steps, self.template))
        return found

    def _vote_on_text(
        self, batch: Batch, cache: Cache, tail: Sequence[int], call: Generate
    ) -> tuple[tuple[int, ...], tuple[Expected, ...]]:
        """The text of the vote after one question, and what was expected at each of its tokens."""
        ends = end_tokens(generation_config_of(self.local, call.decoding))
        mask, tokens = batch.attention_mask(self.local.device), list(tail)
        reply: list[int] = []
        steps: list[Expected] = []
        while len(reply) < self.max_new_tokens and not (reply and reply[-1] in ends):
            mask = torch.cat([mask, mask.new_ones(len(mask), len(tokens))], dim=1)
            ids = torch.tensor([tokens] * len(mask), device=self.local.device)
            places = (mask.cumsum(-1) - 1)[:, -len(tokens) :]
            whole = bool(mask.all())  # the model knows best where tokens stand
            logits = self.local.read(ids, cache, None if whole else mask, None if whole else places, keep=1)[:, -1]
            voted = pooled(torch.log_softmax(logits, dim=-1), call.ballot)
            steps.append(_likeliest_tokens(voted))
            tokens = [int(voted.argmax())]
            reply += tokens
        return tuple(reply), tuple(steps)


def _likeliest_tokens(voted: Tensor) -> Expected:
    """Of log-probabilities (V,)."""
    best = voted.topk(min(KEPT, len(voted)))
    return Expected(tuple(best.indices.tolist()), tuple(round(value, 5) for value in best.values.tolist()))
