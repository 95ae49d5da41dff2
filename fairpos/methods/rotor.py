"""RoToR: one global order, turned so that every segment stands last for itself.

Yoon et al., "RoToR: Towards More Reliable Responses for Order-Invariant Inputs", arXiv 2502.08662. Unlike the
published code, which lays the list out from its end (the first of the global order stands nearest to the suffix): the
canonical order, in which the first stands first; any RoPE model, several sets, batches, sliding windows, one copy of
the keys, plain decoding. The published orders by a reranker or by how frequent tokens are aren't here: a relevance
would order passages, and `attn_rank` or `ascending` do that on the plain model.
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
class Rotor(AttentionMethod):
    """Every segment sees all others, in one order by content that is turned so that the segment itself stands last.

    What follows the segments, generated tokens among them, sees them in that order, at plain positions. The result is
    the same for every order of the segments, to the bit.

    COST: as much attention as if every segment came last: at most twice that of the plain model among segments, and
    keys moved once a segment; no importance, unlike PINE, and no copies. Decoding costs nothing more.
    HURTS: the order by content is one order: what stands early or late in it is an accident, fixed for good but not
    removed, and the end of the prompt reads it with the model's own bias. Segments that are read "last" K times over
    can't agree on which came first. On SmolLM2-135M none of five tasks tells it from the mean over orders
    (docs/evidence.md). Labels inside a segment travel with it.
    """

    name: ClassVar[str] = "rotor"
    summary: ClassVar[str] = "lets every segment read the list turned so that it stands last itself"
    source: ClassVar[str] = "RoToR, arXiv 2502.08662"
    order_free: ClassVar[bool] = True

    def attend(self, layouts: Sequence[Layout]) -> Attention:
        """The attention of one call over these prompts."""
        from fairpos.attention.batch import Batch
        from fairpos.attention.rotor import RotorAttention

        return RotorAttention(Batch(layouts))
