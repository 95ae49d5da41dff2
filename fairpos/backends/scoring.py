"""Log-probabilities of given replies after prompts of a local model.

    prompts -> prefill -> first tokens' log-probabilities -> each longer reply continues its prompt's cache, then crops

Prompts that begin alike are read from where they part, where that saves enough.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

import torch
from torch import Tensor
from transformers import Cache

from fairpos.attention.batch import Batch
from fairpos.backends.base import AttentionOwner, Ballot
from fairpos.backends.caches import continued, keeps_all
from fairpos.backends.in_step import orders_shown
from fairpos.backends.local_model import LocalModel
from fairpos.backends.voting import pooled_steps
from fairpos.layout import Layout

# Prompts of so many tokens before their suffix are read in two steps where their bits may not depend on others, so that
# those with the same passages share the first; of a shorter one the second step costs more than 7 %.
_LONG_HEAD = 384

Replies: TypeAlias = Sequence[Sequence[int]]  # to one prompt, in tokens

# Share of a prompt that views must have in common to read it once. Below it, what that saves is lost again: whatever
# goes on from a cache takes a mask, for which the kernel computes the pairs that a causal prompt leaves out.
_SHARED_START = 1 / 3


@dataclass(frozen=True, slots=True)
class Scores:
    """Of the replies to one prompt.

    Attributes:
        log_probs: Of each reply, summed over its tokens.
        greedy: Whether greedy decoding gives it.
        orders: Segment ids as each row saw them that voted; empty where the prompt was read in one row.
        by_order: What each of these rows alone gives the replies, (orders, replies).
    """

    log_probs: tuple[float, ...]
    greedy: tuple[bool, ...]
    orders: tuple[tuple[str, ...], ...] = ()
    by_order: tuple[tuple[float, ...], ...] = ()


def score_side_by_side(
    local: LocalModel, layouts: Sequence[Layout], replies: Sequence[Replies], method: AttentionOwner | None
) -> list[Scores]:
    """Prompts as one batch; one by one where a reply has several tokens, which continue the prompt's cache."""
    if len(layouts) > 1 and any(len(reply) > 1 for each in replies for reply in each):
        return [score_side_by_side(local, [x], [y], method)[0] for x, y in zip(layouts, replies, strict=True)]
    if method is None and len(layouts) > 1:
        start = _common_start(layouts)
        if start >= _SHARED_START * max(map(len, layouts)):
            return score_after_one_head(local, layouts, replies, method, start)
    pooling = None if method is None else method.pooling
    if pooling is not None and len(layouts) > 1:
        return [score_side_by_side(local, [x], [y], method)[0] for x, y in zip(layouts, replies, strict=True)]
    longest = max(len(reply) for each in replies for reply in each)
    scores: dict[int, Scores] = {}
    for numbers in local.runnable_batches(layouts, method, longest):
        with local.attending([layouts[number] for number in numbers], method, new=longest) as (batch, cache):
            first = torch.log_softmax(local.prefill(batch, cache), dim=-1)
            if pooling is not None:
                return [_score_replies(local, batch, cache, first, replies[0], pooling)]
            for number, row in zip(numbers, first, strict=True):
                scores[number] = _score_replies(local, batch, cache, row[None], replies[number])
    return [scores[number] for number in range(len(layouts))]


def score_after_one_head(
    local: LocalModel,
    layouts: Sequence[Layout],
    replies: Sequence[Replies],
    method: AttentionOwner | None,
    start: int | None = None,
    *,
    each_alone: bool = False,
) -> list[Scores]:
    """Prompts that differ only from `start` on (None: in their suffix): everything before it is read once.

    With `each_alone` what comes after is never batched, so that a prompt's bits are those that it has by itself.
    """
    longest = max(len(reply) for each in replies for reply in each)
    if local.frequencies_change(max(map(len, layouts)) + longest):  # with the length: a head is read differently alone
        return [score_side_by_side(local, [x], [y], method)[0] for x, y in zip(layouts, replies, strict=True)]
    start = layouts[0].suffix_start if start is None else start
    ids = layouts[0].input_ids[:start]
    head = Layout(ids, ()) if method is None else replace(layouts[0], input_ids=ids)
    scores = []
    may_batch = method is None and not each_alone and all(len(reply) == 1 for each in replies for reply in each)
    with local.attending([head], method, new=max(map(len, layouts)) - start + longest) as (batch, cache):
        local.prefill(batch, cache)
        if may_batch and keeps_all(cache) and local.pads_exactly():
            logits = _suffix_logits(local, cache, [layout.input_ids[start:] for layout in layouts])
            first = torch.log_softmax(logits, dim=-1)
            return [
                _score_replies(local, batch, cache, row[None], each) for row, each in zip(first, replies, strict=True)
            ]
        for layout, each in zip(layouts, replies, strict=True):
            with continued(cache) as own:
                suffix = torch.tensor([layout.input_ids[start:]] * len(batch.layouts), device=local.device)
                first = torch.log_softmax(local.read(suffix, own, keep=1)[:, -1], dim=-1)
                scores.append(
                    _score_replies(local, batch, own, first, each, None if method is None else method.pooling)
                )
    return scores


def score_apart(
    local: LocalModel, layouts: Sequence[Layout], replies: Sequence[Replies], method: AttentionOwner | None
) -> list[Scores]:
    """Prompts of one beginning, each with the bits that it has alone.

    COST: of a prompt whose beginning nobody else has, the second step: 7 % at `_LONG_HEAD` tokens, less beyond.
    """
    return score_after_one_head(local, layouts, replies, method, each_alone=True)


