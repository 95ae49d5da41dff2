"""Graph-KV: segments as the nodes of a graph.

Wang et al., "Graph-KV: Breaking Sequence via Injecting Structural Biases into Large Language Models", arXiv 2506.07334.
Unlike the published code for passages, which lays the sources out one after the other: all sources share one range of
positions (as its code for citation graphs does), so the order of the segments plays no part.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

from fairpos.errors import InvalidOption, InvalidRequest
from fairpos.layout import Layout
from fairpos.methods.base import AttentionMethod, register
from fairpos.options import option
from fairpos.types import Request

if TYPE_CHECKING:
    from fairpos.attention.graph_kv import Graph
    from fairpos.attention.layer import Attention
    from fairpos.backends.base import Backend


@register
@dataclass(frozen=True)
class GraphKV(AttentionMethod):
    """Every segment is read alone; then every target once more, seeing its sources; what follows sees both readings.

    By default every segment is a source of every segment. Where segments of a request have `links`, those are the
    edges: a segment that links to others is a target of theirs. The result is the same for every order of the segments,
    to the bit.

    COST: targets are read twice, the second time with their sources: with the default about twice the tokens and, over
    the segments, the attention of an encoder. Positions reach to the longest segment twice, tokens in the cache double.
    HURTS: like set-based prompting, small models, to which shared positions are new; every segment appears twice.

    Attributes:
        top: Only so many segments, the best by their scores, are sources (of all); 0: none, which is set-based
            prompting. None: no limit.
        edges: "source>target;source>target" by segment id, for every request; links of the request come first.
    """

    name: ClassVar[str] = "graph_kv"
    summary: ClassVar[str] = "reads each segment again, together with the segments that it depends on"
    source: ClassVar[str] = "Graph-KV, arXiv 2506.07334"
    order_free: ClassVar[bool] = True
    top: int | None = option(None, minimum=0)
    edges: str = ""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require(self.top is None or not self.edges, "edges", "empty where top is given")
        self._read_edges()

    def arrange(self, request: Request, backend: Backend) -> list[Request]:
        """Turns `top` into links.

        Raises:
            InvalidRequest: a segment has no score to choose the best by.
        """
        if not self.top or any(segment.links is not None for segment in request.segments):
            return [request]
        unscored = [segment.id for segment in request.segments if segment.score is None]
        if unscored:
            raise InvalidRequest(
                f"graph_kv: top={self.top} takes the segments with the best scores; got none for {', '.join(unscored)}"
            )
        ranked = sorted(request.canonical().segments, key=lambda segment: -(segment.score or 0))
        best = tuple(segment.id for segment in ranked[: self.top])
        return [replace(request, segments=tuple(replace(segment, links=best) for segment in request.segments))]

    def attend(self, layouts: Sequence[Layout]) -> Attention:
        """The attention of one call over these prompts."""
        from fairpos.attention.graph_kv import GraphKVAttention

        return GraphKVAttention(layouts, [self._graph_of(layout) for layout in layouts])

    def _graph_of(self, layout: Layout) -> Graph | None:
        """Targets to sources by number in the layout; None: everything is a source of everything."""
        number = {id: i for i, id in enumerate(layout.ids)}
        if layout.links:
            found = {i: {number[link] for link in links} for i, links in enumerate(layout.links) if links}
        elif self.top == 0:
            found = {}
        elif self.top is not None:
            raise InvalidRequest(f"graph_kv: top={self.top} needs scores, which a prompt in tokens has not; use edges")
        elif self.edges:
            found = {}
            for a, b in self._read_edges():
                for id in (a, b):
                    if id not in number:
                        raise InvalidRequest(
                            f"graph_kv: edge {a}>{b} names segment {id!r}; there are {', '.join(sorted(number))}"
                        )
                found.setdefault(number[b], set()).add(number[a])
        else:
            return None
        set_of = [k for k, members in enumerate(layout.sets) for _ in members]
        for target, sources in found.items():
            for source in sources:
                if set_of[source] != set_of[target]:
                    raise InvalidRequest(
                        f"graph_kv: segments {layout.ids[source]!r} and {layout.ids[target]!r} are in different sets; "
                        "edges join members of one set"
                    )
        return {target: sorted(sources) for target, sources in found.items()}

    def _read_edges(self) -> list[tuple[str, str]]:
        pairs = []
        for edge in filter(None, (part.strip() for part in self.edges.split(";"))):
            source, sign, target = (part.strip() for part in edge.partition(">"))
            if not (sign and source and target):
                raise InvalidOption(f"graph_kv: edges must be source>target;..., got {edge!r}")
            pairs.append((source, target))
        return pairs
