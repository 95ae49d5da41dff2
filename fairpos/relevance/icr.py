"""In-context re-ranking: what the query's tokens attend to, less what a query without content attends to.

Chen, Gutiérrez and Su, "Attention in Large Language Models Yields Efficient Zero-Shot Re-Rankers", arXiv 2410.02642.
Unlike the published code: segments in the order of their contents, and the whole text after the segments counts as the
query, the end of the chat template included; what that part looks at for its own sake is in both passes and cancels.
With a head profile, only the heads count that were found to look at answers (`fairpos.calibration.heads`), and the
model runs no further than the last layer that has one.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from fairpos.attention.reading import Pairs, Reading
from fairpos.backends.base import AttentionReader, Backend
from fairpos.options import option
from fairpos.prompts import render
from fairpos.relevance.base import register
from fairpos.relevance.head_profile import HeadProfile, loaded_heads
from fairpos.relevance.model_read import Looked, ModelRead
from fairpos.types import Request, Usage

# A query that says nothing: what is attended to under it is attended to whatever is asked.
NO_QUERY = "N/A"


@register
@dataclass(frozen=True)
class InContextRelevance(ModelRead):
    """Attention of the query to each segment's tokens, summed over heads and layers, minus the same for "N/A".

    Tokens below mean - `sigmas` standard deviations of their segment are dropped before the sum.

    COST: one prefill of the segments and two short passes for the two queries; nothing is generated. With a profile all
    of them end at the last layer that has a chosen head.
    HURTS: models too small to attend to what answers a question; the sum favours long segments. Heads that were chosen
    on few lists, or on other kinds of questions, may find less than all of them do.

    Attributes:
        sigmas: How far below its segment's mean a token may lie, in standard deviations.
        profile: The file of chosen heads that `fairpos calibrate icr` wrote; empty: all heads.
    """

    name: ClassVar[str] = "icr"
    summary: ClassVar[str] = "attention of the query, minus that of an empty query"
    source: ClassVar[str] = "in-context re-ranking, arXiv 2410.02642"
    sigmas: float = option(2.0, minimum=0)
    profile: str | HeadProfile = option("", nature="file")

    def on(self, backend: Backend) -> Self:
        """The same source, reading this model, with its profile read.

        Raises:
            UnsupportedBackend: its attention can't be read.
            NotCalibrated, InvalidRequest: the profile can't be used, or is for another model.
        """
        bound = super().on(backend)
        object.__setattr__(bound, "profile", loaded_heads(self.profile, backend))
        return bound

    def _look_at(self, request: Request, reader: AttentionReader) -> Looked:
        asked, empty = read_both(reader, request, self.profile.heads if isinstance(self.profile, HeadProfile) else ())
        tokens = asked.weights.sum(axis=0, dtype=np.float64) - empty.weights.sum(axis=0, dtype=np.float64)
        pieces = np.split(tokens, np.cumsum(asked.lengths)[:-1])
        scores = {id: kept_sum(piece, self.sigmas) for id, piece in zip(request.ids, pieces, strict=True)}
        return Looked(scores, Usage(prompt_tokens=asked.prompt_tokens + empty.prompt_tokens, calls=2))


def read_both(reader: AttentionReader, request: Request, pairs: Pairs = ()) -> tuple[Reading, Reading]:
    """What the query looks at, and what an empty query looks at, in the order of the request's segments."""
    asked, empty = reader.read_attention([render(request), render(replace(request, query=NO_QUERY))], pairs=pairs)
    return asked, empty


def kept_sum(tokens: NDArray[np.float64], sigmas: float) -> float:
    """Sum of the tokens that aren't below mean - sigmas * standard deviation.

    Args:
        tokens: Scores of one segment's tokens, (T,).
        sigmas: At least 0.
    """
    return float(tokens[tokens >= tokens.mean() - sigmas * tokens.std()].sum())
