"""Graph-KV (arXiv 2506.07334): segments are encoded alone, then once more while seeing the segments they depend on.

Stored as prefix | every segment | every target again | suffix. First copies are as in Set-Based Prompting: they start
after the prefix and see it and themselves. A target's second copy starts after the longest first copy and sees the
prefix, the first copies of its sources, and itself. The suffix starts after the longest second copy and sees all.
`sources` maps each target to its sources, by segment number; the default makes every segment a source of every segment,
itself included. Without targets this is Set-Based Prompting. Decoding equals a prefill with the token appended.
"""

import torch
from torch import Tensor
from transformers import PreTrainedModel

from . import runner

Spans = list[tuple[int, int]]


def next_token_logits(
    model: PreTrainedModel, ids: list[int], spans: Spans, sources: dict[int, list[int]] | None = None
) -> Tensor:
    """Logits (V,) after the last token."""
    stored, positions, visible = layout(ids, spans, sources)

    def attend(layer: runner.Layer, x: Tensor) -> Tensor:
        return layer.attention(*layer.project(x), positions, positions, visible)

    return runner.run(model, stored, attend, positions)[-1]


def generate_ids(
    model: PreTrainedModel, ids: list[int], spans: Spans, steps: int, sources: dict[int, list[int]] | None = None
) -> list[int]:
    """Greedy tokens."""
    return runner.greedy(lambda longer: next_token_logits(model, longer, spans, sources), ids, steps)


def layout(
    ids: list[int], spans: Spans, sources: dict[int, list[int]] | None = None
) -> tuple[list[int], Tensor, Tensor]:
    """The stored tokens (n,), their positions (n,) and the mask (n, n), True where query t sees key x."""
    everyone = list(range(len(spans)))
    sources = dict.fromkeys(everyone, everyone) if sources is None else sources
    start, lengths = spans[0][0], [last - first for first, last in spans]
    second_start = start + max(lengths)
    suffix_start = second_start + max((lengths[j] for j in sources), default=0)
    stored: list[int] = []
    positions: list[int] = []
    seen: list[list[int]] = []  # the keys that each token sees

    def store(tokens: list[int], first_position: int, sees: list[int]) -> list[int]:
        """Append tokens that see `sees` and, causally, themselves; their indices in storage."""
        own = list(range(len(stored), len(stored) + len(tokens)))
        stored.extend(tokens)
        positions.extend(range(first_position, first_position + len(tokens)))
        seen.extend(sees + own[: i + 1] for i in range(len(tokens)))
        return own

    prefix = store(ids[:start], 0, [])
    copies = [store(ids[slice(*span)], start, prefix) for span in spans]
    for target, its_sources in sources.items():
        store(ids[slice(*spans[target])], second_start, prefix + [x for j in its_sources for x in copies[j]])
    store(ids[spans[-1][1] :], suffix_start, list(range(len(stored))))

    visible = torch.zeros(len(stored), len(stored), dtype=torch.bool)
    for token, keys in enumerate(seen):
        visible[token, keys] = True
    return stored, torch.tensor(positions), visible
