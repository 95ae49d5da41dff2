"""A Set-Encoder: all passages in one pass, each of which sees one token of the others.

Schlatt et al., arXiv 2404.06912; checkpoints as lightning-ir saves them. The network is `fairpos.models.set_encoder`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from fairpos.extras import missing_extra
from fairpos.options import Checked, option
from fairpos.relevance.base import canonical, passage, register
from fairpos.types import Segment

_MOST_NAMED = 5  # ids in a note


@register
@dataclass(frozen=True)
class SetEncoder(Checked):
    """The score of a passage beside all others: duplicates and rivals count, their order can't.

    Positions are the same for every passage and the canonical order is the only one that is computed, so every order of
    the passages gives the same bits; the published inference draws random states for sets smaller than in training.

    COST: one forward pass of as many rows as there are passages, each query and passage long; no call of the language
    model. A set is a batch of its own, whatever else runs, and is in memory at once. The model is loaded once a
    process.
    HURTS: texts past the model's lengths (32 tokens of a query, 256 or 512 of a passage) are cut; as a ranker it says
    which. Scores depend on which passages are in the set, so those of two sets can't be compared. Sets larger than in
    training (100) are computed, but nobody has measured them. No checkpoint is among the embedded models: name one.

    Attributes:
        model: A folder or a hub id ("webis/set-encoder-base").
    """

    name: ClassVar[str] = "set_encoder"
    summary: ClassVar[str] = "a cross-encoder whose passages see one token of each other"
    source: ClassVar[str] = "Set-Encoder, arXiv 2404.06912"
    model: str = option("", nature="model")

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require(bool(self.model), "model", "a folder or a hub id of a Set-Encoder")

    def scores(self, query: str, segments: Sequence[Segment]) -> dict[str, float]:
        """The model's outputs; their scale is the model's own.

        Raises:
            MissingDependency: transformers or torch isn't installed.
            ModelUnavailable: the model can't be loaded, or isn't a Set-Encoder.
        """
        return self.scores_and_notes(query, segments)[0]

    def scores_and_notes(self, query: str, segments: Sequence[Segment]) -> tuple[dict[str, float], tuple[str, ...]]:
        """As `scores`, and what a user should know of them: what was cut, a set larger than in training."""
        try:
            from fairpos.models.set_encoder import load_set_encoder
        except ImportError as error:
            raise missing_extra("a Set-Encoder needs torch and transformers", "local", error) from None
        encoder, ordered = load_set_encoder(self.model), canonical(segments)
        found = encoder.read(query, [passage(segment) for segment in ordered])
        notes = []
        if found.query_was_cut:
            notes.append("set_encoder: the query is longer than the model reads, its end was cut")
        if found.cut:
            names = [ordered[index].id for index in found.cut[:_MOST_NAMED]]
            names += ["..."] * (len(found.cut) > _MOST_NAMED)
            notes.append(
                f"set_encoder: {len(found.cut)} of {len(ordered)} passages were cut to their first "
                f"{found.passage_tokens} tokens: {', '.join(names)}"
            )
        if len(ordered) > encoder.depth:
            notes.append(f"set_encoder: {len(ordered)} passages, in training a set had {encoder.depth}")
        scores = {segment.id: score for segment, score in zip(ordered, found.scores, strict=True)}
        return scores, tuple(notes)
