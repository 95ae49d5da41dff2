"""Prompts that vote while a text is generated, at an endpoint: each call reads ALL of them on.

The prompts go as tokens, so that what is voted for is what the next call reads: the server's own tokens of the
conversation, chat template included, and behind them the tokens that have won. It lists each prompt's most probable
next tokens; `listed_vote` says who wins and whether that is certain.

A call may write several tokens for each prompt, each prompt its own choice. As long as every prompt has chosen what the
vote would have, the lists behind are those that the vote needs, and the tokens count; at the first that one of them
would have had otherwise the vote decides and the rest is thrown away. So the text is the same however many are written,
but for how a server rounds what it writes and what it reads: one where prompts have just disagreed, twice as many after
each call on whose tokens they all agreed.

COST: at most a call a token. The server reads every prompt once if it finds what it has read in its cache, and with
every call if it doesn't: vLLM keeps whole blocks of a prompt, llama.cpp one prompt in each of its slots (`--parallel`),
which must be no fewer than the prompts. HURTS: a list tells only so many tokens; where views disagree widely the winner
may not be certain, which the reply says.
"""

from __future__ import annotations

import asyncio
import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from fairpos.backends.async_client import AsyncOpenAIClient, Posted
from fairpos.backends.base import Finish, Generate, Reply
from fairpos.backends.completion import JSON
from fairpos.backends.endpoint_calls import messages_of, sampling_fields
from fairpos.backends.listed_vote import ListedVote, vote_on_lists
from fairpos.backends.server import Server, conversation_tokens, text_of, tokens_of
from fairpos.errors import UnsupportedBackend
from fairpos.types import Usage

_LISTED = 20  # vLLM's most; an option of its server allows more
_AS_TOKEN = "token_id:"  # before a token's number, in vLLM's lists
_MOST_AHEAD = 8  # tokens that a call writes for each prompt


@dataclass(frozen=True, slots=True)
class NextToken:
    """What one prompt expects next.

    Attributes:
        listed: Natural log-probabilities of its most probable tokens by id.
        chosen: The server's own choice; None: it doesn't tell.
        ends: Whether that ends the text.
    """

    listed: Mapping[int, float]
    chosen: int | None = None
    ends: bool = False


@dataclass(slots=True)
class _Steps:
    """What the steps of a reply cost, and who won them."""

    usage: Usage = Usage()
    votes: list[ListedVote] = field(default_factory=list)

    def add_cost(self, posted: Posted) -> None:
        """Counts a step's tokens and calls."""
        told = posted.found.get("usage") if isinstance(posted.found, Mapping) else None
        counts = told if isinstance(told, Mapping) else {}
        prompt, new = (counts.get(name) for name in ("prompt_tokens", "completion_tokens"))
        tokens = (prompt if isinstance(prompt, int) else 0, new if isinstance(new, int) else 0)
        cached = posted.call.cached
        self.usage += Usage(*tokens, calls=1).as_cached() if cached else Usage(*tokens, calls=posted.call.attempts)

    def reply(self, text: str, finish: Finish) -> Reply:
        """The text, and how many of its tokens aren't certain."""
        unsure = sum(not vote.certified for vote in self.votes)
        detail = f"{unsure} of {len(self.votes)} tokens may have lost the vote to one that a list of {_LISTED} lacks"
        return Reply(
            text=text,
            usage=self.usage,
            finish=finish,
            detail=detail if unsure else "",
            started=True,
            text_tokens=len(self.votes),
        )


def refuse_unfit(call: Generate) -> None:
    """Refuses a vote that lists can't decide.

    Raises:
        UnsupportedBackend: the text is to be sampled, or prompts are weighed by their entropy.
    """
    other_way = "aggregation=majority votes on whole texts"
    if call.decoding.temperature > 0:
        raise UnsupportedBackend(
            f"voting on every token at an endpoint is greedy: a sample needs whole distributions, of which it lists "
            f"{_LISTED} tokens; got temperature {call.decoding.temperature} ({other_way})"
        )
    if call.ballot.weights != "uniform":
        raise UnsupportedBackend(
            f"weights={call.ballot.weights} needs whole distributions, of which an endpoint lists {_LISTED} tokens; "
            f"use weights=uniform ({other_way})"
        )
    sampling_fields(call.decoding)  # which refuses transformers' own objects


