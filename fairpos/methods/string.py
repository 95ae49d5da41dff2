"""STRING: shifted rotary positions.

An et al., "Why Does the Effective Context Length of LLMs Fall Short?", arXiv 2410.18745. Unlike the published code: the
key at distance S is counted once (the code's prefill counts it twice, which moves logits by up to 0.16), and scores are
not multiplied by 1.143 unless `attention_factor` says so; batches, padding, sliding windows.
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
class String(AttentionMethod):
    """Shows keys further back than S tokens at distances that are frequent in training: d becomes d - S + W.

    Prompts of up to S tokens stay as they are. The order of segments still matters.

    COST: nothing up to S tokens; beyond, each layer's keys and values written once more, and some masked pairs.
    HURTS: little is known below contexts of tens of thousands of tokens, for which it is made; tokens S - W apart are
    told apart by nothing but what they say.

    Attributes:
        S: Distance in tokens from which on positions are shifted, at least 1. None: 0.33 times the model's context.
        W: Distance in tokens that S itself becomes, at least 0. W = S: the plain model.
        attention_factor: Multiplies the rotated part of queries and of keys, at every length; 1 changes nothing, the
            published code has 0.1 ln 2 + 1 = 1.069.
    """

    name: ClassVar[str] = "string"
    summary: ClassVar[str] = "shortens far distances to those that were frequent in training"
    source: ClassVar[str] = "STRING, arXiv 2410.18745"
    S: int | None = option(None, minimum=1)
    W: int = option(128, minimum=0)
    attention_factor: float = option(1.0, above=0)

    def attend(self, layouts: Sequence[Layout]) -> Attention | None:
        """The attention of one call over these prompts; none with S = W and factor 1."""
        from fairpos.attention.batch import Batch
        from fairpos.attention.string import StringAttention

        if self.S == self.W and self.attention_factor == 1:
            return None
        return StringAttention(Batch(layouts), S=self.S, W=self.W, attention_factor=self.attention_factor)
