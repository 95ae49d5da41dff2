"""Setwise ranking by a heap: each question names the best of a few, and a heap of few levels needs few questions.

Zhuang et al., "A Setwise Approach for Effective and Highly Efficient Zero-shot Ranking with Large Language Models",
arXiv 2310.09497. Unlike the published code: the heap is built level by level, all parents of a level in one round, and
items behind the best `top` are tied, since only that they stand behind was asked.
"""

from __future__ import annotations

from fairpos.plans.base import Plan


def heap(n: int, size: int, top: int) -> Plan:
    """Heapsort for the best few, with windows of a parent and its children; only a window's winner counts.

    Args:
        n: Number of items, at least 1.
        size: Items in a window, at least 2: a parent and `size - 1` children.
        top: How many of the best come in order.
    """
    if n <= size and top >= 1:
        [places] = yield [tuple(range(n))]
        return places
    nodes, children = list(range(n)), size - 1
    level: list[list[int]] = [[0]]
    while level[-1][-1] * children + 1 < n:
        level.append([child for node in level[-1] for child in _children_of(node, children, n)])
    for parents in reversed(level):
        yield from _sift_down(nodes, [node for node in parents if _children_of(node, children, n)], children)
    best: list[int] = []
    while nodes and len(best) < top:
        best.append(nodes[0])
        last = nodes.pop()
        if nodes:
            nodes[0] = last
            yield from _sift_down(nodes, [0], children)
    return (*((item,) for item in best), *((tuple(sorted(nodes)),) if nodes else ()))


def _sift_down(nodes: list[int], places: list[int], children: int) -> Plan:
    """Lets the items at these places of the heap, in separate subtrees, sink to where they belong."""
    while places := [place for place in places if _children_of(place, children, len(nodes))]:
        families = [[place, *_children_of(place, children, len(nodes))] for place in places]
        rankings = yield [tuple(nodes[place] for place in family) for family in families]
        sunk = []
        for family, ranking in zip(families, rankings, strict=True):
            parent, winners = family[0], ranking[0] if ranking else ()
            if not winners or nodes[parent] in winners:  # a tie moves nothing
                continue
            winner = next(place for place in family if nodes[place] in winners)
            nodes[parent], nodes[winner] = nodes[winner], nodes[parent]
            sunk.append(winner)
        places = sunk
    return ()


def _children_of(place: int, children: int, n: int) -> list[int]:
    first = place * children + 1
    return list(range(first, min(first + children, n)))
