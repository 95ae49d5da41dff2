"""Calls as an endpoint gets them, and completions as the replies that they are. Pure: nothing is sent here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from fairpos.backends.base import MORE_TOKENS, Decoding, Generate, Reply, Score
from fairpos.backends.completion import JSON, Completion
from fairpos.backends.exact_labels import ExactScores
from fairpos.backends.label_logprobs import label_log_probs
from fairpos.backends.resolution import SINGLE, of_listed
from fairpos.errors import UnsupportedBackend
from fairpos.types import Turn

_SCORED_TOKENS = 4  # room for a bracket before the label, and for a label of two or three tokens


def messages_of(text: str, history: Sequence[Turn] = ()) -> list[JSON]:
    """The conversation that ends with the user's text."""
    return [{"role": turn.role, "content": turn.content} for turn in (*history, Turn("user", text))]


def sampling_fields(decoding: Decoding) -> dict[str, JSON]:
    """Body fields for generated text.

    Raises:
        UnsupportedBackend: the decoding has transformers' own objects.
    """
    local = ("generation_config", "logits_processor", "stopping_criteria", "streamer")
    given = [name for name in local if getattr(decoding, name) is not None]
    if given:
        raise UnsupportedBackend(f"{', '.join(given)} of the decoding can be used with a local model only")
    options: dict[str, JSON] = {"temperature": decoding.temperature, "max_tokens": decoding.max_new_tokens}
    if decoding.temperature > 0:
        options |= {"top_p": decoding.top_p, "seed": decoding.seed}
    if decoding.stop:
        options["stop"] = list(decoding.stop)
    return options


def listing_fields(alternatives: int) -> dict[str, JSON]:
    """Body fields of a call whose first tokens' alternatives are read."""
    return {"temperature": 0.0, "max_tokens": _SCORED_TOKENS, "logprobs": True, "top_logprobs": alternatives}


def label_words(call: Score) -> tuple[str, ...]:
    """Replies as words: local ones are written as they continue a prompt, with a space or a bracket."""
    return tuple(reply.strip(" [].") for reply in call.replies)


def asking_for_labels(call: Score) -> str:
    """The user's text where a reply can't be made to start: the allowed replies are said in words."""
    return f"{call.prompt.text}\n\nReply with one of these and nothing else: {', '.join(label_words(call))}"


def reply_of(call: Generate | Score, completion: Completion) -> Reply:
    """What a completion says to a call."""
    reply = plain_reply(completion)
    if isinstance(call, Generate):
        return _generated_reply(reply, completion)
    if completion.status not in ("ok", "empty"):
        return reply
    if completion.reasoned:
        why = "the endpoint reasons before it replies, so that what it lists isn't the distribution over replies"
        return replace(reply, status="unparsable", detail=why)
    found = label_log_probs(completion.logprobs or (), label_words(call))
    if found is None:
        why = "no listed alternative is one of the replies" if completion.logprobs else "the endpoint lists no logprobs"
        return replace(reply, status="empty" if completion.status == "empty" else "unparsable", detail=why)
    resolution = of_listed(p for token in completion.logprobs or () for _, p in token.top)
    return _scored_reply(reply, found.log_probs, found.bounded, resolution)


def exact_reply(scores: ExactScores) -> Reply:
    """What the calls of an exactly scored reply say."""
    if scores.failed is not None:
        reply = replace(plain_reply(scores.failed), usage=scores.usage, key=scores.key, text="")
        if reply.status != "ok":
            return reply
        return replace(reply, status="unparsable", detail="the endpoint lists no logprobs of tokens by their ids")
    return _scored_reply(Reply(usage=scores.usage, key=scores.key), scores.log_probs, scores.bounded, SINGLE)


def plain_reply(completion: Completion) -> Reply:
    """The reply with nothing of it read yet."""
    return Reply(
        completion.status,
        completion.text,
        usage=completion.usage,
        detail=completion.detail,
        started=False,
        key=completion.key,
        http_status=completion.http_status,
        retry_after_s=completion.retry_after_s,
    )


def merged(body: Mapping[str, JSON], extra: Mapping[str, JSON]) -> dict[str, JSON]:
    """A body with fields of the user's own: they replace, None takes a field out, and objects are joined."""
    found: dict[str, JSON] = dict(body)
    for name, value in extra.items():
        ours = found.get(name)
        found[name] = {**ours, **value} if isinstance(ours, Mapping) and isinstance(value, Mapping) else value
    return {name: value for name, value in found.items() if value is not None}


def _scored_reply(reply: Reply, log_probs: tuple[float, ...], bounded: tuple[bool, ...], resolution: float) -> Reply:
    best = max(log_probs)
    return replace(
        reply,
        status="partial" if any(bounded) else "ok",
        log_probs=log_probs,
        greedy=tuple(p == best for p in log_probs),
        bounded=bounded if any(bounded) else (),
        resolution=resolution,
    )


def _generated_reply(reply: Reply, completion: Completion) -> Reply:
    """A generated text with why it ends."""
    if completion.status == "empty" and completion.cut_off:
        spent = f"all {completion.completion_tokens} tokens" if completion.completion_tokens else "all tokens"
        why = f"{spent} were spent on reasoning" if completion.reasoned else f"{spent} gave no text"
        return replace(reply, status="cut_off", detail=f"{why}; {MORE_TOKENS}")
    if completion.status == "empty" and completion.reasoned:
        return replace(reply, detail="nothing follows the reasoning")
    return replace(reply, finish="length" if completion.cut_off else "stop") if completion.status == "ok" else reply
