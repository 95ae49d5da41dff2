"""APE: adaptive parallel encoding.

Yang et al., "APE: Faster and Longer Context-Augmented Generation via Adaptive Parallel Encoding", arXiv 2502.05431.
Unlike the published code: any RoPE model and some with learned positions, batches, the log-sum-exp in float32, no
shared instruction repeated in each segment, and a canonical order that makes invariance exact.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from fairpos.layout import Layout
from fairpos.methods.base import AttentionMethod, register
from fairpos.options import option

if TYPE_CHECKING:
    from fairpos.attention.layer import Attention


@register
@dataclass(frozen=True)
class Ape(AttentionMethod):
    """Set-based prompting in which the suffix reads the segments at another temperature and with another weight.

    The result is the same for every order of the segments, to the bit.

    COST: set-based prompting, and scores without a fused kernel for tokens after the segments.
    HURTS: like set-based prompting, small models. `scale` multiplies a log quantity, so it is no neutral knob: where a
    query's scores in the segments are low (log-sum-exp below 0), a scale below 1 gives the segments MORE weight.

    Attributes:
        temperature: Divides scores in the segments; above 0, below 1 sharpens.
        scale: Of the log of the segments' joint weight; at least 0. 1 and temperature 1: set-based prompting.
    """

    name: ClassVar[str] = "ape"
    summary: ClassVar[str] = "reads the segments as set_based does, at another temperature and weight"
    source: ClassVar[str] = "APE, arXiv 2502.05431"
    order_free: ClassVar[bool] = True
    temperature: float = option(0.9, above=0)
    scale: float = option(0.9, minimum=0)

    @property
    def reuses_segments(self) -> bool:
        """Segments don't see each other."""
        return True

    def attend(self, layouts: Sequence[Layout]) -> Attention:
        """The attention of one call over these prompts."""
        from fairpos.attention.ape import ApeAttention
        from fairpos.attention.batch import Batch
        from fairpos.attention.set_based import SetBasedAttention

        if self.temperature == self.scale == 1:
            return SetBasedAttention(Batch(layouts))
        return ApeAttention(Batch(layouts), temperature=self.temperature, scale=self.scale)
