"""Who sees whom among the tokens of a batch of prompts, by groups of tokens that are seen or not seen as a whole.

    rules    of each prompt: tokens of this span see those of these spans, as far as they are stored before them
    groups   the tokens between any two ends of spans; what a span says holds for whole groups
    mask     causal, in the window, and the query's group sees the key's: a few operators, however many groups there are

Every prompt has two more groups: padding, which sees nothing and is not seen, and tokens after the prompt, which see
all. A mask holds B * Lq * Lk numbers in the queries' dtype: 8 MB for a prompt of 2,000 tokens in bfloat16, 0.5 GB for
one of 16,000.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TypeAlias

import torch
from torch import Tensor

from fairpos.attention.segments import visible
from fairpos.attention.window import Window
from fairpos.layout import Span

# A span of a prompt, and the spans that its tokens see.
Rule: TypeAlias = tuple[Span, Sequence[Span]]

_PADDING, _LATER, _FIRST = 0, 1, 2  # numbers of groups: padding, tokens after the prompt, the prompt's first group

# Fused kernels copy a mask at every call whose rows aren't so many numbers apart.
_ALIGNED = 16


@dataclass(frozen=True)
class Groups:
    """The groups of B prompts.

    Attributes:
        member: Group of each token, (B, width).
        sees: Whether the first group sees the second, (B, groups, groups).
    """

    member: Tensor
    sees: Tensor

    @classmethod
    def of(cls, rules: Sequence[Sequence[Rule]], pads: Sequence[int], device: torch.device) -> Groups:
        """Of prompts whose rules' spans cover them, each behind so much padding."""
        tables = [_sight_table(own) for own in rules]
        members = [[_PADDING] * pad + own for (own, _), pad in zip(tables, pads, strict=True)]
        most = max(len(sees) for _, sees in tables)
        sees = [[row + [False] * (most - len(row)) for row in own] for _, own in tables]
        sees = [own + [[False] * most] * (most - len(own)) for own in sees]
        return cls(torch.tensor(members, device=device), torch.tensor(sees, device=device))

    def mask(self, positions: Tensor, n_query: int, window: Window | None, like: Tensor) -> Tensor:
        """Added to scores, (B, 1, Lq, Lk): -inf for what the last Lq of the keys don't see; padding sees itself.

        Args:
            positions: Base positions of all keys, (B, Lk); in which the window counts.
            n_query: Lq.
            window: Of the layer.
            like: Has the dtype of the queries.
        """
        rows, n_key = positions.shape
        after = n_key - self.member.shape[1]
        member = torch.nn.functional.pad(self.member, (0, after), value=_LATER)
        sees = self.sees[torch.arange(rows, device=member.device)[:, None], member[:, n_key - n_query :]]
        seen = sees.gather(2, member[:, None].expand(-1, n_query, -1)) & visible(positions, n_query, window)
        index = torch.arange(n_key, device=member.device)
        return additive(seen | (index == index[n_key - n_query :, None]), like)[:, None]


def additive(seen: Tensor, like: Tensor) -> Tensor:
    """0 where seen (..., Lq, Lk), else -inf: what is added to scores."""
    n_key = seen.shape[-1]
    room = like.new_zeros(*seen.shape[:-1], -(-n_key // _ALIGNED) * _ALIGNED)
    return room[..., :n_key].masked_fill_(~seen, float("-inf"))


def _sight_table(rules: Sequence[Rule]) -> tuple[list[int], list[list[bool]]]:
    """The group of each token, and which groups each group sees."""
    cuts = sorted({edge for span, seen in rules for edge in (*span, *(edge for other in seen for edge in other))})
    member = [_FIRST + number for number, (start, end) in enumerate(pairwise(cuts)) for _ in range(start, end)]
    count = _FIRST + len(cuts) - 1
    sees = [[False] * count for _ in range(count)]
    sees[_LATER] = [group != _PADDING for group in range(count)]
    for (start, end), seen in rules:
        row = [False] * count
        for first, last in seen:
            low, high = (_FIRST + bisect_left(cuts, edge) for edge in (first, last))
            row[low:high] = [True] * (high - low)
        for group in range(_FIRST + bisect_left(cuts, start), _FIRST + bisect_left(cuts, end)):
            sees[group] = row
    return member, sees
