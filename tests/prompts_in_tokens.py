"""Random prompts for tiny models: prefix, segments of unequal lengths, suffix."""

import itertools
import random

from fairpos.layout import Layout
from tests.tiny_models import VOCAB


def random_layout(seed: int, lengths: tuple[int, ...] = (9, 5, 7, 6), prefix: int = 4, suffix: int = 6) -> Layout:
    """One set of segments with these lengths."""
    draw = random.Random(seed)
    pieces = [[draw.randrange(VOCAB) for _ in range(n)] for n in (prefix, *lengths, suffix)]
    return joined(pieces)


def joined(pieces: list[list[int]]) -> Layout:
    """prefix, segments, suffix as one layout."""
    ends = list(itertools.accumulate(len(piece) for piece in pieces))
    return Layout.of([t for piece in pieces for t in piece], list(itertools.pairwise(ends[:-1])))


def orders(layout: Layout) -> list[Layout]:
    """The prompt with its segments in every order."""
    ids, spans = list(layout.input_ids), layout.spans
    segments = [ids[start:end] for start, end in spans]
    prefix, suffix = ids[: layout.prefix_end], ids[layout.suffix_start :]
    return [joined([prefix, *order, suffix]) for order in itertools.permutations(segments)]
