"""Many replies to one prompt in one forward pass: each continues the prompt as if the others weren't there.

    prompt | reply 1        every reply starts at the position after the prompt,
           | reply 2        sees the prompt and itself,
           | reply 3        and nothing of the others

The layout of Uni-Encoder (arXiv 2106.01263), on any causal model: it is what `SetBasedAttention` computes, with replies
in the place of segments. A reply's log-probability is that of a pass over the prompt and this reply alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from fairpos.attention.batch import Batch
from fairpos.attention.cache import kept_in
from fairpos.attention.seam import seam_of
from fairpos.attention.set_based import SetBasedAttention
from fairpos.backends.base import AttentionOwner
from fairpos.backends.local_model import LocalModel
from fairpos.backends.logits import finite_logits
from fairpos.backends.scoring import Replies, Scores, score_side_by_side
from fairpos.errors import UnsupportedModel
from fairpos.layout import Layout

# Tokens of replies in one pass, at most (one reply may be longer): each has a distribution over the vocabulary.
_MOST_TOKENS = 2048


def score_in_branches(
    local: LocalModel, layouts: Sequence[Layout], replies: Sequence[Replies], method: AttentionOwner | None
) -> list[Scores]:
    """Log-probability of each reply after its prompt, and whether greedy decoding gives it.

    COST: the prompt once for some thousand tokens of replies, and the replies. A model whose attention can't be
    replaced exactly reads the replies one after the other, behind the prompt that it read once.

    Args:
        local: The model.
        layouts: The prompts.
        replies: Several for each prompt, in tokens.
        method: None; a method that owns the attention says itself who sees whom, and gets the other way.
    """
    found = []
    for layout, each in zip(layouts, replies, strict=True):
        if method is not None or len(each) < 2 or not all(each):
            found += score_side_by_side(local, [layout], [each], method)
            continue
        local.check_prompt(layout, max(map(len, each)))
        try:
            parts = [_score_branches(local, layout, some) for some in _portions(each)]
        except UnsupportedModel:
            found += score_side_by_side(local, [layout], [each], method)
            continue
        found.append(
            Scores(tuple(x for part in parts for x in part.log_probs), tuple(x for part in parts for x in part.greedy))
        )
    return found


def branch_layout(layout: Layout, replies: Replies) -> Layout:
    """The prompt as plain tokens, followed by the replies as one set."""
    ids = list(layout.input_ids)
    spans = []
    for reply in replies:
        spans.append((len(ids), len(ids) + len(reply)))
        ids += reply
    return replace(layout, input_ids=tuple(ids), sets=(tuple(spans),), ids=tuple(map(str, range(len(spans)))), links=())


def _score_branches(local: LocalModel, layout: Layout, replies: Replies) -> Scores:
    branches = branch_layout(layout, replies)
    end = len(layout)
    with torch.no_grad(), seam_of(local.model).call(SetBasedAttention(Batch([branches])), "set_based") as cache:
        ids = torch.tensor([branches.input_ids], device=local.device)
        logits = local.model(ids, **kept_in(cache), use_cache=True, logits_to_keep=ids.shape[1] - end + 1).logits[0]
    steps = finite_logits(logits)[-(ids.shape[1] - end + 1) :]  # the first one is the prompt's last token's
    log_probs, greedy = [], []
    for (start, stop), reply in zip(branches.spans, replies, strict=True):
        before = torch.cat([steps[:1], steps[start - end + 1 : stop - end]])  # what each token of the reply follows
        found, is_greedy = _followed(before, torch.tensor(reply, device=before.device))
        log_probs.append(found)
        greedy.append(is_greedy)
    return Scores(tuple(log_probs), tuple(greedy))


def _followed(logits: Tensor, tokens: Tensor) -> tuple[float, bool]:
    """Of tokens (L,) after logits (L, V): their log-probability, and whether each is the likeliest."""
    after = torch.log_softmax(logits, dim=-1)
    return float(after.gather(1, tokens[:, None]).sum()), bool((after.argmax(dim=-1) == tokens).all())


def _portions(replies: Replies) -> Iterator[list[Sequence[int]]]:
    """Replies in their order, so many at a time as one pass takes."""
    some: list[Sequence[int]] = []
    for reply in replies:
        if some and sum(map(len, some)) + len(reply) > _MOST_TOKENS:
            yield some
            some = []
        some.append(reply)
    yield some
