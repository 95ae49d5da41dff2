"""The backend of a transformers model in this process: calls become batches, batches become replies.

calls -> layouts -> `batching` -> `scoring` or `generation` over the `LocalModel` -> replies in the calls' order
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import TypeAlias

from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from fairpos.attention.reading import Pairs, Reading
from fairpos.attention.store import SegmentStore
from fairpos.backends.base import (
    AttentionOwner,
    AttentionReader,
    Backend,
    Ballot,
    BatchInvariance,
    Call,
    CountsTokens,
    Decoding,
    Finish,
    Generate,
    Reply,
    Score,
    batch_invariance_named,
)
from fairpos.backends.batching import (
    AnyCall,
    Placed,
    alike_generations,
    alike_scores,
    by_owner,
    in_turn,
    of_like_length,
    owner_of,
)
from fairpos.backends.branches import score_in_branches
from fairpos.backends.generation import (
    generate_rows,
    generate_tokens,
    held_to_listing,
    listing_processor,
    vote_row,
    vote_tokens,
)
from fairpos.backends.local_model import LocalModel
from fairpos.backends.rows import GrowingText
from fairpos.backends.scoring import (
    Replies,
    Scores,
    reads_head_apart,
    reply_log_probs,
    score_after_one_head,
    score_apart,
    score_side_by_side,
    vote_score,
)
from fairpos.backends.side_by_side import decode_side_by_side, decodes_side_by_side, proven_row_counts
from fairpos.backends.trained import TrainedFor
from fairpos.backends.unwrap import refuse_dropout
from fairpos.layout import Layout
from fairpos.prompts import Prompt
from fairpos.types import Capability, Status, Usage
from fairpos.votes import candidates_vote

Placing: TypeAlias = Iterator[tuple[int, Reply]]
_Scorer: TypeAlias = Callable[
    [LocalModel, Sequence[Layout], Sequence[Replies], AttentionOwner | None], Sequence[Scores]
]


class HFBackend(LocalModel, Backend, AttentionReader, CountsTokens):
    """Runs calls on a causal language model of transformers.

    Args:
        model, tokenizer, store, name, trained_for: See `LocalModel`.
        batch_tokens: Padded prompt tokens of one forward pass, at most (one prompt may be longer).
        batch_invariance: For which calls the reply is the same to the bit whoever else is asked at the same time:
            "order_free": those of methods that don't depend on the order of the segments. "always": all. "never":
            none, the fastest on a GPU. Costs: see `side_by_side`; scored prompts run one by one, and
            share what long ones begin with.

    Raises:
        UnsupportedModel: the model is an encoder-decoder.
        InvalidOption: a batch_invariance that there isn't.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        *,
        batch_tokens: int = 8192,
        store: SegmentStore | None = None,
        name: str | None = None,
        batch_invariance: BatchInvariance = "order_free",
        trained_for: TrainedFor | None = None,
    ) -> None:
        super().__init__(model, tokenizer, store=store, name=name, trained_for=trained_for)
        self.batch_tokens = batch_tokens
        self.batch_invariance = batch_invariance_named(batch_invariance)

    @property
    def capabilities(self) -> frozenset[Capability]:
        """All that there are: a model in this process can be asked, scored, read and made to vote."""
        return frozenset({"generate", "score", "attention", "vote"})

    @property
    def counts_tokens(self) -> bool:
        """A tokenizer is at hand."""
        return True

    def count_tokens(self, prompts: Sequence[Prompt]) -> list[int]:
        """Tokens of each prompt."""
        return [len(self.layout(prompt)) for prompt in prompts]

    def run(self, calls: Sequence[Call]) -> list[Reply]:
        """Runs calls in batches; scored prompts that differ only after their segments share one prefill of the rest."""
        generated: list[Placed[Generate]] = []
        scored: list[Placed[Score]] = []
        for place, call in enumerate(calls):
            self.refuse_other_attention(call.attend)
            layout = self.layout(call.prompt)
            if isinstance(call, Generate):
                generated.append(Placed(place, call, layout))
            else:
                scored.append(Placed(place, call, layout))
        replies = dict(self._generate_replies(generated)) | dict(self._score_replies(scored))
        return [replies[place] for place in range(len(calls))]

    def read_attention(
        self,
        prompts: Sequence[Prompt],
        *,
        heads: Sequence[int] = (),
        pairs: Pairs = (),
        last_only: bool = False,
        replies: Sequence[str] = (),
    ) -> list[Reading]:
        """Where the question of each prompt looks; see `AttentionReader`.

        Raises:
            TooLong, UnsupportedModel, InvalidOption, NonFiniteLogits: see the errors.
        """
        from fairpos.attention.probe import read

        refuse_dropout(self.model)
        self.refuse_other_attention(None)
        layouts = [self.layout(prompt) for prompt in prompts]
        tokens = [self.reply_tokens(reply) for reply in replies]
        for i, layout in enumerate(layouts):
            self.check_prompt(layout, len(tokens[i]) if tokens else 0)
        return read(self.model, layouts, heads=heads, pairs=pairs, last_only=last_only, replies=tokens)

    def generate(
        self, layouts: Sequence[Layout], method: AttentionOwner | None = None, decoding: Decoding = Decoding()
    ) -> list[list[int]]:
        """New tokens after each prompt; see `generation.generate_tokens`."""
        return generate_tokens(self, layouts, method, decoding)

    def vote(
        self,
        layouts: Sequence[Layout],
        method: AttentionOwner | None = None,
        decoding: Decoding = Decoding(),
        ballot: Ballot = Ballot(),
    ) -> list[int]:
        """New tokens that all prompts continue with; see `generation.vote_tokens`."""
        return vote_tokens(self, layouts, method, decoding, ballot).tokens

    def score(
        self, layouts: Sequence[Layout], replies: Sequence[Replies], method: AttentionOwner | None = None
    ) -> list[tuple[tuple[float, ...], tuple[bool, ...]]]:
        """Log-probability of each reply after its prompt, and whether greedy decoding would give it.

        Args:
            layouts: The prompts.
            replies: Several for each prompt, in tokens.
            method: Which may own the attention.
        """
        found = score_side_by_side(self, layouts, replies, method)
        return [(each.log_probs, each.greedy) for each in found]

    def reply_log_probs(
        self, layouts: Sequence[Layout], reply: Sequence[int], method: AttentionOwner | None = None
    ) -> Tensor:
        """What each prompt expects at every step of one reply: log-probabilities (prompts, tokens of the reply, V)."""
        return reply_log_probs(self, layouts, reply, method)

    def vote_score(
        self,
        layouts: Sequence[Layout],
        reply: Sequence[int],
        method: AttentionOwner | None = None,
        ballot: Ballot = Ballot(),
    ) -> float:
        """Log-probability that the vote gives a reply, summed over its tokens."""
        return vote_score(self, layouts, reply, method, ballot)

    def _generate_replies(self, calls: Sequence[Placed[Generate]]) -> Placing:
        company: list[Placed[Generate]] = []
        apart: list[Placed[Generate]] = []
        for placed in calls:
            if placed.call.voters or _reads_in_rows(placed.call.attend):  # its own rows are its only company
                yield placed.place, self._voted_reply(placed)
            elif self._is_invariant(placed.call):
                apart.append(placed)
            else:
                company.append(placed)
        for group in alike_generations(company):
            for batch in self._batches(group):
                yield from self._rows_replies(batch) if _by_row(batch) else self._batch_replies(batch)
        for group in by_owner(apart):
            yield from self._apart_replies(group)

    def _apart_replies(self, group: Sequence[Placed[Generate]]) -> Placing:
        """Replies of generations that don't depend on each other's company: side by side where that is proven."""
        owner = owner_of(group)
        together: list[Placed[Generate]] = []
        for placed in group:
            if placed.call.decoding.is_plain and decodes_side_by_side(self, owner, placed.layout, self._new_of(placed)):
                together.append(placed)
            else:
                yield from self._rows_replies([placed]) if _by_row([placed]) else self._batch_replies([placed])
        most = proven_row_counts(self)[-1] if together else 0
        for batch in in_turn(together, most, self.batch_tokens):
            reused = [self.reused_tokens(placed.layout, owner) for placed in batch]
            rows = decode_side_by_side(self, [placed.call for placed in batch], _layouts_of(batch), owner)
            for placed, row, kept in zip(batch, rows, reused, strict=True):
                usage = Usage(len(placed.layout), len(row.tokens), calls=1, reused_tokens=kept)
                decoding = placed.call.decoding
                by_row = decoding.by_row
                yield placed.place, _row_reply(row, usage) if by_row else self._text_reply(row.tokens, decoding, usage)

    def _new_of(self, placed: Placed[Generate]) -> int:
        """How many tokens may follow a prompt."""
        decoding = placed.call.decoding
        held = listing_processor(self, decoding, _listings_of([placed]))
        return decoding.max_new_tokens if held is None else held.longest

    def _batch_replies(self, batch: Sequence[Placed[Generate]]) -> Placing:
        """Replies of generations with one decoding."""
        owner, decoding = owner_of(batch), batch[0].call.decoding
        reused = [self.reused_tokens(placed.layout, owner) for placed in batch]
        new = generate_tokens(self, _layouts_of(batch), owner, decoding, _listings_of(batch))
        for placed, tokens, kept in zip(batch, new, reused, strict=True):
            usage = replace(_cost(placed.layout, owner, len(tokens)), reused_tokens=kept)
            yield placed.place, self._text_reply(tokens, decoding, usage)

    def _rows_replies(self, batch: Sequence[Placed[Generate]]) -> Placing:
        """Replies of generations that are followed row by row."""
        owner = owner_of(batch)
        reused = [self.reused_tokens(placed.layout, owner) for placed in batch]
        decodings = [placed.call.decoding for placed in batch]
        rows = generate_rows(self, _layouts_of(batch), owner, decodings, _listings_of(batch))
        for placed, row, kept in zip(batch, rows, reused, strict=True):
            usage = replace(_cost(placed.layout, owner, len(row.tokens)), reused_tokens=kept)
            yield placed.place, _row_reply(row, usage)

    def _voted_reply(self, placed: Placed[Generate]) -> Reply:
        """The one text of several prompts, or of one that the attention reads in several rows."""
        call = placed.call
        layouts = [placed.layout, *map(self.layout, call.voters)]
        own = call.attend.pooling if call.attend is not None and not call.voters else None
        ballot = own or call.ballot
        reused = 0 if call.voters else self.reused_tokens(placed.layout, call.attend)
        if call.decoding.by_row:
            held = listing_processor(self, call.decoding, _listings_of([placed]))
            row, voted = vote_row(self, layouts, call.attend, call.decoding, ballot, held)
            usage = self._vote_usage(layouts, call.attend, len(voted.tokens))
            reply = _row_reply(row, replace(usage, reused_tokens=reused))
            return replace(reply, vote=voted.vote(), text_tokens=len(voted.tokens))
        held_decoding = held_to_listing(self, call.decoding, _listings_of([placed]))
        voted = vote_tokens(self, layouts, call.attend, held_decoding, ballot)
        usage = self._vote_usage(layouts, call.attend, len(voted.tokens))
        reply = self._text_reply(voted.tokens, held_decoding, replace(usage, reused_tokens=reused))
        return replace(reply, vote=voted.vote(), text_tokens=len(voted.tokens))

    def _vote_usage(self, layouts: Sequence[Layout], owner: AttentionOwner | None, new: int) -> Usage:
        """Tokens read and written by all that voted."""
        if len(layouts) == 1:
            return _cost(layouts[0], owner, new)
        return Usage(sum(map(len, layouts)), new * len(layouts), calls=len(layouts))

    def _text_reply(self, tokens: Sequence[int], decoding: Decoding, usage: Usage) -> Reply:
        finish: Finish = "length" if len(tokens) >= decoding.max_new_tokens else "stop"
        text = self.tokenizer.decode(list(tokens), skip_special_tokens=True)
        return Reply(text=text, usage=usage, finish=finish)

    def _score_replies(self, calls: Sequence[Placed[Score]]) -> Placing:
        apart: list[Placed[Score]] = []
        alone: list[Placed[Score]] = []
        company: list[Placed[Score]] = []
        for placed in calls:
            if placed.call.branched and placed.call.attend is None:  # whose replies are their only company
                yield from self._scored_replies([placed], score_in_branches)
            else:
                (apart if self._is_invariant(placed.call) else company).append(placed)
        for group in alike_scores(apart):
            yield from self._apart_scores(group)
        for group in alike_scores(company):
            if len(group) == 1:
                alone += group
            else:
                yield from self._scored_replies(group, score_after_one_head)
        for group in by_owner(alone):
            for batch in self._batches(group):
                yield from self._scored_replies(batch, score_side_by_side)

    def _apart_scores(self, group: Sequence[Placed[Score]]) -> Placing:
        """Replies that depend on nobody else's call, to prompts that are the same up to the end of their segments."""
        shared: list[Placed[Score]] = []
        for placed in group:
            replies = [self.reply_tokens(text) for text in placed.call.replies]
            if reads_head_apart(self, placed.layout, replies, owner_of(group)):
                shared.append(placed)
            else:
                yield from self._scored_replies([placed], score_side_by_side)
        if shared:
            yield from self._scored_replies(shared, score_apart)

    def _scored_replies(self, batch: Sequence[Placed[Score]], scorer: _Scorer) -> Placing:
        """Replies of one batch, whose prompts share their segments where there are several and a store serves them."""
        owner = owner_of(batch)
        tokens = [[self.reply_tokens(text) for text in placed.call.replies] for placed in batch]
        reused = self.reused_tokens(batch[0].layout, owner)
        found = scorer(self, _layouts_of(batch), tokens, owner)
        for placed, replies, scores in zip(batch, tokens, found, strict=True):
            lengths = tuple(map(len, replies))
            usage = replace(_cost(placed.layout, owner, max(lengths)), reused_tokens=reused)
            said = placed.call.replies
            reply = Reply(
                log_probs=scores.log_probs,
                greedy=scores.greedy,
                tokens=lengths,
                usage=usage,
                resolution=self.resolution,
                vote=candidates_vote(scores.orders, said, scores.by_order, scores.log_probs) if scores.orders else None,
            )
            yield placed.place, reply

    def _is_invariant(self, call: Call) -> bool:
        """Whether the reply may not depend on who else is asked, by the setting."""
        if self.batch_invariance == "order_free":
            return call.batch_invariant or (call.attend is not None and call.attend.order_free)
        return self.batch_invariance == "always"

    def _batches(self, group: Sequence[Placed[AnyCall]]) -> Iterator[Sequence[Placed[AnyCall]]]:
        """Prompts that go together: of like length, within the token limit.

        Alone where a store serves them, or where the attention reads each in several rows.
        """
        owner = owner_of(group)
        if _reads_in_rows(owner) or any(self.serving_store([placed.layout], owner) is not None for placed in group):
            yield from ([placed] for placed in group)
        else:
            yield from of_like_length(group, self.batch_tokens)


def _reads_in_rows(owner: AttentionOwner | None) -> bool:
    """Whether the attention reads one prompt in several rows, which vote."""
    return owner is not None and owner.pooling is not None


def _by_row(batch: Sequence[Placed[Generate]]) -> bool:
    return batch[0].call.decoding.by_row


def _layouts_of(batch: Sequence[Placed[AnyCall]]) -> list[Layout]:
    return [placed.layout for placed in batch]


def _listings_of(batch: Sequence[Placed[Generate]]) -> list[tuple[str, ...]]:
    """Each call's labels; none where they want no lists, which all calls of a batch agree on."""
    return [placed.call.listing for placed in batch if placed.call.listing]


def _cost(layout: Layout, owner: AttentionOwner | None, new: int) -> Usage:
    """Tokens of a prompt and of what was written after it."""
    return Usage(len(layout), new, calls=1) if owner is None else owner.cost(layout, new)


def _row_reply(row: GrowingText, usage: Usage) -> Reply:
    status: Status = "cancelled" if row.finish == "cancelled" else "ok"
    return Reply(status, row.text, usage=usage, finish=row.finish, stopped_by=row.stopped_by)
