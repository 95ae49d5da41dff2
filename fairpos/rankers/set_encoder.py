"""Rank by a Set-Encoder: passages see each other and no order, and no language model is asked.

Schlatt et al., "Set-Encoder: Permutation-Invariant Inter-Passage Attention", arXiv 2404.06912.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from fairpos.backends.resolution import SINGLE
from fairpos.options import Checked, option
from fairpos.rankers.base import Asked, Asking, gathered, register
from fairpos.relevance.set_encoder import SetEncoder
from fairpos.types import Capability, Request, Usage


@register
@dataclass(frozen=True)
class SetEncoderRanker(Checked):
    """Scores of `fairpos.relevance`'s Set-Encoder, with what was cut in `Output.notes`.

    COST: no call of the language model; one forward pass of the encoder over all passages. Views repeat it for nothing.
    HURTS: what was not trained is not known: the published checkpoints read English web passages. Cuts and sets: see
    `fairpos.relevance.set_encoder`.

    Attributes:
        model: A folder or a hub id of a checkpoint as lightning-ir saves it ("webis/set-encoder-base").
    """

    name: ClassVar[str] = "set_encoder"
    summary: ClassVar[str] = "ranks by an encoder whose passages see each other, but no order"
    source: ClassVar[str] = "Set-Encoder, arXiv 2404.06912"
    requires: ClassVar[frozenset[Capability]] = frozenset()
    order_free: ClassVar[bool] = True
    model: str = option("", nature="model")

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require(bool(self.model), "model", "a folder or a hub id of a Set-Encoder")

    def __call__(self, request: Request, asking: Asking) -> Asked:
        """No calls."""
        yield from ()
        scores, notes = SetEncoder(self.model).scores_and_notes(request.query, request.segments)
        return replace(gathered(request, scores, (), Usage(), SINGLE), notes=notes)