async def proves_voting(core: AsyncOpenAIClient, server: Server, model: str) -> bool:
    """Whether one call reads several prompts in tokens, and lists what follows each. COST: a call of one token."""
    tokens = await tokens_of(core, server.engine, model, "A")
    if not tokens:
        return False
    posted = await core.post("/completions", _body(server, model, [tokens, tokens * 2], 1))
    return bool(read_steps(posted.found, 2, 1))


async def vote(core: AsyncOpenAIClient, server: Server, model: str, call: Generate, extra: Mapping[str, JSON]) -> Reply:
    """One text for all prompts of a call, greedily.

    Args:
        core: The client, in its loop.
        server: One that `proves_voting`.
        model: The model's name there.
        call: With `voters`.
        extra: Fields for every body.
    """
    prompts = (call.prompt, *call.voters)
    starts = [server.prefilled(messages_of(p.text, p.request.history), p.answer_start) for p in prompts]
    read, ends = await asyncio.gather(
        asyncio.gather(*(conversation_tokens(core, server.engine, model, fields) for fields in starts)),
        _end_tokens(core, server, model),
    )
    if not all(read):
        return Reply("http_error", detail="the endpoint doesn't tell a conversation's tokens", started=False)
    begun = [list(tokens or ()) for tokens in read]
    cost, new, ahead = _Steps(), list[int](), 1
    while len(new) < call.decoding.max_new_tokens:
        count = min(ahead, call.decoding.max_new_tokens - len(new))
        body = _body(server, model, [[*tokens, *new] for tokens in begun], count) | dict(extra)
        posted = await core.post("/completions", body)
        cost.add_cost(posted)
        written = read_steps(posted.found, len(prompts), count, ends)
        if not written and count == 1:
            return _failed_reply(posted, cost)
        ahead = min(2 * ahead, _MOST_AHEAD) if len(written) == count else 1
        for step in written:
            won = vote_on_lists([each.listed for each in step])
            cost.votes.append(won)
            if won.token in ends | {each.chosen for each in step if each.ends}:
                return cost.reply(await _text_of(core, server, model, new), "stop")
            new.append(won.token)
            if call.decoding.stop:
                text = await _text_of(core, server, model, new)
                before = min((text.find(stop) for stop in call.decoding.stop if stop in text), default=None)
                if before is not None:
                    return cost.reply(text[:before], "stop")
            if any(each.chosen != won.token for each in step):
                ahead = 1
                break
    return cost.reply(await _text_of(core, server, model, new), "length")


def read_steps(found: JSON, count: int, new: int, ends: frozenset[int] = frozenset()) -> list[list[NextToken]]:
    """What prompts expect next, in their order, token by token as far as all of them are told.

    Args:
        found: The response.
        count: Of the prompts.
        new: How many tokens were asked for.
        ends: Tokens that end a reply.

    Returns:
        At most `new` steps; none where the response doesn't tell a first token of each prompt.
    """
    choices = found.get("choices") if isinstance(found, Mapping) else None
    if not isinstance(choices, list) or len(choices) != count:
        return []
    told = [choice for choice in choices if isinstance(choice, Mapping)]
    places = [choice.get("index") for choice in told]
    if sorted(map(str, places)) == sorted(map(str, range(count))):
        told = [told[places.index(place)] for place in range(count)]
    elif len(set(map(str, places))) > 1:
        return []  # which choice is whose can't be known
    texts = [_read_choice(choice, new, ends) for choice in told]
    return [list(step) for step in zip(*texts, strict=False)] if len(texts) == count else []


