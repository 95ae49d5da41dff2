"""What a plan is: a generator over item numbers that knows nothing of segments, prompts or models.

A plan yields ROUNDS: lists of windows, each a few item numbers in the order in which they shall be shown, that don't
need each other's rankings. It receives the windows' rankings in their order, best first, tied items in one group; what
a window left out is in no group, and a window that gave nothing is (). It returns the places of all items of which it
knows anything. Items are numbered 0 to n - 1 in the order to begin with.

Every plan ends, whatever comes back.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from typing import TypeAlias, TypeVar

Window: TypeAlias = tuple[int, ...]
Places: TypeAlias = tuple[tuple[int, ...], ...]  # best first; the items of a group are tied
Plan: TypeAlias = Generator[list[Window], list[Places], Places]

Wanted = TypeVar("Wanted")
Received = TypeVar("Received")


def follow(
    plan: Plan, ask: Callable[[list[Window]], Generator[Wanted, Received, list[Places]]]
) -> Generator[Wanted, Received, tuple[Places, int]]:
    """Follows a plan to its end: the places that it returns, and in how many rounds.

    Args:
        plan: As it was made.
        ask: Ranks the windows of a round, in a generator that yields what it wants done.
    """
    rounds, windows = 1, next(plan)
    while True:
        found = yield from ask(windows)
        try:
            windows = plan.send(found)
        except StopIteration as stop:
            return stop.value, rounds
        rounds += 1


def deal(items: Sequence[int], size: int) -> list[Window]:
    """Items dealt out like cards to as few windows of at most `size` as hold them, so that their sizes are even."""
    count = -(-len(items) // size)
    return [tuple(items[w::count]) for w in range(count)]
