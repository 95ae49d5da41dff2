"""Placements: segments read once, looked at in many orders, which vote. fairpos's own; there is no paper.

What makes a reader biased is mostly where the end of the prompt finds a segment; how it was read itself matters
less. So prefix and segments are read once (or in a few base orders), and only what follows them once for each order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, ClassVar

from fairpos.backends.base import Ballot, Weights
from fairpos.errors import InvalidComposition
from fairpos.layout import Layout
from fairpos.methods.base import AttentionMethod, Method, register
from fairpos.options import option
from fairpos.orders import designs
from fairpos.types import Usage

if TYPE_CHECKING:
    from fairpos.attention.layer import Attention


@register
@dataclass(frozen=True)
class Placements(AttentionMethod):
    """Reads the segments in one order, looks at them in many, and lets these views vote at every token.

    In a view every segment has the position that it would have in that view's order; its keys and values are those of
    the base order. The base comes from the segments' contents, so the result is the same for every input order, to the
    bit. `permutation` reads the segments anew for every order.

    COST: one prefill for each base, and for each view the tokens after the segments; decoding, a batch of `views` rows.
    Keys and values of the segments are held once for each base. Prompts are read one by one.
    HURTS: on SmolLM2-135M answers from five passages lose .06 of accuracy against the mean over plain orders (.15 for
    .21; -.12 to -.01); key-value lists, rankings, options and verdicts can't be told from it (docs/evidence.md). Two
    bases raise the log-probability on key-value lists (docs/voting.md). What the base order does to the
    segments themselves stays: whatever of the bias comes from how they were read (a second base takes off some of it).
    Labels written into segments stay on them, so judging and ranking turn positions alone: put `cross_labels` around it
    for the labels.

    Inside of a method that places the segments (`attn_rank+placements`, `ascending+placements`) the base is the order
    that it gives, and the views are shifts of that one.

    Attributes:
        views: Orders that vote, over all bases; as many as segments show each in every place. More than twice as many
            say nothing new and are not made.
        bases: Orders in which the segments are read: by content, its reverse, then shifts of both.
        weights: Of the views: "entropy" (mean probability, weighted by softmax(-beta * entropy): views that are sure
            count more) or "uniform" (mean log-probability).
        beta: Of the entropy weights.
        stored: Segments are read each by itself behind the prefix, as `set_based` reads them, so that a segment store
            (`fairpos.wrap(..., store=)`) keeps them for any later prompt, in any order and any company. Stored ones
            cost no prefill. What that approximates: segments that were read one behind the other; no segment has seen
            another one, which costs accuracy. There is one base then.
    """

    name: ClassVar[str] = "placements"
    summary: ClassVar[str] = "reads the segments once, looks at them in many orders, which vote at every token"
    order_free: ClassVar[bool] = True
    views: int = option(10, minimum=1, maximum=200)
    bases: int = option(1, minimum=1, maximum=20)
    weights: Weights = "entropy"
    beta: float = option(4.0, minimum=0)
    stored: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require(self.bases == 1 or not self.stored, "bases", "1 with stored=true")
        self.require(self.bases <= self.views, "bases", f"at most views ({self.views})")

    @property
    def pooling(self) -> Ballot:
        """How the views become one distribution."""
        return Ballot(self.weights, self.beta)

    @property
    def reuses_segments(self) -> bool:
        """Only stored ones: else what a segment is depends on those before it in the base."""
        return self.stored

    def in_order_shown(self) -> Method:
        """The same with the order shown for its base, which somebody else has chosen."""
        return PlacementsInOrderShown(**{each.name: getattr(self, each.name) for each in fields(self)})

    def cost(self, layout: Layout, new: int) -> Usage:
        """Prefix and segments once a base, everything else once a view."""
        if len(layout.spans) < 2:
            return super().cost(layout, new)
        design = self._design(layout)
        views = sum(len(each) for _, each in design)
        end = layout.suffix_start
        return Usage(len(design) * end + views * (len(layout) - end), views * new, calls=1)

    def attend(self, layouts: Sequence[Layout]) -> Attention | None:
        """The attention of one call over one prompt; None where it has fewer than 2 segments.

        Raises:
            InvalidComposition: there are several prompts.
        """
        from fairpos.attention.placements import PlacementsAttention

        if len(layouts) > 1:
            raise InvalidComposition(f"placements looks at one prompt in many orders; got {len(layouts)} that vote")
        [layout] = layouts
        if len(layout.spans) < 2:
            return None
        design = self._design(layout)
        bases, views = [base for base, _ in design], [views for _, views in design]
        return PlacementsAttention(layout, bases, views, stored=self.stored)

    def _design(self, layout: Layout) -> list[tuple[tuple[int, ...], list[tuple[int, ...]]]]:
        return designs.placements(len(layout.spans), self.views, self.bases)


@dataclass(frozen=True)
class PlacementsInOrderShown(Placements):
    """`placements` inside of a method that places the segments (`attn_rank`): that order is the base, and view 1.

    Its result depends on the order shown; whether the whole is free of order is the business of the method around it.
    """

    order_free: ClassVar[bool] = False
