"""What reading a model's own attention gives: how much the question looks at each token of the segments.

Plain numbers in numpy, for local models and for fakes alike; `attention.probe` is what reads.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray


class LayerHead(NamedTuple):
    """One query head of one layer, both counted from 0."""

    layer: int
    head: int


# Heads that are read one by one: these, or every head of every layer; none: heads are summed, layer by layer.
Pairs: TypeAlias = Sequence[LayerHead] | Literal["all"]


@dataclass(frozen=True, slots=True)
class Reading:
    """Where the question looks: attention of the tokens after the segments to each token of the segments.

    Attributes:
        weights: (layers, T), mean over the question's tokens, sum over the heads that were read; where heads were read
            one by one, (pairs, T).
        lengths: Tokens of each segment in the order shown; they sum to T.
        prompt_tokens: Of the whole prompt.
        log_prob: Natural log-probability of the reply that was to be scored, summed over its tokens; None: none was.
        pairs: What the rows of `weights` are, by layer and head, where heads were read one by one; else empty.
    """

    weights: NDArray[np.float32]
    lengths: tuple[int, ...]
    prompt_tokens: int = 0
    log_prob: float | None = None
    pairs: tuple[LayerHead, ...] = ()

    def by_segment(self, *, per_token: bool = False) -> NDArray[np.float64]:
        """Sums (or means) over each segment's tokens, (layers, K)."""
        ends = np.cumsum(self.lengths)
        sums = np.stack(
            [self.weights[:, e - n : e].sum(axis=1, dtype=np.float64) for e, n in zip(ends, self.lengths, strict=True)],
            axis=1,
        )
        return sums / np.asarray(self.lengths) if per_token else sums
