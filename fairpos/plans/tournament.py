"""A tournament in stages, as in TourRank: of every group the better half goes on; points over several tournaments.

Chen et al., "TourRank: Utilizing Large Language Models for Documents Ranking with a Tournament-Inspired Strategy",
arXiv 2406.11678. Unlike the published code: the last group's ranking is read whole instead of being halved further, and
items with equal points are tied instead of keeping the order from before.
"""

from __future__ import annotations

import itertools
import random

from fairpos.plans.base import Places, Plan, Window, deal


def tournament(n: int, size: int, tournaments: int, seed: int) -> Plan:
    """Some tournaments side by side, each over groups of its own.

    An item gets a point for each stage that it survives, and in the last one the share of the others that it beats.

    Args:
        n: Number of items, at least 1.
        size: Items in a group, at least 2.
        tournaments: At least 1; one where all items fit into a group.
        seed: Of the groups; the first tournament deals out the order to begin with.
    """
    draw = random.Random(seed)
    standing = [list(range(n))]
    standing += [draw.sample(range(n), n) for _ in range(tournaments - 1 if n > size else 0)]
    points, ranked = [0.0] * n, set[int]()
    while standing:
        groups = [deal(items, size) for items in standing]
        rankings = yield [group for each in groups for group in each]
        ranked |= {item for places in rankings for group in places for item in group}
        replies = iter(rankings)
        survivors: list[list[int]] = []
        for each in groups:
            if len(each) == 1:
                for item, share in _shares(each[0], next(replies)).items():
                    points[item] += share
                continue
            going_on: list[int] = []
            for group in each:
                places = next(replies)
                better = _better_half(group, places)
                going_on += better
                for item in set(better).intersection(itertools.chain.from_iterable(places)):
                    points[item] += 1
            survivors.append(going_on)
        standing = survivors
    return _by_points(points, ranked)


def _better_half(group: Window, places: Places) -> list[int]:
    """At most half of a group, rounded up; of a tie at the cut, and of what wasn't ranked, those that stand first."""
    ranked = [item for place in places for item in sorted(place, key=group.index)]
    left = [item for item in group if item not in set(ranked)]
    return [*ranked, *left][: max(1, (len(group) + 1) // 2)]


def _shares(group: Window, places: Places) -> dict[int, float]:
    """What share of the others each ranked item beats, half of those that it is tied with."""
    shares, below = dict[int, float](), len(group)
    for place in places:
        below -= len(place)
        shares |= dict.fromkeys(place, (below + (len(place) - 1) / 2) / max(1, len(group) - 1))
    return shares


def _by_points(points: list[float], ranked: set[int]) -> Places:
    found: dict[float, list[int]] = {}
    for item in sorted(ranked):
        found.setdefault(round(points[item], 9), []).append(item)
    return tuple(tuple(found[each]) for each in sorted(found, reverse=True))
