"""A model that is made up, with a KNOWN bias: what tests and demonstrations measure methods and audits against.

It "reads" a prompt by a quality of each segment, and what it says is distorted by where a segment stands and how it is
labelled, by as much as it was told.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from fairpos.attention.reading import LayerHead, Pairs, Reading
from fairpos.backends.base import AttentionReader, Backend, Call, Generate, Reply, Score
from fairpos.errors import InvalidOption
from fairpos.prompts import Prompt
from fairpos.types import Capability, Segment, Usage

Quality = Callable[[str, Segment], float]


def by_score(query: str, segment: Segment) -> float:  # noqa: ARG001
    """The segment's own score; 0 where it has none."""
    return segment.score or 0.0


def by_length(query: str, segment: Segment) -> float:  # noqa: ARG001
    """Longest wins: the length of the text in characters."""
    return float(len(segment.text))


@dataclass(frozen=True)
class FakeBackend(Backend, AttentionReader):
    """Preference of the segment in slot i, shown as label l: quality + slot_bias[i] + label_bias[l] + noise.

    Attributes:
        quality: (query, segment) -> float, in nats.
        slot_bias: Added by slot; slots past the end get 0. A function (slot, count) -> float does for any length.
        label_bias: Added by the label shown.
        noise: Standard deviation of a Gaussian added to each preference; seeded by the prompt's text, so that the same
            prompt gets the same reply.
        first_with: With this probability the reply names the first slot, whatever it holds.
        tie_within: Says that the best two are equal where their preferences differ by at most so much and the prompt
            offers a tie; below 0: never.
        seed: Of the noise.
    """

    quality: Quality = by_score
    slot_bias: Sequence[float] | Callable[[int, int], float] = ()
    label_bias: Mapping[str, float] = field(default_factory=dict)
    noise: float = 0.0
    first_with: float = 0.0
    tie_within: float = -1.0
    seed: int = 0
    capabilities: frozenset[Capability] = frozenset({"generate", "score"})
    name: str = "fake"

    def run(self, calls: Sequence[Call]) -> list[Reply]:
        """Scores of labels or whole segments are log-softmax preferences; "yes" and "no" say how good one alone is.

        Text is "[label] > [label] > ...", or the preferred passage's.
        """
        return [self._reply_to(call) for call in calls]

    def _reply_to(self, call: Call) -> Reply:
        prompt = call.prompt
        log_probs = self.log_probs(prompt)
        usage = Usage(prompt_tokens=len(prompt.text.split()), completion_tokens=1, calls=1)
        order = sorted(range(len(log_probs)), key=lambda i: -log_probs[i])
        if isinstance(call, Score):
            texts = [segment.text for segment in prompt.request.segments]
            by_reply = dict(zip(texts, log_probs, strict=True)) | dict(zip(prompt.labels, log_probs, strict=True))
            if len(texts) == 1:  # asked of one segment alone: does it answer?
                by_reply |= self._yes_or_no(prompt)
            if prompt.tie is not None:
                by_reply[prompt.tie] = 0.0 if self._is_tied(log_probs) else -math.inf
            found = tuple(by_reply.get(reply.strip(" []."), -math.inf) for reply in call.replies)
            return Reply(
                log_probs=found, greedy=tuple(p == max(found) for p in found), tokens=(1,) * len(found), usage=usage
            )
        assert isinstance(call, Generate)
        if prompt.request.task == "answer":
            return Reply(text=prompt.request.segments[order[0]].text, usage=usage)
        if prompt.request.task in ("judge", "choose"):
            tied = prompt.tie is not None and self._is_tied(log_probs)
            return Reply(text=f"I prefer it. [[{prompt.tie if tied else prompt.labels[order[0]]}]]", usage=usage)
        return Reply(text=" > ".join(f"[{prompt.labels[i]}]" for i in order), usage=usage)

    def log_probs(self, prompt: Prompt) -> tuple[float, ...]:
        """Log-probability of each slot's segment, in the order shown."""
        request = prompt.request
        count = len(request.segments)
        draw = random.Random(f"{self.seed}|{prompt.text}")
        preference = [
            self.quality(request.query, segment)
            + self._preference_for(i, count)
            + self.label_bias.get(prompt.labels[i], 0.0)
            + (draw.gauss(0.0, self.noise) if self.noise else 0.0)
            for i, segment in enumerate(request.segments)
        ]
        if self.first_with and draw.random() < self.first_with:
            preference[0] = max(preference) + 1.0
        top = max(preference)
        total = top + math.log(sum(math.exp(p - top) for p in preference))
        return tuple(p - total for p in preference)

    def read_attention(
        self,
        prompts: Sequence[Prompt],
        *,
        heads: Sequence[int] = (),
        pairs: Pairs = (),
        last_only: bool = False,
        replies: Sequence[str] = (),
    ) -> list[Reading]:
        """One layer of one head, one token a segment: each gets attention in proportion to its probability."""
        only = LayerHead(0, 0)
        if pairs != "all" and any(pair != only for pair in pairs):
            raise InvalidOption(f"pairs must be layer 0, head 0, got {', '.join(map(str, pairs))}")
        scored = self.run([Score(prompt, (reply,)) for prompt, reply in zip(prompts, replies, strict=False)])
        return [
            Reading(
                np.exp(np.array([self.log_probs(prompt)], dtype=np.float32)),
                (1,) * len(prompt.segments),
                len(prompt.text.split()),
                scored[i].log_probs[0] if scored else None,
                (only,) if pairs else (),
            )
            for i, prompt in enumerate(prompts)
        ]

    def _yes_or_no(self, prompt: Prompt) -> dict[str, float]:
        """Log-probabilities of yes and no, whose odds are the quality of the only segment."""
        [segment] = prompt.request.segments
        quality = self.quality(prompt.request.query, segment)
        return {"yes": -math.log1p(math.exp(-quality)), "no": -math.log1p(math.exp(quality))}

    def _is_tied(self, log_probs: Sequence[float]) -> bool:
        best = sorted(log_probs, reverse=True)[:2]
        return best[0] - best[-1] <= self.tie_within

    def _preference_for(self, slot: int, count: int) -> float:
        if callable(self.slot_bias):
            return self.slot_bias(slot, count)
        return self.slot_bias[slot] if slot < len(self.slot_bias) else 0.0
