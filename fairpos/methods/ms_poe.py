"""Ms-PoE: multi-scale positional encoding.

Zhang et al., "Found in the Middle: How Language Models Use Long Contexts Better via Plug-and-Play Positional Encoding",
arXiv 2403.04797. Unlike the published code: the most position-aware head gets the smallest ratio, as the paper means it
(the code takes the heads' order for their ranks, so ratios and awareness are hardly related); heads that share keys
share a ratio, without which an angle is no function of the distance; batches and padding; one row of scores and no
tables of factors.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from fairpos.layout import Layout
from fairpos.methods.base import AttentionMethod, register
from fairpos.options import option

if TYPE_CHECKING:
    from fairpos.attention.layer import Attention


@register
@dataclass(frozen=True)
class MsPoe(AttentionMethod):
    """Divides each head's positions by a ratio of its own, so that the middle of a long prompt comes nearer.

    Heads are ranked by how many tokens the prompt's last token attends to without positions; the more, the smaller the
    ratio. The ratios belong to a generation. The order of segments still matters.

    COST: one more row of scores a layer at prefill, rotation per head. With `per_head`, keys are kept and rotated once
    per query head.
    HURTS: key-value retrieval, where it is known to collapse (Gemma-7B 82 to 0, Qwen1.5-7B 80 to 2); short prompts,
    whose loss it raises; small models, to which fractional positions are new.

    Attributes:
        r_min: The smallest ratio, above 0.
        r_max: The largest ratio (never quite reached, as published), at least r_min. Both 1: the plain model.
        first_layer: Layers before this one, counted from 0, stay as they are.
        assignment: "intended", or "published" to reproduce the published code and its figures.
        per_head: A ratio for each query head, with a copy of the keys; False ranks the groups that share keys. With
            "published" and False the keys of a group take the ratio of its first query head, as the code does.
    """

    name: ClassVar[str] = "ms_poe"
    summary: ClassVar[str] = "divides each head's positions by a ratio of its own"
    source: ClassVar[str] = "Ms-PoE, arXiv 2403.04797"
    needs_whole_prompt: ClassVar[bool] = True
    r_min: float = option(1.2, above=0)
    r_max: float = option(1.8, above=0)
    first_layer: int = option(2, minimum=0)
    assignment: Literal["intended", "published"] = "intended"
    per_head: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require(self.r_min <= self.r_max, "r_max", f"a number from r_min ({self.r_min}) on")

    def attend(self, layouts: Sequence[Layout]) -> Attention | None:
        """The attention of one call over these prompts; none with ratio 1."""
        from fairpos.attention.batch import Batch
        from fairpos.attention.ms_poe import MsPoeAttention

        if self.r_min == self.r_max == 1:
            return None
        return MsPoeAttention(
            Batch(layouts),
            r_min=self.r_min,
            r_max=self.r_max,
            first_layer=self.first_layer,
            assignment=self.assignment,
            per_head=self.per_head,
        )
