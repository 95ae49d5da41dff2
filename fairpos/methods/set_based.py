"""Set-Based Prompting: segments side by side instead of one after the other.

McIlroy-Young et al., "Order-Independence Without Fine Tuning", arXiv 2406.06581. Unlike the published code: any RoPE
model and some with learned positions, batches, several sets, cached decoding, sliding windows, and a canonical order
that makes invariance exact.
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
class SetBased(AttentionMethod):
    """Every segment starts at the same position and none sees another; what follows the segments sees all of them.

    The result is the same for every order of the segments, to the bit.

    COST: less attention than the plain model, no extra pass.
    HURTS: small models, for which shared positions are out of distribution: on key-value retrieval SmolLM2-135M falls
    from .25 to .00, and from .21 to .12 on answers from five passages (docs/evidence.md; an adapter trained for it
    helps: docs/tuning.md). Segments that refer to each other can't be
    related before the suffix.
    """

    name: ClassVar[str] = "set_based"
    summary: ClassVar[str] = "gives all segments the same positions and hides them from each other"
    source: ClassVar[str] = "Set-Based Prompting, arXiv 2406.06581"
    order_free: ClassVar[bool] = True

    @property
    def reuses_segments(self) -> bool:
        """Segments don't see each other."""
        return True

    def attend(self, layouts: Sequence[Layout]) -> Attention:
        """The attention of one call over these prompts."""
        from fairpos.attention.batch import Batch
        from fairpos.attention.set_based import SetBasedAttention

        return SetBasedAttention(Batch(layouts))
