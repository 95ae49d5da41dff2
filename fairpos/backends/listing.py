"""Decoding held to a list of labels, `[2] > [1] > [3]`: every label once, in the order that the model prefers."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from transformers import LogitsProcessor, PreTrainedTokenizerBase

from fairpos.tokenizing import continuation


class HeldToListing(LogitsProcessor):  # type: ignore[misc]
    """Leaves each prompt only the tokens that go on with such a list; signs between the labels are forced.

    It has no state but the prompts' width: what may follow is read from the tokens so far, so it holds for beams and
    several sequences per prompt too.

    COST: the signs are decoded token by token as well, about 5 steps a label.

    Args:
        labels: Of each prompt of the batch, at least 1.
        tokenizer: The model's.
        end: The token that ends a text.
    """

    def __init__(self, labels: Sequence[Sequence[str]], tokenizer: PreTrainedTokenizerBase, end: int) -> None:
        self._open, self._between, self._close = (continuation(t, tokenizer) for t in ("[", "] > [", "]"))
        spelled = {label: continuation(label, tokenizer) for each in labels for label in each}
        self._labels = [[spelled[label] for label in each] for each in labels]
        self._end = end
        self._width: int | None = None

    @property
    def tokens(self) -> list[int]:
        """All that a list may consist of."""
        parts = [self._open, self._between, self._close, *(label for each in self._labels for label in each)]
        return [self._end, *(token for part in parts for token in part)]

    @property
    def longest(self) -> int:
        """Tokens of the longest list, its end included."""
        signs = len(self._open) + len(self._close) + 1
        return max(signs + sum(map(len, each)) + (len(each) - 1) * len(self._between) for each in self._labels)

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Scores (B, V) with everything else at -inf."""
        if self._width is None:
            self._width = input_ids.shape[1]
        per_prompt = input_ids.shape[0] // len(self._labels)
        held = torch.full_like(scores, -torch.inf)
        for row, tokens in enumerate(input_ids[:, self._width :].tolist()):
            allowed = sorted(self.following(self._labels[row // per_prompt], tokens))
            held[row, allowed] = scores[row, allowed]
            if not torch.isfinite(held[row]).any():  # another processor forbade them all
                held[row, allowed] = 0.0
        return held

    def following(self, labels: Sequence[Sequence[int]], tokens: Sequence[int]) -> set[int]:
        """Tokens that may follow `tokens`, for labels in tokens."""
        left = list(labels)
        signs = self._open
        place = 0
        while True:
            for sign in signs:
                if place == len(tokens):
                    return {sign}
                place += 1
            if not left:
                return {self._end}
            signs = self._between if len(left) > 1 else self._close
            depth, begun = 0, left
            while True:  # down the tree of the labels' spellings
                longer = [label for label in begun if len(label) > depth]
                whole = [label for label in begun if len(label) == depth]
                if place == len(tokens):
                    return {label[depth] for label in longer} | ({signs[0]} if whole else set())
                further = [label for label in longer if label[depth] == tokens[place]]
                if not further:
                    left = [label for label in left if label != whole[0]]
                    break
                begun, depth, place = further, depth + 1, place + 1
