"""PINE: position-invariant inference.

Wang et al., "Eliminating Position Bias of Language Models: A Mechanistic Approach", arXiv 2407.01100. Unlike the
published code: any RoPE model, batches, one copy of the keys, importance scored and sorted in float32, and a canonical
order of the segments, without which two almost equal scores make the result jump.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from fairpos.layout import Layout
from fairpos.methods.base import AttentionMethod, register

if TYPE_CHECKING:
    from fairpos.attention.layer import Attention


@register
@dataclass(frozen=True)
class Pine(AttentionMethod):
    """Segments see each other fully; every query puts the segments that it attends to most nearest to itself.

    The result is the same for every order of the segments, to the bit. One set of segments a prompt.

    COST: a second attention without positions (the importance), and keys rotated once for each query segment and head;
    grows with the number of segments. benchmarks/ has the figures.
    HURTS: on key-value retrieval SmolLM2-135M falls from .25 to .03, and on rankings of five passages by .11 (-.21 to
    .00; docs/evidence.md). Gains are published against one shuffled order; against the mean over orders they shrink
    (RewardBench reasoning: 8.1 to 0.25 points for Llama-3-8B). Labels inside a segment travel with it: a preference for
    a LETTER stays.
    """

    name: ClassVar[str] = "pine"
    summary: ClassVar[str] = "lets every query order the segments by its own attention"
    source: ClassVar[str] = "PINE, arXiv 2407.01100"
    order_free: ClassVar[bool] = True

    def attend(self, layouts: Sequence[Layout]) -> Attention:
        """The attention of one call over these prompts."""
        from fairpos.attention.batch import Batch
        from fairpos.attention.pine import PineAttention

        return PineAttention(Batch(layouts))
