"""One call of an OpenAI-compatible chat endpoint: the request, and what came of it.

Pure: nothing here opens a connection. `read_response` turns the text of a successful response into a `Completion` and
refuses what isn't one, so that nothing can be taken for an answer that is none.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from fairpos.errors import InvalidRequest
from fairpos.types import Usage

JSON: TypeAlias = bool | int | float | str | Sequence["JSON"] | Mapping[str, "JSON"] | None
CompletionStatus: TypeAlias = Literal["ok", "refused", "empty", "malformed", "http_error", "timeout", "cancelled"]

# What servers write as the code or type of an error when a filter stops the prompt itself, and under which status.
_FILTER_CODES = frozenset(
    {
        "content_filter",
        "content_policy_violation",
        "content_filtered",
        "responsibleaipolicyviolation",
        "data_inspection_failed",
        "moderation_blocked",
        "contentfilter",
        "1301",
    }
)
_FILTER_STATUSES = (400, 403, 451)
_DETAIL_LENGTH = 500
_TEXTS = ("text", "output_text")  # types of a content's parts
# Why a text ends, in the words of several servers; see `_reason_in`.
_CUT_OFF = frozenset(
    {
        "length",
        "max_tokens",
        "max_length",
        "model_length",
        "max_output_tokens",
        "max_completion_tokens",
        "max_new_tokens",
        "token_limit",
        "limit",
        "model_context_window_exceeded",
        "context_length_exceeded",
        "time_limit",
        "incomplete",
        "truncated",
    }
)
_FILTERED = frozenset(
    {
        "content_filter",
        "content_filtered",
        "safety",
        "image_safety",
        "recitation",
        "prohibited_content",
        "blocklist",
        "spii",
        "refusal",
        "sensitive",
        "language",
        "guardrail_intervened",
        "guardrails",
        "moderation",
    }
)
_FAILED = frozenset(
    {
        "error",
        "abort",
        "aborted",
        "cancelled",
        "canceled",
        "insufficient_system_resource",
        "network_error",
        "internal_error",
        "timeout",
        "malformed_function_call",
        "repetition_truncation",
    }
)


class MalformedResponse(ValueError):
    """The text of a response is not a chat completion; the message says what is missing."""


@dataclass(frozen=True, slots=True)
class CompletionRequest:
    """One chat completion to ask for.

    Attributes:
        body: The request as the endpoint gets it: `model`, `messages`, and whatever else it understands. Neither
            `stream` nor `n` above 1: a completion is one text.
        sample: Tells repeated samples of one body apart. Requests equal in body and sample are one call.

    Raises:
        InvalidRequest: the body can't be sent.
    """

    body: Mapping[str, JSON]
    sample: int = 0

    def __post_init__(self) -> None:
        model, messages = self.body.get("model"), self.body.get("messages")
        if not isinstance(model, str) or not model:
            raise InvalidRequest(f"the body's model must be a name, got {model!r}")
        if isinstance(messages, str) or not isinstance(messages, Sequence) or not messages:
            raise InvalidRequest(f"the body's messages must be a list of at least 1 message, got {messages!r}")
        if self.body.get("stream"):
            raise InvalidRequest("the body asks for a stream; a completion is read as a whole")
        if self.body.get("n") not in (None, 1):
            raise InvalidRequest(f"the body's n must be 1, got {self.body['n']!r}; ask with n different `sample`s")
        self.canonical()

    def canonical(self) -> bytes:
        """The body as JSON in UTF-8 with sorted keys: what is sent, and what the cache key is made of.

        Lone surrogates are the escapes that JSON has for them.
        """
        try:
            text = json.dumps(
                self.body, sort_keys=True, ensure_ascii=False, separators=(",", ":"), allow_nan=False, default=_as_dict
            )
            return text.encode(errors="backslashreplace")
        except (TypeError, ValueError) as error:
            raise InvalidRequest(f"the body can't be written as JSON: {error}") from error

    def key(self, base_url: str) -> str:
        """SHA-256, hexadecimal, of the endpoint, the whole body and the sample. No credential is part of it."""
        endpoint = json.dumps([base_url, self.sample]).encode()
        return hashlib.sha256(endpoint + b"\n" + self.canonical()).hexdigest()


@dataclass(frozen=True, slots=True)
class TokenLogprob:
    """A generated token with its natural-log probability, and those that the endpoint ranked beside it, best first.

    `ids` are the token ids of those, where the endpoint tells them: vLLM and llama.cpp do.
    """

    token: str
    logprob: float
    top: tuple[tuple[str, float], ...] = ()
    ids: tuple[int | None, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Completion:
    """What came of one request.

    Attributes:
        status: "ok": `text` is an answer. "refused": a content filter, or the model said no. "empty": no text but white
            space. "malformed": not JSON, or not a completion. "http_error": another status than 2xx, or no connection.
            "timeout". "cancelled": never finished.
        text: The answer; empty unless `status` is "ok", so that nothing else can be taken for one.
        logprobs: One entry per generated token; None where the endpoint gave none. Kept for "empty" too, where the
            first token's alternatives can still be read.
        usage: Tokens as the endpoint counted them (0 where it did not), and calls: every attempt is one; a cached
            completion has no call.
        finish_reason: As the endpoint gave it: "stop", "length", ...
        reasoned: The endpoint reasoned before the content, and keeps that apart; none of it is in `text`.
        cached: Nothing was asked for this: it came from the cache, or from an equal request of the same run.
        attempts: Calls made for this in this run; 0 if cached.
        latency_s: Seconds of the last call; of the original one if cached.
        http_status: Status code of the last response; None if there was none, and if cached.
        retry_after_s: Seconds after which a server that refused wants to be asked again; None: it didn't say.
        detail: What went wrong, or the words of the refusal.
        key: Under which the response is cached; empty before it is known.
    """

    status: CompletionStatus
    text: str = ""
    logprobs: tuple[TokenLogprob, ...] | None = None
    prompt_tokens: int = 0
    completion_tokens: int = 0
    finish_reason: str | None = None
    reasoned: bool = False
    cached: bool = False
    attempts: int = 0
    latency_s: float = 0.0
    http_status: int | None = None
    retry_after_s: float | None = None
    detail: str = ""
    key: str = ""

    @property
    def cut_off(self) -> bool:
        """Whether the text ends because there was no room for more."""
        return _reason_in(self.finish_reason, _CUT_OFF)

    @property
    def usage(self) -> Usage:
        """What this cost. A cached completion costs no call, and its tokens are counted apart."""
        if self.cached:
            return Usage(self.prompt_tokens, self.completion_tokens, calls=1).as_cached()
        return Usage(self.prompt_tokens, self.completion_tokens, self.attempts)


def read_response(raw: str) -> Completion:
    """Reads the body of a successful response.

    Returns:
        A completion with status "ok", "refused" or "empty".

    Raises:
        MalformedResponse: cut off, not JSON, or not a chat completion.
    """
    try:
        response = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise MalformedResponse(f"not JSON: {error}; it ends with {raw[-40:]!r}") from error
    choice = _first_choice(response)
    _refuse_failed(choice)
    message = _object_of(choice.get("message"), "choices[0].message")
    reason = choice.get("finish_reason") or choice.get("native_finish_reason")
    usage = response.get("usage")
    prompt_tokens, completion_tokens = _usage_of(usage)
    refusal = _text_of(message.get("refusal"), "choices[0].message.refusal").strip() or _refusal_part(message)
    text = _text_of(message.get("content"), "choices[0].message.content")
    status: CompletionStatus = "ok" if text.strip() else "empty"
    if refusal or _reason_in(reason, _FILTERED):
        status = "refused"
    return Completion(
        status=status,
        text=text if status == "ok" else "",
        logprobs=None if status == "refused" else _logprobs_of(choice.get("logprobs")),
        prompt_tokens=prompt_tokens,
        completion_tokens=completion_tokens,
        finish_reason=reason if isinstance(reason, str) else None,
        reasoned=_has_reasoning(message, usage),
        detail=(refusal or str(reason)) if status == "refused" else "",
    )


def _refuse_failed(choice: Mapping[str, object]) -> None:
    """Raises where generating failed midway, whatever text there is.

    Raises:
        MalformedResponse: the choice has an error, or says that it ended with one.
    """
    error = choice.get("error")
    if error or _reason_in(choice.get("finish_reason"), _FAILED):
        said = error.get("message") if isinstance(error, dict) else error
        why = str(said or choice.get("finish_reason"))[:_DETAIL_LENGTH]
        raise MalformedResponse(f"the endpoint says that generating failed: {why}")


def _reason_in(reason: object, reasons: frozenset[str]) -> bool:
    """Whether a reason is one of these, as `MAX_TOKENS`, `max-tokens` or `FinishReason.MAX_TOKENS` too."""
    if not isinstance(reason, str):
        return False
    name = reason.strip().lower().rpartition(".")[2].replace("-", "_").replace(" ", "_")
    return name.removeprefix("finish_reason_") in reasons


def _refusal_part(message: Mapping[str, object]) -> str:
    """The words of a refusal that stands as a part of the content; empty: there is none."""
    content = message.get("content")
    parts = [part for part in content if isinstance(part, dict)] if isinstance(content, list) else []
    return "".join(str(part.get("refusal") or "") for part in parts if part.get("type") == "refusal").strip()


def _has_reasoning(message: Mapping[str, object], usage: object) -> bool:
    """Whether the endpoint reasoned apart from the content: by what it shows of it, or by its count of tokens."""
    if any(message.get(name) for name in ("reasoning_content", "reasoning", "reasoning_details", "thinking")):
        return True
    content = message.get("content")
    if isinstance(content, list) and any(
        isinstance(part, dict) and part.get("type") in ("thinking", "reasoning") for part in content
    ):
        return True
    details = usage.get("completion_tokens_details") if isinstance(usage, dict) else None
    count = details.get("reasoning_tokens") if isinstance(details, dict) else None
    return isinstance(count, int) and count > 0


def read_error(http_status: int, raw: str) -> Completion:
    """Reads the body of a response with an error status: "refused" if a content filter says so, else "http_error"."""
    codes: list[object] = []
    message = raw.strip()
    try:
        response = json.loads(raw)
    except (ValueError, RecursionError):
        response = None
    if isinstance(response, dict):
        error = response.get("error")
        fields = error if isinstance(error, dict) else response
        inner = fields.get("innererror")
        codes = [fields.get("code"), fields.get("type"), inner.get("code") if isinstance(inner, dict) else None]
        found = error if isinstance(error, str) else fields.get("message") or fields.get("detail")
        message = found if isinstance(found, str) else message
    no_such_path = http_status == 404 and "model" not in message.lower()
    hint = "; is the address complete? Most end in /v1" if no_such_path else ""
    filtered = any(str(code).lower() in _FILTER_CODES for code in codes)
    return Completion(
        status="refused" if http_status in _FILTER_STATUSES and filtered else "http_error",
        http_status=http_status,
        detail=f"HTTP {http_status}: {message[:_DETAIL_LENGTH]}{hint}",
    )


def _as_dict(value: object) -> object:
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"{type(value).__name__} is no JSON type")


def _first_choice(response: object) -> Mapping[str, object]:
    fields = _object_of(response, "the response")
    choices = fields.get("choices")
    if not isinstance(choices, list) or not choices:
        error = f"; it says {str(fields['error'])[:_DETAIL_LENGTH]}" if "error" in fields else ""
        raise MalformedResponse(f"choices must be a list of at least 1 choice, got {choices!r}{error}")
    return _object_of(choices[0], "choices[0]")


def _object_of(value: object, name: str) -> Mapping[str, object]:
    if not isinstance(value, dict):
        raise MalformedResponse(f"{name} must be an object, got {type(value).__name__}")
    return value


def _text_of(value: object, name: str) -> str:
    """A string, nothing, or a list of parts of which the text ones count."""
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    if isinstance(value, list):
        parts = (part.get("text") for part in value if isinstance(part, dict) and part.get("type", "text") in _TEXTS)
        return "".join(part for part in parts if isinstance(part, str))
    raise MalformedResponse(f"{name} must be a text, got {type(value).__name__}")


def _usage_of(value: object) -> tuple[int, int]:
    counts = value if isinstance(value, dict) else {}
    prompt, completion = (counts.get(name) for name in ("prompt_tokens", "completion_tokens"))
    return (prompt if isinstance(prompt, int) else 0, completion if isinstance(completion, int) else 0)


def _logprobs_of(value: object) -> tuple[TokenLogprob, ...] | None:
    content = value.get("content") if isinstance(value, dict) else None
    if content is None:
        return None
    if not isinstance(content, list):
        raise MalformedResponse(f"choices[0].logprobs.content must be a list, got {type(content).__name__}")
    tokens = []
    for position, entry in enumerate(content):
        name = f"choices[0].logprobs.content[{position}]"
        top = _object_of(entry, name).get("top_logprobs") or []
        if not isinstance(top, list):
            raise MalformedResponse(f"{name}.top_logprobs must be a list, got {type(top).__name__}")
        told = [
            (*_token_of(item, f"{name}.top_logprobs[{rank}]"), _token_id(item))
            for rank, item in enumerate(top)
            if not _is_untold(item)
        ]
        told.sort(key=lambda each: -each[1])
        pairs = tuple((token, log_prob) for token, log_prob, _ in told)
        ids = tuple(id for *_, id in told)
        if _is_untold(entry):  # the token is there all the same: it may stand in the list, and the next ones count
            entry = dict(entry, logprob=dict(pairs).get(str(entry.get("token")), -math.inf))
        tokens.append(TokenLogprob(*_token_of(entry, name), pairs, ids if any(id is not None for id in ids) else ()))
    return tuple(tokens)


def _token_id(entry: object) -> int | None:
    """Of a listed token: llama.cpp's `id`, or the number that vLLM writes in the token's place when asked to."""
    fields = entry if isinstance(entry, dict) else {}
    id, token = fields.get("id"), fields.get("token")
    if isinstance(id, int) and not isinstance(id, bool):
        return id
    number = token.removeprefix("token_id:") if isinstance(token, str) and token.startswith("token_id:") else ""
    return int(number) if number.isdecimal() else None


def _is_untold(entry: object) -> bool:
    """Whether a server says of a token that it won't tell its log-probability."""
    return isinstance(entry, dict) and "logprob" in entry and entry["logprob"] is None


def _token_of(entry: object, name: str) -> tuple[str, float]:
    fields = _object_of(entry, name)
    token, logprob = fields.get("token"), fields.get("logprob")
    if not isinstance(token, str):
        raise MalformedResponse(f"{name}.token must be a text, got {token!r}")
    if isinstance(logprob, bool) or not isinstance(logprob, int | float) or math.isnan(logprob):
        raise MalformedResponse(f"{name}.logprob must be a number, got {logprob!r}")
    return token, float(logprob)
