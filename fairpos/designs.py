"""Which orders the views of a request show: designs over the numbers 0..k-1."""

from __future__ import annotations

import random

from fairpos.errors import InvalidOption


def cyclic(k: int, views: int, seed: int) -> list[tuple[int, ...]]:
    """Equally spaced cyclic shifts of one seeded base order; from 4 views up every other one runs backwards.

    With as many views as items it is the full cycle instead: every item stands once in every slot.

    Args:
        k: Number of items.
        views: Number of orders wanted; more than k repeat the cycle, forwards and backwards in turn.
        seed: Of the base order.
    """
    if k < 1 or views < 1:
        raise InvalidOption(f"a design needs at least 1 item and 1 view, got {k} items and {views} views")
    base = list(range(k))
    random.Random(seed).shuffle(base)
    if views == k or views > 2 * k:
        turns = [(v % k, (v // k) % 2 == 1) for v in range(views)]
    else:
        turns = [(round(v * k / views), views >= 4 and v % 2 == 1) for v in range(views)]
    return [tuple(_turned(base, shift, backwards)) for shift, backwards in turns]


def _turned(base: list[int], shift: int, backwards: bool) -> list[int]:
    turned = base[shift:] + base[:shift]
    return turned[::-1] if backwards else turned
