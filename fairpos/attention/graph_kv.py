"""Segments read once alone and once more with those that they depend on: the attention of Graph-KV.

The second reading stands behind the first, as a second set of segments: prefix | segments | targets again | suffix.
Set-based prompting then gives all positions and all but one rule, which is added here: a target sees of the first set
only its own sources.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from fairpos.attention.batch import Batch
from fairpos.attention.set_based import SetBasedAttention
from fairpos.layout import Layout, Span

# Target to sources, by a segment's number in the layout, from 0.
Graph = Mapping[int, Sequence[int]]


class GraphKVAttention(SetBasedAttention):
    """Set-based prompting over segments and, behind them, the targets' second copies.

    Args:
        layouts: The prompts.
        graphs: Of each prompt, the targets and their sources, within one set; None: every segment is a source of every
            segment in its set, itself included.
    """

    def __init__(self, layouts: Sequence[Layout], graphs: Sequence[Graph | None]) -> None:
        doubled = [second_copies(layout, graph) for layout, graph in zip(layouts, graphs, strict=True)]
        super().__init__(Batch([layout for layout, _ in doubled]))
        # By layout (which the batch keeps alive) and the start of a second copy: the spans of its sources.
        self._sources = {
            (id(layout), start): spans
            for layout, (_, sources) in zip(self.batch.layouts, doubled, strict=True)
            for start, spans in sources.items()
        }

    @property
    def extent(self) -> int:
        """One more than the largest position in the prompts."""
        return max(int(self.positions(layout).max()) + 1 for layout in self.batch.layouts)

    def seen(self, layout: Layout, members: tuple[Span, ...], start: int, end: int) -> tuple[Span, ...]:
        """A second copy sees what stands before the first ones, its sources, and itself."""
        sources = self._sources.get((id(layout), start))
        if sources is None:
            return super().seen(layout, members, start, end)
        return (*sources, (start, end))


def second_copies(layout: Layout, graph: Graph | None) -> tuple[Layout, dict[int, tuple[Span, ...]]]:
    """A prompt with its targets stored again behind their set.

    Returns:
        The longer prompt; and by the start of each second copy, what it sees besides itself.
    """
    tokens = list(layout.input_ids[: layout.prefix_end])
    sets: list[tuple[Span, ...]] = []
    ids: list[str] = []
    sources: dict[int, tuple[Span, ...]] = {}
    number, stored = 0, layout.prefix_end  # the next segment, the next token of the short prompt
    for members in layout.sets:
        tokens += layout.input_ids[stored : members[0][0]]
        stored = members[-1][1]
        before = len(tokens)
        moved = before - members[0][0]
        tokens += layout.input_ids[members[0][0] : stored]
        firsts = [(start + moved, end + moved) for start, end in members]
        names = layout.ids[number : number + len(members)]
        sets.append(tuple(firsts))
        ids += names
        seconds = []
        for target, (start, end) in enumerate(members):
            seen = range(len(members)) if graph is None else [j - number for j in graph.get(number + target, ())]
            if not seen:
                continue
            seconds.append((len(tokens), len(tokens) + end - start))
            sources[len(tokens)] = ((0, before), *(firsts[j] for j in sorted(seen)))
            tokens += layout.input_ids[start:end]
            ids.append(names[target])
        if seconds:
            sets.append(tuple(seconds))
        number += len(members)
    tokens += layout.input_ids[stored:]
    return Layout(tuple(tokens), tuple(sets), tuple(ids)), sources
