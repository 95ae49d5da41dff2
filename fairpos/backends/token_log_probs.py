"""The log-probability of every token: of those that a local model writes, and of those that a prompt has.

They are of the model's own distribution: before temperature, top_p and grammar, and of the vote where several prompts
vote.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from fairpos.backends.base import StepGuide
from fairpos.backends.local_model import LocalModel
from fairpos.layout import Layout

_AT_ONCE = 256  # tokens whose distributions are held at the same time


@dataclass(frozen=True, slots=True)
class TokenLogProb:
    """One token.

    Attributes:
        token: Its id.
        log_prob: Natural; None for the first token of a prompt, which nothing comes before.
        top: The most probable tokens in its place with theirs, best first.
    """

    token: int
    log_prob: float | None
    top: tuple[tuple[int, float], ...] = ()


class TokenRecorder(StepGuide):
    """Notes the log-probabilities of what is written.

    COST: one softmax over the vocabulary for each token.

    Args:
        top: Alternatives to note for each token, at least 0.
    """

    def __init__(self, top: int = 0) -> None:
        self.top = top
        self.tokens: list[TokenLogProb] = []
        self._next = torch.empty(0)

    @property
    def is_complete(self) -> bool:
        """Never: it only looks on."""
        return False

    def begin(self) -> None:
        """Forgets what was noted of an attempt that failed."""
        self.tokens = []

    def narrow(self, scores: Tensor) -> Tensor:
        """Looks at the scores (V,), and leaves them as they are."""
        self._next = torch.log_softmax(scores.float(), dim=-1)
        return scores

    def take(self, token: int) -> None:
        """Notes the token that was chosen."""
        self.tokens.append(_noted_token(token, self._next, self.top))


def prompt_log_probs(local: LocalModel, tokens: Sequence[int], top: int = 0) -> list[TokenLogProb]:
    """Each token of a prompt, given those before it. Read in pieces, alone, so that no neighbour shows in its bits.

    Raises:
        TooLong: the model can't hold the prompt.
        NonFiniteLogits: see the error.
    """
    layout = Layout.of(tokens, [])
    local.check_prompt(layout, 0)
    ids = torch.tensor([list(tokens)], device=local.device)
    found = [TokenLogProb(int(tokens[0]), None)]
    in_pieces = local.continues_exactly() and not local.frequencies_change(len(tokens))
    piece = _AT_ONCE if in_pieces else len(tokens)
    with local.attending([layout], None) as (_, cache):
        for first in range(0, len(tokens) - 1, piece):
            steps = torch.log_softmax(local.read(ids[:, first : first + piece], cache)[0], dim=-1)  # (piece, V)
            following = tokens[first + 1 : first + 1 + len(steps)]
            found += [_noted_token(int(token), step, top) for token, step in zip(following, steps, strict=False)]
    return found


def _noted_token(token: int, log_probs: Tensor, top: int) -> TokenLogProb:
    best = torch.topk(log_probs, min(top, len(log_probs))) if top else None
    alternatives = [] if best is None else zip(best.indices.tolist(), best.values.tolist(), strict=True)
    return TokenLogProb(token, float(log_probs[token]), tuple(alternatives))
