"""A backend that asks nobody and counts: what a run would cost, before it costs anything."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from fairpos.backends.base import Call, Generate, Reply
from fairpos.errors import InvalidOption
from fairpos.types import Capability, Usage

_CHARACTERS_A_TOKEN = 4  # of English in today's tokenizers; code and other languages take more tokens
_SCORED_TOKENS = 4
_PER = 1e6  # tokens that a price is for


class TokenCounts(Protocol):
    """Whatever counts tokens: a `Usage`, or what one request costs."""

    @property
    def prompt_tokens(self) -> float:
        """Of prompts."""

    @property
    def completion_tokens(self) -> float:
        """New ones."""


@dataclass(frozen=True, slots=True)
class Price:
    """What tokens cost, in any currency.

    Attributes:
        prompt, completion: Per million tokens.
    """

    prompt: float
    completion: float

    @classmethod
    def parse(cls, text: str) -> Price:
        """From "0.15,0.60": a million prompt tokens, a million new ones.

        Raises:
            InvalidOption: something else.
        """
        try:
            prompt, completion = (float(part) for part in text.split(","))
        except ValueError:
            prompt = completion = -1.0
        if not (0 <= prompt < float("inf") and 0 <= completion < float("inf")):
            raise InvalidOption(f"a price is like '0.15,0.60' (a million prompt tokens, a million new), got {text!r}")
        return cls(prompt, completion)

    def of(self, counts: TokenCounts) -> float:
        """What so many tokens cost."""
        return (counts.prompt_tokens * self.prompt + counts.completion_tokens * self.completion) / _PER


class DryRunBackend:
    """Replies at once with something that every method can go on with, and counts calls and tokens.

    Prompt tokens are estimated, 4 characters each; new ones are the most that each call allows. Methods whose later
    calls depend on earlier replies (windows, a stopping rule, a second try) may make more or fewer.

    Args:
        name: Of the model that would be asked.

    Attributes:
        usage: Of all calls so far.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.usage = Usage()

    @property
    def capabilities(self) -> frozenset[Capability]:
        """Generates and scores."""
        return frozenset({"generate", "score"})

    def run(self, calls: Sequence[Call]) -> list[Reply]:
        """Replies that say nothing."""
        replies = [_empty_reply(call) for call in calls]
        self.usage = sum((reply.usage for reply in replies), self.usage)
        return replies


def _empty_reply(call: Call) -> Reply:
    prompts = (call.prompt, *call.voters) if isinstance(call, Generate) else (call.prompt,)
    characters = sum(len(prompt.text) + sum(len(turn.content) for turn in prompt.request.history) for prompt in prompts)
    prompt_tokens = -(-characters // _CHARACTERS_A_TOKEN)
    if isinstance(call, Generate):
        labels = call.listing or call.prompt.labels
        text = " > ".join(f"[{label}]" for label in labels) if call.listing else f"[[{labels[0]}]]" if labels else "-"
        return Reply(text=text, usage=Usage(prompt_tokens, call.decoding.max_new_tokens, len(prompts)), finish="stop")
    # Falling, so that there is a winner; with all of the probability, so that nothing is asked again.
    weights = [1.0 / 2**i for i in range(1, len(call.replies) + 1)]
    return Reply(log_probs=tuple(math.log(w) for w in weights), usage=Usage(prompt_tokens, _SCORED_TOKENS, 1))
