"""What each row of a vote would have written by itself, kept while the rows decode and told when they are done."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from fairpos.votes import Vote, VotedToken, grouped_by_choice


class Tally:
    """Counts a vote, token by token. Nothing leaves the device before `vote` is asked for.

    COST: two passes over (rows, vocabulary) a token; nothing beside the forward pass that made them.
    """

    def __init__(self) -> None:
        self._likeliest: list[Tensor] = []  # by token, (R,)
        self._spread: list[Tensor] = []  # by token, (2,): entropy of the vote, divergence of the rows

    def take(self, log_probs: Tensor, voted: Tensor) -> None:
        """Takes the next token's distributions.

        Args:
            log_probs: Of the rows, normalised, (R, V).
            voted: What became of them, normalised, (V,).
        """
        probabilities = log_probs.exp()
        entropy_of_mean = torch.special.entr(probabilities.mean(dim=0)).sum()
        mean_of_entropies = torch.special.entr(probabilities).sum(dim=-1).mean()
        entropy = torch.special.entr(voted.exp()).sum()
        self._likeliest.append(log_probs.argmax(dim=-1))
        self._spread.append(torch.stack([entropy, (entropy_of_mean - mean_of_entropies).clamp(min=0)]))

    def vote(
        self, orders: Sequence[Sequence[str]], tokens: Sequence[int], tokenizer: PreTrainedTokenizerBase
    ) -> Vote | None:
        """The record; None where there was one row, which has nobody to disagree with.

        Args:
            orders: Segment ids as each row saw them.
            tokens: That were written; what was voted on after the last of them is left out.
            tokenizer: Of the model.
        """
        if len(orders) < 2 or not tokens:
            return None
        likeliest = torch.stack(self._likeliest[: len(tokens)]).tolist()  # (tokens, R)
        spread = torch.stack(self._spread[: len(tokens)]).tolist()
        written = {token for row in likeliest for token in row} | set(tokens)
        texts = {token: str(tokenizer.decode([token])) for token in written}
        return Vote(
            tuple(map(tuple, orders)),
            tuple(
                VotedToken(texts[token], grouped_by_choice(said, texts), entropy, divergence)
                for token, said, (entropy, divergence) in zip(tokens, likeliest, spread, strict=True)
            ),
        )
