"""Decoding in company without being changed by it: a text is the same to the bit whoever else is decoded.

    prompts -> each read ALONE, no padding -> steps of one token a prompt:
                 projections of all rows in one matrix, of a proven number of rows
                 attention of prompts of one shape in one call, again of a proven number (`fairpos.attention.company`)

How many rows a matrix may have is found out on the model, not assumed: kernels choose their order of summation by the
number of rows (MKL's float32 product has one for 1 row, one for 2 and 3, one for 4 and more; with 2 threads 5 to 7 and
9 to 11 rows mix them), by machine, type and threads. `proven_row_counts` compares rows in other places, other company
and other numbers; only numbers whose rows are always the same bits are used, and a smaller batch is filled up to one.

COST: prompts are read one by one, which costs a CPU nothing and a GPU most of what a batch gains there; a text alone is
decoded as the smallest proven number of rows (2 in bfloat16 and 4 in float32 on the machine above: about 1.3 of a plain
step); keys and values take up to a quarter more room than the prompt's, so that prompts of about one length share their
attention. Attentions that know no such company run once a prompt.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from transformers import LogitsProcessorList

from fairpos.attention.apart import (
    ApartCache,
    OwnAttention,
    PlainOwner,
    Strand,
    can_run_apart,
    joint_cache,
    shape_of,
)
from fairpos.attention.batch import Batch
from fairpos.attention.company import proven_sizes
from fairpos.attention.layer import Attention, SegmentCache
from fairpos.backends.base import AttentionOwner, Generate
from fairpos.backends.generation import listing_processor, row_of
from fairpos.backends.local_model import LocalModel
from fairpos.backends.rows import EachRowGuided, EachRowSamples, GrowingText
from fairpos.errors import UnsupportedModel
from fairpos.layout import Layout

# Numbers of rows that are tried.
ROW_COUNTS = (1, 2, 4, 8, 16)


@dataclass
class _Growth:
    """One text as it grows.

    Attributes:
        cache: Of its call; empty once the text is in company.
        layout: The prompt.
        row: The text.
        choosing: How its next token is chosen.
        ids: Its tokens so far, (1, L).
        logits: Of the next one, (V,).
        stored: Tokens in the cache.
    """

    cache: SegmentCache
    layout: Layout
    row: GrowingText
    choosing: LogitsProcessorList
    ids: Tensor
    logits: Tensor
    stored: int

    def choose_token(self) -> int:
        """The next token; the row takes it."""
        token = int(self.choosing(self.ids, self.logits[None]).argmax(dim=-1))
        self.ids = torch.cat([self.ids, self.ids.new_tensor([[token]])], dim=1)
        self.row.take(token)
        return token


def decode_side_by_side(
    local: LocalModel, calls: Sequence[Generate], layouts: Sequence[Layout], owner: AttentionOwner | None
) -> list[GrowingText]:
    """New text after each prompt; at most as many prompts as the largest of `proven_row_counts` of the model.

    Args:
        local: The model, which has such numbers.
        calls: Without transformers' own configs, processors, criteria and streamers.
        layouts: Their prompts.
        owner: Of their attention.
    """
    with ExitStack() as stack:
        texts = [
            stack.enter_context(_read_alone(local, call, layout, owner))
            for call, layout in zip(calls, layouts, strict=True)
        ]
        growing = _choose_tokens(texts)
        companies = _companies(local, growing, owner)
        while growing:
            strands = [strand for company in companies if (strand := company.strand(growing)) is not None]
            tokens, stored = [int(text.ids[0, -1]) for text in growing], [text.stored for text in growing]
            logits = _step(local, strands, tokens, stored, proven_row_counts(local))
            for text, own in zip(growing, logits, strict=True):
                text.logits, text.stored = own, text.stored + 1
            growing = _choose_tokens(growing)
        return [text.row for text in texts]


def decodes_side_by_side(local: LocalModel, owner: AttentionOwner | None, layout: Layout, new: int) -> bool:
    """Whether this prompt can: the model has a seam to run rows apart through, and a number of rows that is proven.

    It depends on the prompt, what may follow it (`new` tokens), the model and the owner alone, so that a prompt is
    always decoded in the same way.
    """
    if local.frequencies_change(len(layout) + new):
        return False  # nor does the seam serve it
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
        local.row_counts[state] = (1,) if _has_experts(local.model) else _prove_row_counts(local)
    return local.row_counts[state]


def _has_experts(model: torch.nn.Module) -> bool:
    """Whether rows are sent to experts, who get as many at a time as the other rows happen to send them."""
    return any("expert" in f"{name} {type(module).__name__}".lower() for name, module in model.named_modules())


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

        def rows(places: Sequence[int]) -> list[Tensor]:
            """What every module gives for these rows, which share a batch of just as many, and their logits at last."""
            strands = [Strand(caches[place], (row,)) for row, place in enumerate(places)]
            stored = [len(prompts[place]) for place in places]
            with _outputs_of_modules(local.model, len(places)) as outputs:
                logits = _step(local, strands, [tokens[place] for place in places], stored, (len(places),))
            for strand in strands:
                strand.cache.crop(-1)
            return [*outputs, logits]

        whole = rows(range(most))

        def agrees(places: Sequence[int]) -> bool:
            found = rows(places)
            return len(found) == len(whole) and all(
                torch.equal(own, of_all[list(places)]) for own, of_all in zip(found, whole, strict=True)
            )

        return tuple(count for count in ROW_COUNTS if all(map(agrees, _groups_of(count, most))))


def _groups_of(count: int, most: int) -> list[list[int]]:
    """Rows out of so many in groups of a number: from the last back, then mixed; four rows at least stand in them."""
    backwards = list(reversed(range(most)))
    mixed = [(3 * place + 1) % most for place in range(most)]
    groups = max(1, 2 // count)
    return [order[i * count : (i + 1) * count] for order in (backwards, mixed) for i in range(groups)]


@contextmanager
def _outputs_of_modules(model: torch.nn.Module, rows: int) -> Iterator[list[Tensor]]:
    """Gathers what modules without modules inside give for every row, (rows, ...) each, while the model runs.

    Half precision hides most of what another order of summation changes: of one row's logits often no bit is another,
    though some were on the way. What is looked at here is everything that is computed on the way.
    """
    found: list[Tensor] = []

    def keep(_module: torch.nn.Module, _given: object, output: object) -> None:
        if isinstance(output, Tensor) and output.dim() > 1 and output.shape[0] == rows:
            found.append(output.detach().clone())

    leaves = [module for module in model.modules() if next(module.children(), None) is None]
    hooks = [module.register_forward_hook(keep) for module in leaves]
    try:
        yield found
    finally:
        for hook in hooks:
            hook.remove()


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
        ids = batch.input_ids(local.pad, local.device)
        yield _Growth(cache, layout, row, choosing, ids, logits, int(cache.get_seq_length()))


def _choose_tokens(texts: Sequence[_Growth]) -> list[_Growth]:
    """Each text's next token; those that go on."""
    for text in texts:
        text.choose_token()
    return [text for text in texts if text.row.finish is None]


