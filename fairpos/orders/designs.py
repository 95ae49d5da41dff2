"""Which orders the views of a request show: designs over the numbers 0..k-1, as pure functions.

An order lists the items as they are shown: `order[slot]` is the item in that slot. The full cycle, k views of `cyclic`,
shows every item once in every slot; voting over views rests on that.
"""

from __future__ import annotations

import itertools
import math
import random

from fairpos.errors import InvalidOption

# All orders of 7 items are 5040 views, more than anyone wants to pay for.
MAX_ALL = 6


def cyclic(k: int, views: int, seed: int) -> list[tuple[int, ...]]:
    """Equally spaced cyclic shifts of one seeded base order; from 4 views up every other one runs backwards.

    With exactly k views it is the full cycle, none of it backwards: every item stands once in every slot. More views
    than items start with full cycles, forwards and backwards in turn, and space the rest.

    Measured on simulated rankers with a U-shaped bias (20 items, benchmarks/designs.py): where bias is most of the
    error, 5 such views are better than 8 random ones (Kendall tau .846 against .834); where noise is, they are better
    than 5 random ones (.792 against .774) but not than 8 (.818).

    Args:
        k: Number of items.
        views: Number of orders wanted.
        seed: Of the base order.

    Raises:
        InvalidOption: there are no items, or no views.
    """
    base = _base_shifts(k, views, random.Random(seed))
    orders: list[tuple[int, ...]] = []
    for cycle in range(math.ceil(views / k)):
        size = min(k, views - cycle * k)
        for v in range(size):
            backwards = cycle % 2 == 1 if size == k or views > k else size >= 4 and v % 2 == 1
            orders.append(_shift_order(base, v * k // size, backwards))
    return orders


def random_orders(k: int, views: int, seed: int) -> list[tuple[int, ...]]:
    """Uniform random orders, drawn independently: the published design, seeded. Arguments as for `cyclic`."""
    draw = random.Random(seed)
    base = _base_shifts(k, views, draw)
    orders = [tuple(base)]
    for _ in range(views - 1):
        draw.shuffle(base)
        orders.append(tuple(base))
    return orders


def latin(k: int, views: int, seed: int) -> list[tuple[int, ...]]:
    """Rows of Latin squares with scrambled columns: every k views show every item once in every slot.

    For comparison: scrambling loses the equal spacing, and with it most of what `cyclic` gains. Arguments as for
    `cyclic`.
    """
    draw = random.Random(seed)
    base = _base_shifts(k, views, draw)
    orders: list[tuple[int, ...]] = []
    while len(orders) < views:
        columns, shifts = list(range(k)), list(range(k))
        draw.shuffle(columns)
        draw.shuffle(shifts)
        square = [_shift_order(base, shift, backwards=False) for shift in shifts]
        orders += [tuple(row[column] for column in columns) for row in square]
    return orders[:views]


def all_orders(k: int) -> list[tuple[int, ...]]:
    """Every order there is, k! of them.

    Raises:
        InvalidOption: more items than `MAX_ALL`, or none.
    """
    if not 1 <= k <= MAX_ALL:
        raise InvalidOption(f"all orders can be asked of 1 to {MAX_ALL} items ({MAX_ALL}! calls), got {k} items")
    return list(itertools.permutations(range(k)))


def placements(k: int, views: int, bases: int) -> list[tuple[tuple[int, ...], list[tuple[int, ...]]]]:
    """Base orders, and for each the orders in which what was read in it is looked at.

    The bases are the order 0..k-1, its reverse, then both shifted by equal parts of a cycle. All views together are
    equally spaced cyclic shifts of 0..k-1; beyond k, of its reverse as well. Neighbouring shifts go to different
    bases, and each base gets as many.

    Args:
        k: Number of items.
        views: Number of views wanted, at least 1; more than 2 * k are not to be had.
        bases: Number of bases, at least 1; more than there are views are not made.

    Returns:
        (base, its views) for each base. The first view of the first base is 0..k-1.
    """
    forwards = list(range(k))
    most = min(views, 2 * k) if k > 2 else min(views, k)  # shifts of two items are their reverses
    bases = min(bases, most)
    count = most - most % bases
    shifts = min(count, k)
    orders = [_shift_order(forwards, v * k // shifts, backwards=False) for v in range(shifts)]
    orders += [_shift_order(forwards, v * k // (count - shifts), backwards=True) for v in range(count - shifts)]
    rounds = -(-bases // 2)
    chosen = [_shift_order(forwards, (b // 2) * k // rounds, backwards=b % 2 == 1) for b in range(bases)]
    return [(base, orders[b::bases]) for b, base in enumerate(chosen)]


def spread(views: int) -> list[int]:
    """The numbers 0..views-1 so that every beginning of the list is spread over them (van der Corput's sequence).

    For methods that may stop early: the first of equally spaced views would else lie side by side.
    """
    bits = max(1, (views - 1).bit_length())
    return sorted(range(views), key=lambda v: int(f"{v:0{bits}b}"[::-1], 2))


def _base_shifts(k: int, views: int, draw: random.Random) -> list[int]:
    if k < 1 or views < 1:
        raise InvalidOption(f"a design needs at least 1 item and 1 view, got {k} items and {views} views")
    base = list(range(k))
    draw.shuffle(base)
    return base


def _shift_order(base: list[int], shift: int, backwards: bool) -> tuple[int, ...]:
    shifted = base[shift:] + base[:shift]
    return tuple(reversed(shifted)) if backwards else tuple(shifted)
