"""The backend of a transformers model in this process: calls become batches, batches become replies.

calls -> layouts -> `batching` -> `scoring` or `generation` over the `LocalModel` -> replies in the calls' order
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TypeAlias

from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from fairpos.attention.reading import Reading
from fairpos.attention.store import SegmentStore
from fairpos.backends.base import (
    AttentionOwner,
    AttentionReader,
    Backend,
    Ballot,
    Call,
    Decoding,
    Finish,
    Generate,
    Reply,
    Score,
)
from fairpos.backends.batching import (
    AnyCall,
    Placed,
    alike_generations,
    alike_scores,
    by_owner,
    of_like_length,
    owner_of,
)
from fairpos.backends.generation import (
    generate_rows,
    generate_tokens,
    held_to_listings,
    vote_row,
    vote_tokens,
)
from fairpos.backends.local_model import LocalModel
from fairpos.backends.rows import Row
from fairpos.backends.scoring import (
    Replies,
    Scores,
    reply_log_probs,
    score_after_one_head,
    score_side_by_side,
    vote_score,
)
from fairpos.prompts import Prompt, continuation
from fairpos.types import Capability, Layout, Status, Usage

Placing: TypeAlias = Iterator[tuple[int, Reply]]
_Scorer: TypeAlias = Callable[
    [LocalModel, Sequence[Layout], Sequence[Replies], AttentionOwner | None], Sequence[Scores]
]


class HFBackend(LocalModel, Backend, AttentionReader):
    """Runs calls on a causal language model of transformers.

    Args:
        model, tokenizer, store, name: See `LocalModel`.
        batch_tokens: Padded prompt tokens of one forward pass, at most (one prompt may be longer).

    Raises:
        UnsupportedModel: the model is an encoder-decoder.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        *,
        batch_tokens: int = 8192,
        store: SegmentStore | None = None,
        name: str | None = None,
    ) -> None:
        super().__init__(model, tokenizer, store=store, name=name)
        self.batch_tokens = batch_tokens

    @property
    def capabilities(self) -> frozenset[Capability]:
        """All that there are: a model in this process can be asked, scored, read and made to vote."""
        return frozenset({"generate", "score", "attention", "vote"})

    def run(self, calls: Sequence[Call]) -> list[Reply]:
        """Runs calls in batches; scored prompts that differ only after their segments share one prefill of the rest."""
        generated: list[Placed[Generate]] = []
        scored: list[Placed[Score]] = []
        for place, call in enumerate(calls):
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
        last_only: bool = False,
        replies: Sequence[str] = (),
    ) -> list[Reading]:
        """Where the question of each prompt looks; see `AttentionReader`.

        Raises:
            TooLong, UnsupportedModel, InvalidOption, NonFiniteLogits: see the errors.
        """
        from fairpos.attention.probe import read

        layouts = [self.layout(prompt) for prompt in prompts]
        tokens = [continuation(reply, self.tokenizer) for reply in replies]
        for i, layout in enumerate(layouts):
            self.check_length(layout, len(tokens[i]) if tokens else 0)
        return read(self.model, layouts, heads=heads, last_only=last_only, replies=tokens)

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
        return vote_tokens(self, layouts, method, decoding, ballot)

    def score(
        self, layouts: Sequence[Layout], replies: Sequence[Replies], method: AttentionOwner | None = None
    ) -> list[Scores]:
        """Log-probability of each reply after its prompt, and whether greedy decoding would give it.

        Args:
            layouts: The prompts.
            replies: Several for each prompt, in tokens.
            method: Which may own the attention.
        """
        return score_side_by_side(self, layouts, replies, method)

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
        for placed in calls:
            if placed.call.voters:
                yield placed.place, self._voted_reply(placed.call)
        for group in alike_generations([placed for placed in calls if not placed.call.voters]):
            for batch in self._batches(group):
                if batch[0].call.decoding.by_row:
                    yield from self._rows_replies(batch)
                else:
                    yield from self._batch_replies(batch)

    def _batch_replies(self, batch: Sequence[Placed[Generate]]) -> Placing:
        """Replies of generations with one decoding."""
        owner, decoding = owner_of(batch), batch[0].call.decoding
        reused = [self.reused_tokens(placed.layout, owner) for placed in batch]
        held = held_to_listings(self, decoding, [placed.call.listing for placed in batch if placed.call.listing])
        new = generate_tokens(self, [placed.layout for placed in batch], owner, held)
        for placed, tokens, kept in zip(batch, new, reused, strict=True):
            usage = Usage(len(placed.layout), len(tokens), calls=1, reused_tokens=kept)
            yield placed.place, self._text_reply(tokens, decoding, usage)

    def _rows_replies(self, batch: Sequence[Placed[Generate]]) -> Placing:
        """Replies of generations that are followed row by row."""
        owner = owner_of(batch)
        reused = [self.reused_tokens(placed.layout, owner) for placed in batch]
        decodings = [placed.call.decoding for placed in batch]
        rows = generate_rows(self, [placed.layout for placed in batch], owner, decodings)
        for placed, row, kept in zip(batch, rows, reused, strict=True):
            usage = Usage(len(placed.layout), len(row.tokens), calls=1, reused_tokens=kept)
            yield placed.place, _row_reply(row, usage)

    def _voted_reply(self, call: Generate) -> Reply:
        layouts = [self.layout(prompt) for prompt in (call.prompt, *call.voters)]
        read = sum(map(len, layouts))
        if call.decoding.by_row:
            row, voted = vote_row(self, layouts, call.attend, call.decoding, call.ballot)
            return _row_reply(row, Usage(read, voted * len(layouts), calls=len(layouts)))
        tokens = vote_tokens(self, layouts, call.attend, call.decoding, call.ballot)
        return self._text_reply(tokens, call.decoding, Usage(read, len(tokens) * len(layouts), calls=len(layouts)))

    def _text_reply(self, tokens: Sequence[int], decoding: Decoding, usage: Usage) -> Reply:
        finish: Finish = "length" if len(tokens) >= decoding.max_new_tokens else "stop"
        text = self.tokenizer.decode(list(tokens), skip_special_tokens=True)
        return Reply(text=text, usage=usage, finish=finish)

    def _score_replies(self, calls: Sequence[Placed[Score]]) -> Placing:
        alone: list[Placed[Score]] = []
        for group in alike_scores(calls):
            if len(group) == 1:
                alone += group
            else:
                yield from self._scored_replies(group, score_after_one_head)
        for group in by_owner(alone):
            for batch in self._batches(group):
                yield from self._scored_replies(batch, score_side_by_side)

    def _scored_replies(self, batch: Sequence[Placed[Score]], scorer: _Scorer) -> Placing:
        """Replies of one batch, whose prompts share their segments where there are several and a store serves them."""
        owner = owner_of(batch)
        tokens = [[continuation(text, self.tokenizer) for text in placed.call.replies] for placed in batch]
        reused = self.reused_tokens(batch[0].layout, owner)
        found = scorer(self, [placed.layout for placed in batch], tokens, owner)
        for placed, replies, (log_probs, greedy) in zip(batch, tokens, found, strict=True):
            lengths = tuple(map(len, replies))
            usage = Usage(len(placed.layout), max(lengths), calls=1, reused_tokens=reused)
            yield (
                placed.place,
                Reply(log_probs=log_probs, greedy=greedy, tokens=lengths, usage=usage, resolution=self.resolution),
            )

    def _batches(self, group: Sequence[Placed[AnyCall]]) -> Iterator[Sequence[Placed[AnyCall]]]:
        """Prompts that go together: of like length, within the token limit; alone where a store serves them."""
        if any(self.serving_store([placed.layout], owner_of(group)) is not None for placed in group):
            yield from ([placed] for placed in group)
        else:
            yield from of_like_length(group, self.batch_tokens)


def _row_reply(row: Row, usage: Usage) -> Reply:
    status: Status = "cancelled" if row.finish == "cancelled" else "ok"
    return Reply(status, row.text, usage=usage, finish=row.finish)
