"""What fits: items chosen, or put into groups, by their sizes alone.

Items are numbered 0 to n - 1; nothing here knows what an item is, or in which unit sizes and room are counted.
"""

from __future__ import annotations

from collections.abc import Sequence


def kept(order: Sequence[int], sizes: Sequence[float], room: float, together: int) -> tuple[int, ...]:
    """The items that are kept: each in turn, unless it no longer fits beside those that were kept before it.

    An item that is too long for the room that is left is passed over, and shorter ones behind it may still be kept.

    Args:
        order: Item numbers, the one to be kept first comes first.
        sizes: Of each item.
        room: For the largest `together` of the kept items.
        together: How many items ever meet in one place, at least 1.

    Returns:
        Item numbers, in this order.
    """
    found: list[int] = []
    for item in order:
        largest = sorted((sizes[each] for each in (*found, item)), reverse=True)[:together]
        if sum(largest) <= room:
            found.append(item)
    return tuple(found)


def in_groups(order: Sequence[int], sizes: Sequence[float], room: float) -> list[tuple[int, ...]]:
    """All items in groups that fit: each group takes the next item as long as there is room for it.

    Two neighbouring groups never fit into one, so that there are fewer than 2 * sum(sizes) / room + 1 of them.

    Args:
        order: Item numbers; the groups are its pieces.
        sizes: Of each item.
        room: For the items of one group; an item larger than that is a group of its own.
    """
    groups: list[list[int]] = []
    used = room
    for item in order:
        if groups and used + sizes[item] <= room:
            groups[-1].append(item)
            used += sizes[item]
        else:
            groups.append([item])
            used = sizes[item]
    return [tuple(group) for group in groups]
