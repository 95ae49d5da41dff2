"""BlitzRank's plan: every window of k tells k (k - 1) / 2 pairs apart, and what follows from them is never asked.

Agrawal et al., "BlitzRank: Principled Zero-shot Ranking Agents with Tournament Graphs", arXiv 2602.05448. Whoever
stands above another in a window has an edge to it; two items that reach each other, through whatever cycle, can't be
told apart and are tied. An item is settled when its relation to all others is known.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from fairpos.plans.base import Places, Plan, Window

Cycles: TypeAlias = Literal["tie", "wins"]

# An item that so many windows left out is not asked about again.
_MOST_OMISSIONS = 2


def blitz(n: int, size: int, top: int, cycles: Cycles = "tie") -> Plan:
    """One window after the other until the best `top` are settled.

    The next window holds one of each tied group that isn't settled, fewest known losses first; of equal ones that with
    the fewest known wins (who wasn't seen yet comes before winners), then the earlier in the order to begin with. Where
    all of its pairs are known already, the first of them meets those that its relation to isn't known.

    Args:
        n: Number of items, at least 1.
        size: Items in a window, at least 2.
        top: How many of the best shall be settled; n or more: all.
        cycles: What items that reach each other are: a "tie", or in the order of "wins" among them.
    """
    known = TournamentGraph(n)
    window: Window = tuple(range(min(size, n)))
    while window:
        [places] = yield [window]
        known.add_window(window, places)
        window = known.next_window(size, min(top, n))
    return known.places(cycles)


class TournamentGraph:
    """Who stands above whom, with all that follows.

    Attributes:
        above: (n, n), whether item i is known to reach item j by a chain of windows; nothing reaches itself but through
            a cycle.
    """

    def __init__(self, n: int) -> None:
        self.above: NDArray[np.bool_] = np.zeros((n, n), dtype=bool)
        self._wins = np.zeros((n, n), dtype=int)  # windows that put item i above item j
        self._omissions = np.zeros(n, dtype=int)
        self._ranked = np.zeros(n, dtype=bool)

    def add_window(self, window: Window, places: Places) -> None:
        """What a window says. Items that it ties reach each other."""
        for number, group in enumerate(places):
            for item in group:
                self._ranked[item] = True
                for lower in places[number + 1 :]:
                    self._wins[item, lower] += 1
                    self._add_edges(item, lower)
                self._add_edges(item, tuple(other for other in group if other != item))
        ranked = {item for group in places for item in group}
        self._omissions[[item for item in window if item not in ranked]] += 1

    def next_window(self, size: int, top: int) -> Window:
        """The items to be ranked next; empty when the best `top` are settled, or nobody is left who can be asked."""
        playing = self._omissions < _MOST_OMISSIONS
        unknown: NDArray[np.bool_] = np.logical_and.outer(playing, playing)
        unknown &= ~np.logical_or(self.above, self.above.T)
        np.fill_diagonal(unknown, val=False)
        settled: NDArray[np.bool_] = np.logical_not(unknown.any(axis=1))
        order = [item for item in self._by_losses(most_wins_first=False) if playing[item]]
        if all(settled[item] for item in order[:top]):
            return ()
        chosen: list[int] = []
        for item in order:
            if len(chosen) < size and not settled[item] and not self._tied_with(item)[chosen].any():
                chosen.append(item)
        window = tuple(chosen)
        if not unknown[np.ix_(window, window)].any():
            first = window[0]
            window = (first, *(item for item in order if unknown[first, item]))[:size]
        return window

    def places(self, cycles: Cycles = "tie") -> Places:
        """All items that some window ranked: by known losses, then by known wins; those that a cycle joins are tied.

        With cycles="wins" those stand by the share that they won of the comparisons among them, and only equal ones are
        tied.
        """
        groups: dict[int, list[int]] = {}
        for item in self._by_losses(most_wins_first=True):
            if self._ranked[item]:
                leader = next((other for other in groups if self._tied_with(item)[other]), item)
                groups.setdefault(leader, []).append(item)
        if cycles == "tie":
            return tuple(tuple(sorted(group)) for group in groups.values())
        return tuple(tuple(part) for group in groups.values() for part in self._by_share_won(sorted(group)))

    def _add_edges(self, item: int, lower: Window) -> None:
        """An edge to each of these items, and to all that they reach, from the item and all that reach it."""
        missing = [other for other in lower if not self.above[item, other]]
        if missing:
            reached: NDArray[np.bool_] = np.logical_or.reduce(self.above[missing])
            reached[missing] = True
            from_here = self.above[:, item].copy()
            from_here[item] = True
            self.above = np.logical_or(self.above, np.logical_and.outer(from_here, reached))

    def _by_share_won(self, group: list[int]) -> list[list[int]]:
        """Items by the share won of the comparisons with others of the group; equal ones together."""
        wins = self._wins[np.ix_(group, group)]
        won, compared = wins.sum(axis=1), (wins + wins.T).sum(axis=1)
        shares = np.divide(won, compared, out=np.full(len(group), 0.5), where=compared > 0)
        parts: dict[float, list[int]] = {}
        for item, share in zip(group, shares.tolist(), strict=True):
            parts.setdefault(share, []).append(item)
        return [parts[share] for share in sorted(parts, reverse=True)]

    def _tied_with(self, item: int) -> NDArray[np.bool_]:
        """(n,), whether the item and each other one reach each other."""
        found: NDArray[np.bool_] = np.logical_and(self.above[item], self.above[:, item])
        return found

    def _by_losses(self, *, most_wins_first: bool) -> list[int]:
        """Items by known losses outside of their cycle, fewest first, then by known wins, then by number."""
        one_way = np.logical_and(self.above, ~self.above.T)
        losses, wins = one_way.sum(axis=0), one_way.sum(axis=1)
        sign = -1 if most_wins_first else 1
        return sorted(range(len(losses)), key=lambda item: (losses[item], sign * wins[item], item))