@dataclass(frozen=True)
class _Company:
    """Texts whose attention is one call: the rows of one cache, of which some may run idle."""

    cache: SegmentCache
    texts: Sequence[_Growth]

    def strand(self, growing: Sequence[_Growth]) -> Strand | None:
        """Where the rows are in a pass of those texts that still grow; None where none of its own does."""
        places = {id(text): row for row, text in enumerate(growing)}
        rows = [places.get(id(text)) for text in self.texts]
        idle = len(self.cache.attention.batch.layouts) - len(rows)
        return None if set(rows) == {None} else Strand(self.cache, (*rows, *[None] * idle))


def _companies(local: LocalModel, texts: Sequence[_Growth], owner: AttentionOwner | None) -> list[_Company]:
    """Texts of one shape together, in proven numbers; the others by themselves."""
    found: list[_Company] = []
    shapes: dict[Hashable, list[_Growth]] = {}
    for text in texts:
        shape = shape_of(text.cache)
        if shape is None:
            found.append(_Company(text.cache, [text]))
        else:
            shapes.setdefault(shape, []).append(text)
    for shape, alike in shapes.items():
        sizes = _company_sizes(local, shape, alike, owner) if len(alike) > 1 else (1,)
        for first in range(0, len(alike), sizes[-1]):
            some = alike[first : first + sizes[-1]]
            size = next(size for size in sizes if size >= len(some))
            found.append(_Company(joint_cache([text.cache for text in some], size), some))
    return found


def _company_sizes(
    local: LocalModel, shape: Hashable, texts: Sequence[_Growth], owner: AttentionOwner | None
) -> tuple[int, ...]:
    """Numbers of texts of this shape in which attention gives each the bits that it has alone; found out once."""
    state = (torch.get_num_threads(), local.model.dtype, str(local.device), type(texts[0].cache.attention), shape)
    if state not in local.company_sizes:

        def attend(layout: Layout) -> Attention:
            attention = None if owner is None else owner.attend([layout.canonical() if owner.order_free else layout])
            return attention or OwnAttention(Batch([layout]))

        layouts = [text.layout for text in texts]
        local.company_sizes[state] = proven_sizes(local.model, layouts, attend, ROW_COUNTS)
    return local.company_sizes[state]


def _step(
    local: LocalModel, strands: Sequence[Strand], tokens: Sequence[int], stored: Sequence[int], counts: Sequence[int]
) -> Tensor:
    """Logits (B, V) after one more token for each of B texts, in a batch filled up to the next of the counts.

    Args:
        local: The model.
        strands: Which cache serves which of the texts.
        tokens: The next one of each.
        stored: How many tokens of each are in its cache.
        counts: Numbers of rows to choose from.
    """
    count = next(count for count in counts if count >= len(tokens))
    idle = count - len(tokens)
    ids = torch.tensor([[token] for token in (*tokens, *[tokens[-1]] * idle)], device=local.device)
    positions = torch.tensor([[length] for length in (*stored, *[stored[-1]] * idle)], device=local.device)
    return local.read(ids, ApartCache(strands), None, positions, keep=1)[: len(tokens), -1]
