"""The log-probability of any label as a reply, on servers that tell it: the same sum over tokens as on a local model.

A label in tokens is a path: each step is one call, whose reply starts with the answer's start and the label's tokens
so far, and which generates one token. Labels that share their first tokens share the calls; labels of one token each,
which letters and single digits are, take one call together.

    " A", " B"               1 call
    "1.", "2.", ... "30."    1 call, one for each first digit, one for each label of two
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass

from fairpos.backends.completion import JSON, Completion, TokenLogprob
from fairpos.backends.server import Server
from fairpos.types import Usage

Path = tuple[int, ...]
# Asks for one token after these label tokens; the completion lists alternatives.
AskNext = Callable[[Path, Sequence[int]], Awaitable[Completion]]

# llama.cpp sends as many alternatives as it is asked for: enough for labels that a model would name at all, and where
# that isn't enough, more than which would be megabytes.
_LISTED, _LISTED_MORE = 200, 5000


@dataclass(frozen=True, slots=True)
class ExactScores:
    """What came of a scored call.

    Attributes:
        log_probs: Of each label, natural logarithm, summed over its tokens; empty where a call failed.
        bounded: Whether that is only an upper bound: some token of it is not in the longest list that is asked for.
        failed: The first completion that was of no use.
        usage: Of all calls.
        key: Of the first call's response.
    """

    log_probs: tuple[float, ...] = ()
    bounded: tuple[bool, ...] = ()
    failed: Completion | None = None
    usage: Usage = Usage()
    key: str = ""


def body_for(server: Server, wanted: Sequence[int], *, more: bool, continued: bool) -> Mapping[str, JSON]:
    """Body fields of a call that lists the log-probabilities of `wanted` tokens as the next one.

    Args:
        server: Whom it goes to.
        wanted: Token ids.
        more: The usual list has been too short.
        continued: Others begin with the same prompt.
    """
    body: dict[str, JSON] = {"temperature": 0.0, "max_tokens": 1, "logprobs": True}
    if server.engine == "vllm":
        return body | {
            "top_logprobs": 0,
            "logprob_token_ids": sorted(wanted),
            "return_tokens_as_token_ids": True,
        }
    # A prompt that is found in the cache is computed in other batches, and rounded otherwise: the same call twice would
    # differ. Further steps of one label have to take that for its price.
    return body | {"top_logprobs": _LISTED_MORE if more else _LISTED, "cache_prompt": continued}


async def score_exactly(paths: Sequence[Path], ask: AskNext, ask_more: AskNext) -> ExactScores:
    """Walks the labels' paths, one level of tokens after the other.

    Args:
        paths: Each label in tokens, at least 1 token.
        ask: Asks for the next token after a beginning of paths.
        ask_more: The same with a longer list; where a token wasn't in the usual one.
    """
    totals = [0.0] * len(paths)
    bounded = [False] * len(paths)
    usage, key = Usage(), ""
    for depth in range(max(map(len, paths))):
        wanted: dict[Path, set[int]] = {}
        for path in paths:
            if len(path) > depth:
                wanted.setdefault(path[:depth], set()).add(path[depth])
        completions = await asyncio.gather(*(ask(begun, sorted(tokens)) for begun, tokens in wanted.items()))
        for (begun, tokens), completion in zip(wanted.items(), completions, strict=True):
            usage, key = usage + completion.usage, key or completion.key
            listed = listed_by_id(completion)
            if listed is not None and not tokens <= listed.keys():
                completion = await ask_more(begun, sorted(tokens))
                usage += completion.usage
                listed = listed_by_id(completion)
            if listed is None:
                return ExactScores(failed=completion, usage=usage, key=key)
            least = min(listed.values())
            for i, path in enumerate(paths):
                if len(path) > depth and path[:depth] == begun:
                    totals[i] += listed.get(path[depth], least)
                    bounded[i] |= path[depth] not in listed
    return ExactScores(tuple(totals), tuple(bounded), usage=usage, key=key)


def listed_by_id(completion: Completion) -> dict[int, float] | None:
    """Log-probabilities of the first new token by token id; None where the completion has none."""
    if completion.status not in ("ok", "empty") or not completion.logprobs or completion.reasoned:
        return None
    first: TokenLogprob = completion.logprobs[0]
    listed = {id: log_prob for id, (_, log_prob) in zip(first.ids, first.top, strict=False) if id is not None}
    return {id: log_prob for id, log_prob in listed.items() if math.isfinite(log_prob)} or None
