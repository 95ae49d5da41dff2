"""Decoding in company without being changed by it: a text is the same to the bit whoever else is decoded.

    prompts -> each read ALONE, no padding -> steps of one token a prompt:
                 projections of all rows in one matrix, of a proven number of rows
                 attention row by row, each in its own cache (`fairpos.attention.apart`)

How many rows a matrix may have is found out on the model, not assumed: kernels choose their order of summation by the
number of rows (MKL's float32 product has one for 1 row, one for 2 and 3, one for 4 and more; with 2 threads 5 to 7 and
9 to 11 rows mix them), by machine, type and threads. `proven_row_counts` compares rows in other places, other company
and other numbers; only numbers whose rows are always the same bits are used, and a smaller batch is filled up to one.

COST: prompts are read one by one, which costs a CPU nothing and a GPU most of what a batch gains there; a text alone is
decoded as the smallest proven number of rows (1 in bfloat16 and 4 in float32 on the machine above: about 1.3 of a plain
step); the attention of a step runs once a prompt.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from transformers import LogitsProcessorList

from fairpos.attention.apart import ApartCache, PlainOwner, can_run_apart
from fairpos.attention.layer import SegmentCache
from fairpos.backends.base import AttentionOwner, Generate
from fairpos.backends.generation import listing_processor, row_of
from fairpos.backends.local_model import LocalModel
from fairpos.backends.rows import EachRowGuided, EachRowSamples, GrowingText
from fairpos.errors import UnsupportedModel
from fairpos.layout import Layout

# Numbers of rows that are tried; as many prompts at most are decoded together.
ROW_COUNTS = (1, 2, 4, 8, 16)


@dataclass
class _Growth:
    """One text as it grows: the cache of its call, what comes next, and how it is chosen."""

    cache: SegmentCache
    row: GrowingText
    choosing: LogitsProcessorList
    ids: Tensor  # (1, tokens so far)
    logits: Tensor  # (V,) of the next token

    def choose_token(self) -> int:
        """The next token; the row takes it."""
        token = int(self.choosing(self.ids, self.logits[None]).argmax(dim=-1))
        self.ids = torch.cat([self.ids, self.ids.new_tensor([[token]])], dim=1)
        self.row.take(token)
        return token


def decode_side_by_side(
    local: LocalModel, calls: Sequence[Generate], layouts: Sequence[Layout], owner: AttentionOwner | None
) -> list[GrowingText]:
    """New text after each prompt; at most `ROW_COUNTS[-1]` prompts.

    Args:
        local: The model; `proven_row_counts` of it aren't empty.
        calls: Without transformers' own configs, processors, criteria and streamers.
        layouts: Their prompts.
        owner: Of their attention.
    """
    with ExitStack() as stack:
        texts = [
            stack.enter_context(_read_alone(local, call, layout, owner))
            for call, layout in zip(calls, layouts, strict=True)
        ]
        counts = proven_row_counts(local)
        growing = list(texts)
        while growing:
            for text in growing:
                text.choose_token()
            growing = [text for text in growing if text.row.finish is None]
            if growing:
                tokens = [int(text.ids[0, -1]) for text in growing]
                logits = _step(local, [text.cache for text in growing], tokens, counts)
                for text, own in zip(growing, logits, strict=True):
                    text.logits = own
        return [text.row for text in texts]


def decodes_side_by_side(local: LocalModel, owner: AttentionOwner | None, layout: Layout) -> bool:
    """Whether this prompt can: the model has a seam to run rows apart through, and a number of rows that is proven.

    It depends on the prompt, the model and the owner alone, so that a prompt is always decoded in the same way.
    """
    attention = None if owner is None else owner.attend([layout.canonical() if owner.order_free else layout])
    if attention is not None and attention.needs_hidden:
        return False  # it looks at the input of all rows
    try:
        with local.attending([layout], PlainOwner()):
            return can_run_apart(local.model) and bool(proven_row_counts(local))
    except UnsupportedModel:
        return False  # of an owner's own attention it is said when it runs


def proven_row_counts(local: LocalModel) -> tuple[int, ...]:
    """Numbers of rows in which a row's bits depend on nothing but itself, the same bits for all; found out once.

    Raises:
        UnsupportedModel: the model's attention can't be replaced.
    """
    state = (torch.get_num_threads(), local.model.dtype, str(local.device))
    if state not in local.row_counts:
        local.row_counts[state] = _prove_row_counts(local)
    return local.row_counts[state]


def _prove_row_counts(local: LocalModel) -> tuple[int, ...]:
    """Rows of one large batch against the same rows in other places, in other company, and in smaller batches."""
    most = ROW_COUNTS[-1]
    vocabulary = int(local.model.config.get_text_config().vocab_size)
    prompts = [Layout(tuple((7 * row + 5 * i + 3) % vocabulary for i in range(3 + row % 3)), ()) for row in range(most)]
    tokens = [(11 * row + 2) % vocabulary for row in range(most)]
    with ExitStack() as stack:
        caches = []
        for prompt in prompts:
            batch, cache = stack.enter_context(local.attending([prompt], PlainOwner()))
            local.prefill(batch, cache)
            assert isinstance(cache, SegmentCache)
            caches.append(cache)

        def rows(places: Sequence[int]) -> Tensor:
            """Logits of these rows, which share a batch of just as many."""
            own = [caches[place] for place in places]
            logits = _step(local, own, [tokens[place] for place in places], (len(places),))
            for cache in own:
                cache.crop(-1)
            return logits

        whole = rows(range(most))

        def agrees(places: Sequence[int]) -> bool:
            return torch.equal(rows(places), whole[list(places)])

        backwards = list(reversed(range(most)))
        return tuple(
            count
            for count in ROW_COUNTS
            if agrees(backwards[:count]) and agrees([(3 * place + 1) % most for place in range(count)])
        )


@contextmanager
def _read_alone(local: LocalModel, call: Generate, layout: Layout, owner: AttentionOwner | None) -> Iterator[_Growth]:
    decoding = call.decoding
    held = listing_processor(local, decoding, [call.listing])
    if held is not None:
        decoding = replace(decoding, max_new_tokens=held.longest)
    with ExitStack() as stack:
        enter = stack.enter_context
        batch, cache = enter(local.attending([layout], owner or PlainOwner(), new=decoding.max_new_tokens))
        if not isinstance(cache, SegmentCache):  # the owner's settings change nothing
            batch, cache = enter(local.attending([layout], PlainOwner(), new=decoding.max_new_tokens))
            assert isinstance(cache, SegmentCache)
        logits = local.prefill(batch, cache)[0]
        row = row_of(local, decoding)
        choosing = LogitsProcessorList([] if held is None else [held])
        choosing += [EachRowGuided([row]), EachRowSamples([decoding])]
        yield _Growth(cache, row, choosing, batch.input_ids(local.pad, local.device), logits)


def _step(local: LocalModel, caches: Sequence[SegmentCache], tokens: Sequence[int], counts: Sequence[int]) -> Tensor:
    """Logits (B, V) after one more token for each cache, in a batch filled up to the next of the counts."""
    count = next(count for count in counts if count >= len(caches))
    idle = count - len(caches)
    lengths = [int(cache.get_seq_length()) for cache in caches]
    ids = torch.tensor([[token] for token in (*tokens, *[tokens[-1]] * idle)], device=local.device)
    positions = torch.tensor([[length] for length in (*lengths, *[lengths[-1]] * idle)], device=local.device)
    return local.read(ids, ApartCache(caches), None, positions, keep=1)[: len(caches), -1]
