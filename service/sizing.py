"""How large a request may be on a local model: looked at before any work is done for it, and in tokens before it runs.

Counting tokens takes as long as a text is, so what is too long by its characters alone is refused uncounted.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

from fairpos.backends.base import Backend, Call, Generate
from fairpos.errors import TooLong
from fairpos.layout import Layout
from fairpos.prompts import Prompt
from fairpos.types import Request

from .errors import ServiceError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_ELSE = "; `fairpos.fit` keep leaves out the least relevant documents, groups reads all of them in turn"

# Of a token on average, at most; text has about 4, code with deep indentation 6 to 8.
_CHARACTERS_OF_A_TOKEN = 16


class LocalBackend(Backend, Protocol):
    """What the engine needs of a local model beyond running calls."""

    @property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """Of the model."""

    @property
    def context(self) -> int:
        """Tokens that the model can hold."""

    def layout(self, prompt: Prompt) -> Layout:
        """The prompt in tokens."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Of one engine; see the settings of these names."""

    queue: int = 256
    batch_tokens: int = 8192
    batch_calls: int = 32
    prompt_tokens: int = 32768
    vote_tokens: int = 32768
    calls: int = 2000


def check_request(request: Request, limits: Limits, context: int) -> None:
    """Refuses a request that can't fit whatever its tokens are, from lengths alone.

    Raises:
        TooLong: more earlier messages than there may be tokens, or too many characters.
    """
    most = min(limits.prompt_tokens, context)
    _check_lengths(
        len(request.query)
        + sum(len(segment.text) + len(segment.title or "") for segment in request.segments)
        + sum(len(turn.content) for turn in request.history),
        len(request.history),
        most,
    )


def check_messages(messages: object, limits: Limits, context: int) -> None:
    """Refuses a chat of more messages than a prompt has tokens, before any of them is read.

    Raises:
        TooLong: there are too many.
    """
    if isinstance(messages, list):
        _check_lengths(0, len(messages) - 1, min(limits.prompt_tokens, context))


def check_number(calls: int, limits: Limits) -> None:
    """Refuses a step of more calls than are allowed.

    Raises:
        ServiceError: 422.
    """
    if calls > limits.calls:
        raise ServiceError(
            422,
            "too_many_calls",
            f"the methods want {calls} calls of the model; at most {limits.calls} are allowed here",
        )


def _read_in_views(call: Call, backend: LocalBackend, prompts: int, tokens: int) -> tuple[int, int]:
    """How many views decode together, and the tokens that they read: of several prompts, padded; or of one."""
    if prompts > 1 or call.attend is None or call.attend.pooling is None:
        return prompts, prompts * tokens
    cost = call.attend.cost(backend.layout(call.prompt), 1)
    return cost.completion_tokens, cost.prompt_tokens


def sized_call(
    call: Call, backend: LocalBackend, limits: Limits, *, fills_context: bool, given_up: Callable[[], bool]
) -> tuple[Call, int]:
    """The call as it will run, and the tokens of its prompt; of its longest, where several vote.

    Args:
        call: The call.
        backend: The model that it is for.
        limits: The service's.
        fills_context: Whether a generation may be as long as there is room beside its prompt, and no longer; else a
            generation that has no room is refused.
        given_up: Asked before each prompt; once it says yes, the rest are not counted.

    Raises:
        TooLong: over the service's limit, or more than the model can hold.
    """
    prompts = [call.prompt, *(call.voters if isinstance(call, Generate) else ())]
    most = min(limits.prompt_tokens, backend.context)
    tokens = 0
    for prompt in prompts:
        if given_up():
            return call, tokens
        earlier = prompt.request.history
        _check_lengths(len(prompt.text) + sum(len(turn.content) for turn in earlier), len(earlier), most)
        tokens = max(tokens, len(backend.layout(prompt)))
    if tokens > limits.prompt_tokens:
        raise TooLong(f"got a prompt of {tokens} tokens; at most {limits.prompt_tokens} are allowed here{_ELSE}")
    views, read = _read_in_views(call, backend, len(prompts), tokens)
    if fills_context and isinstance(call, Generate):
        together = (limits.vote_tokens - read) // views if views > 1 else backend.context - tokens
        new = max(1, min(new_tokens(call), together, backend.context - tokens))
        call = replace(call, decoding=replace(call.decoding, max_new_tokens=new))
    padded = read + views * new_tokens(call)
    if views > 1 and padded > limits.vote_tokens:
        raise TooLong(
            f"{views} views that decode together take {padded} tokens; "
            f"at most {limits.vote_tokens} are allowed here: ask for fewer views or documents"
        )
    if tokens + new_tokens(call) > backend.context:
        raise TooLong(
            f"got a prompt of {tokens} tokens and up to {new_tokens(call)} new ones; "
            f"the model's context is {backend.context} tokens{_ELSE}"
        )
    return call, tokens


def new_tokens(call: Call) -> int:
    """Tokens that the call may add to its prompt."""
    return call.decoding.max_new_tokens if isinstance(call, Generate) else 0


def _check_lengths(characters: int, messages: int, tokens: int) -> None:
    if messages >= tokens:
        raise TooLong(f"got {messages} earlier messages; the {tokens} tokens that a prompt may have can't hold them")
    if characters > _CHARACTERS_OF_A_TOKEN * tokens:
        raise TooLong(
            f"got a prompt of {characters} characters; at most {_CHARACTERS_OF_A_TOKEN * tokens} are read here, "
            f"{_CHARACTERS_OF_A_TOKEN} for each of the {tokens} tokens that a prompt may have{_ELSE}"
        )