def reads_head_apart(local: LocalModel, layout: Layout, replies: Replies, method: AttentionOwner | None) -> bool:
    """Whether a prompt is always read in two steps, up to the end of its segments and from there.

    So that others may share the first step, whoever they are. It depends on this prompt and the model alone.
    """
    longest = len(layout) + max(map(len, replies))
    return (
        _LONG_HEAD <= layout.suffix_start < len(layout)
        and not (method is not None and method.needs_whole_prompt)
        and not local.frequencies_change(longest)
    )


def reply_log_probs(
    local: LocalModel, layouts: Sequence[Layout], reply: Sequence[int], method: AttentionOwner | None = None
) -> Tensor:
    """What each prompt expects at every step of one reply: log-probabilities (prompts, tokens of the reply, V).

    Where the attention reads a prompt in several rows, there is one prompt, and these are its rows.
    """
    steps: dict[int, Tensor] = {}
    for numbers in local.runnable_batches(layouts, method, len(reply)):
        with local.attending([layouts[number] for number in numbers], method, new=len(reply)) as (batch, cache):
            logits = local.prefill(batch, cache)[:, None]
            if len(reply) > 1:
                head = torch.tensor([list(reply[:-1])] * len(batch.layouts), device=local.device)
                mask = batch.attention_mask(local.device)
                positions = mask.sum(-1, keepdim=True) + torch.arange(len(reply) - 1, device=local.device)
                mask = torch.cat([mask, mask.new_ones(head.shape)], dim=1)
                logits = torch.cat([logits, local.read(head, cache, mask, positions)], dim=1)
            if method is not None and method.pooling is not None:
                return torch.log_softmax(logits, dim=-1)
            steps |= dict(zip(numbers, torch.log_softmax(logits, dim=-1), strict=True))
    return torch.stack([steps[number] for number in range(len(layouts))])


def vote_score(
    local: LocalModel,
    layouts: Sequence[Layout],
    reply: Sequence[int],
    method: AttentionOwner | None = None,
    ballot: Ballot = Ballot(),
) -> float:
    """Log-probability that the vote gives a reply, summed over its tokens."""
    voted = pooled_steps(reply_log_probs(local, layouts, reply, method), ballot)
    return float(voted.gather(1, torch.tensor(reply, device=voted.device)[:, None]).sum())


def _suffix_logits(local: LocalModel, cache: Cache, suffixes: Sequence[Sequence[int]]) -> Tensor:
    """Next-token logits after each suffix, (B, V), all continuing one prompt's cache in one batch."""
    past = cache.get_seq_length()
    batch = Batch([Layout(tuple(suffix), ()) for suffix in suffixes])
    own = batch.attention_mask(local.device)
    cache.batch_repeat_interleave(len(suffixes))
    mask = torch.cat([own.new_ones(len(suffixes), past), own], dim=1)
    positions = past + (own.cumsum(-1) - 1).clamp(min=0)
    return local.read(batch.input_ids(local.pad, local.device), cache, mask, positions, keep=1)[:, -1]


def _score_replies(
    local: LocalModel, batch: Batch, cache: Cache, first: Tensor, replies: Replies, pooling: Ballot | None = None
) -> Scores:
    """Scores replies to one prompt.

    Args:
        local: The model.
        batch: Of the call.
        cache: Of the prompt.
        first: Log-probabilities of the next token in each row that read the prompt, (rows, V).
        replies: In tokens.
        pooling: How several rows are one at every token; None: there is one.
    """
    log_probs, greedy = [0.0] * len(replies), [False] * len(replies)
    by_row: list[list[float]] = [[] for _ in replies]
    for numbers, steps in _steps_of_heads(local, cache, first, replies):
        after = steps[0] if pooling is None else pooled_steps(steps, pooling)  # (tokens, V)
        for number in numbers:
            tokens = torch.tensor(replies[number], device=after.device)
            log_probs[number] = float(after.gather(1, tokens[:, None]).sum())
            greedy[number] = bool((after.argmax(dim=-1) == tokens).all())
            if len(first) > 1:
                by_row[number] = steps.gather(2, tokens.expand(len(first), -1)[..., None]).sum(dim=(1, 2)).tolist()
    orders = tuple(orders_shown(batch, cache)) if len(first) > 1 else ()
    return Scores(tuple(log_probs), tuple(greedy), orders, tuple(zip(*by_row, strict=True)) if orders else ())


def _steps_of_heads(
    local: LocalModel, cache: Cache, first: Tensor, replies: Replies
) -> Iterator[tuple[list[int], Tensor]]:
    """Numbers of replies that are the same up to their last token, and log-probabilities at each token (rows, n, V)."""
    heads: dict[tuple[int, ...], list[int]] = {}
    for number, reply in enumerate(replies):
        heads.setdefault(tuple(reply[:-1]), []).append(number)
    for head, numbers in heads.items():
        steps = first[:, None]
        if head:
            with continued(cache) as own:
                logits = local.read(torch.tensor([head] * len(first), device=local.device), own)
            steps = torch.cat([steps, torch.log_softmax(logits, dim=-1)], dim=1)
        yield numbers, steps


def _common_start(layouts: Sequence[Layout]) -> int:
    """How many tokens all prompts start with, less than any of them has."""
    first = layouts[0].input_ids
    most = min(map(len, layouts)) - 1
    return next((i for i in range(most) if any(x.input_ids[i] != first[i] for x in layouts[1:])), most)
