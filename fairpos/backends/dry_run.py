"""A backend that asks nobody and counts: what a run would cost, before it costs anything."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

from fairpos.backends.base import Call, Generate, Reply
from fairpos.errors import InvalidOption
from fairpos.types import Capability, Usage

_CHARACTERS_A_TOKEN = 4  # of English in today's tokenizers; code and other languages take more tokens
_SCORED_TOKENS = 4


@dataclass(frozen=True, slots=True)
class Price:
    """What a million tokens cost, in any currency.

    Attributes:
        prompt: Of prompts.
        completion: Of new tokens.
    """

    prompt: float
    completion: float

    @classmethod
    def from_text(cls, text: str) -> Price:
        """A price from "0.15,0.60": a million prompt tokens, a million new ones.

        Raises:
            InvalidOption: something else.
        """
        match = re.fullmatch(r"\s*(\d+(?:\.\d*)?|\.\d+)\s*[,/]\s*(\d+(?:\.\d*)?|\.\d+)\s*", text)
        if match is None:
            raise InvalidOption(
                f"a price is like 0.15,0.60 (a million prompt tokens, a million new ones), got {text!r}"
            )
        return cls(float(match[1]), float(match[2]))

    def of(self, usage: Usage) -> float:
        """What that many tokens cost."""
        return (usage.prompt_tokens * self.prompt + usage.completion_tokens * self.completion) / 1e6


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