def _read_choice(choice: Mapping[str, JSON], new: int, ends: frozenset[int]) -> list[NextToken]:
    """What one choice lists for each of its tokens, in vLLM's or llama.cpp's form, up to the first without a list.

    A server may list the token that ends a text or not. So where a text ends early and its last token isn't known to be
    an end, that one is left to be asked for by itself: then nothing but an end can have stopped the server.
    """
    told = choice.get("logprobs")
    fields = told if isinstance(told, Mapping) else {}
    content, tops, tokens = (fields.get(name) for name in ("content", "top_logprobs", "tokens"))
    read: list[NextToken] = []
    if isinstance(content, list):
        entries = [entry for entry in content if isinstance(entry, Mapping)]
        read = [NextToken(_listed_in(entry.get("top_logprobs")), _number(entry.get("id"))) for entry in entries]
    elif isinstance(tops, list) and isinstance(tokens, list):
        read = [NextToken(_listed_in(top), _numbered(token)) for top, token in zip(tops, tokens, strict=False)]
    if read and choice.get("finish_reason") == "stop":
        last = read.pop()
        if last.chosen in ends or (len(read) == new - 1 and last.chosen is not None):
            read.append(replace(last, ends=True))
    return list(itertools.takewhile(lambda each: each.listed, read))[:new]


def _listed_in(top: JSON) -> dict[int, float]:
    """Log-probabilities by token id, of a list of entries or of an object by token."""
    pairs: list[tuple[int | None, JSON]] = []
    if isinstance(top, list):
        pairs = [(_number(entry.get("id")), entry.get("logprob")) for entry in top if isinstance(entry, Mapping)]
    elif isinstance(top, Mapping):
        pairs = [(_numbered(token), log_prob) for token, log_prob in top.items()]
    return {
        id: float(log_prob)
        for id, log_prob in pairs
        if id is not None and isinstance(log_prob, int | float) and math.isfinite(log_prob)
    }


def _number(id: JSON) -> int | None:
    return id if isinstance(id, int) else None


def _numbered(token: JSON) -> int | None:
    number = token.removeprefix(_AS_TOKEN) if isinstance(token, str) else ""
    return int(number) if number.isdecimal() and token != number else None


def _body(server: Server, model: str, prompts: Sequence[Sequence[int]], new: int) -> dict[str, JSON]:
    body: dict[str, JSON] = {
        "model": model,
        "prompt": [list(tokens) for tokens in prompts],
        "max_tokens": new,
        "temperature": 0.0,
        "logprobs": _LISTED,
    }
    return body | {"return_tokens_as_token_ids": True} if server.engine == "vllm" else body


def _failed_reply(posted: Posted, steps: _Steps) -> Reply:
    call = posted.call
    return Reply(
        "malformed" if call.status == "ok" else call.status,
        detail=call.detail or "the endpoint doesn't list what follows each prompt",
        usage=steps.usage,
        http_status=call.http_status,
        retry_after_s=call.retry_after_s,
    )


async def _text_of(core: AsyncOpenAIClient, server: Server, model: str, tokens: Sequence[int]) -> str:
    return (await text_of(core, server.engine, model, tokens) or "") if tokens else ""


async def _end_tokens(core: AsyncOpenAIClient, server: Server, model: str) -> frozenset[int]:
    """What ends a reply by the chat template: the token behind an earlier reply. Empty where that can't be told."""
    asked = messages_of("Say yes.")
    replied: list[JSON] = [*asked, {"role": "assistant", "content": "yes"}]
    begun, whole = await asyncio.gather(
        conversation_tokens(core, server.engine, model, server.prefilled(asked, "yes")),
        conversation_tokens(core, server.engine, model, server.prefilled([*replied, *asked], "")),
    )
    if not begun or not whole or whole[: len(begun)] != begun:
        return frozenset()
    return frozenset(whole[len(begun) : len(begun) + 1])
