"""Prompts that vote while a text is generated, at an endpoint: each step is ONE call that reads all of them on.

The prompts go as tokens, so that what a step adds is what the next one reads: the server's own tokens of the
conversation, chat template included, and behind them the tokens that were voted for. It lists each prompt's most
probable next tokens; `listed_vote` says who wins and whether that is certain.

COST: a call a token. The server reads every prompt once if it finds what it has read in its cache, and at every token
if it doesn't: vLLM keeps whole blocks of a prompt, llama.cpp one prompt in each of its slots (`--parallel`), which must
be no fewer than the prompts. HURTS: a list tells only so many tokens; where views disagree widely the winner may not
be certain, which the reply says.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

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


@dataclass(frozen=True, slots=True)
class NextToken:
    """What one prompt expects next.

    Attributes:
        listed: Natural log-probabilities of its most probable tokens by id.
        ends: The server's own choice, where that ends the text.
    """

    listed: Mapping[int, float]
    ends: int | None = None


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
        return Reply(text=text, usage=self.usage, finish=finish, detail=detail if unsure else "", started=True)


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
    posted = await core.post("/completions", _body(server, model, [tokens, tokens * 2]))
    return read_step(posted.found, 2) is not None


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
    steps, new = _Steps(), list[int]()
    while len(new) < call.decoding.max_new_tokens:
        body = _body(server, model, [[*tokens, *new] for tokens in begun]) | dict(extra)
        posted = await core.post("/completions", body)
        steps.add_cost(posted)
        step = read_step(posted.found, len(prompts))
        if step is None:
            return _failed_reply(posted, steps)
        won = vote_on_lists([each.listed for each in step])
        steps.votes.append(won)
        if won.token in ends | {each.ends for each in step}:
            return steps.reply(await _text_of(core, server, model, new), "stop")
        new.append(won.token)
        if call.decoding.stop:
            text = await _text_of(core, server, model, new)
            before = min((text.find(stop) for stop in call.decoding.stop if stop in text), default=None)
            if before is not None:
                return steps.reply(text[:before], "stop")
    return steps.reply(await _text_of(core, server, model, new), "length")


def read_step(found: JSON, count: int) -> list[NextToken] | None:
    """What each of so many prompts expects next, in their order; None: the response doesn't tell."""
    choices = found.get("choices") if isinstance(found, Mapping) else None
    if not isinstance(choices, list) or len(choices) != count:
        return None
    told = [choice for choice in choices if isinstance(choice, Mapping)]
    places = [choice.get("index") for choice in told]
    if sorted(map(str, places)) == sorted(map(str, range(count))):
        told = [told[places.index(place)] for place in range(count)]
    elif len(set(map(str, places))) > 1:
        return None  # which choice is whose can't be known
    step = [_read_choice(choice) for choice in told]
    read = [each for each in step if each is not None]
    return read if len(read) == count else None


def _read_choice(choice: Mapping[str, JSON]) -> NextToken | None:
    """What one choice lists, in vLLM's or llama.cpp's form; None: nothing."""
    told = choice.get("logprobs")
    fields = told if isinstance(told, Mapping) else {}
    content, tops, tokens = (fields.get(name) for name in ("content", "top_logprobs", "tokens"))
    pairs: list[tuple[JSON, JSON]] = []
    chosen: JSON = None
    if isinstance(content, list) and content and isinstance(content[0], Mapping):
        top = content[0].get("top_logprobs")
        pairs = (
            [(e.get("id"), e.get("logprob")) for e in top if isinstance(e, Mapping)] if isinstance(top, list) else []
        )
        chosen = content[0].get("id")
    elif isinstance(tops, list) and tops and isinstance(tops[0], Mapping):
        pairs = [(_numbered(token), log_prob) for token, log_prob in tops[0].items()]
        chosen = _numbered(tokens[0]) if isinstance(tokens, list) and tokens else None
    listed = {
        id: float(log_prob)
        for id, log_prob in pairs
        if isinstance(id, int) and isinstance(log_prob, int | float) and math.isfinite(log_prob)
    }
    ended = choice.get("finish_reason") == "stop" and isinstance(chosen, int)
    return NextToken(listed, chosen if ended and isinstance(chosen, int) else None) if listed else None


def _numbered(token: JSON) -> int | None:
    number = token.removeprefix(_AS_TOKEN) if isinstance(token, str) else ""
    return int(number) if number.isdecimal() and token != number else None


def _body(server: Server, model: str, prompts: Sequence[Sequence[int]]) -> dict[str, JSON]:
    body: dict[str, JSON] = {
        "model": model,
        "prompt": [list(tokens) for tokens in prompts],
        "max_tokens": 1,
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
