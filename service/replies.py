"""What several routes share: fitting values to a schema, naming a reply, documenting bodies and errors."""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from .errors import ServiceError
from .schemas.base import ErrorReply

M = TypeVar("M", bound=BaseModel)

# How other servers let a text be sampled, which no API here has: value by value what asks for nothing.
_SAMPLING_OF_OTHERS: dict[str, tuple[object, ...]] = {
    "top_k": (-1,),
    "min_p": (),
    "typical_p": (1,),
    "repetition_penalty": (1,),
    "length_penalty": (1,),
    "min_tokens": (),
    "ignore_eos": (),
    "bad_words": (),
    "stop_token_ids": (),
    "use_beam_search": (),
    "prompt_logprobs": (),
    "structured_outputs": (),
    "guided_json": (),
    "guided_regex": (),
    "guided_choice": (),
    "guided_grammar": (),
    "chat_template": (),
    "continue_final_message": (),
    "modalities": (["text"],),
}

# For OpenAPI: every route may give these.
ERRORS: dict[int | str, dict[str, Any]] = {
    status: {"model": ErrorReply, "description": words}
    for status, words in {
        400: "The body is no JSON object.",
        401: "No key, or a wrong one.",
        403: "The key is not an administrator's.",
        404: "No such model.",
        408: "The body did not come in time.",
        413: "The body is too large.",
        415: "The body is packed in a way that is not known here.",
        422: "The request can't be served as it is; the message says why.",
        429: "Too many requests wait; see retry-after.",
        500: "The service or the model failed.",
        501: "An optional part isn't installed.",
        502: "The upstream failed, or the model's reply can't be used.",
        503: "The model isn't there (yet), or the service shuts down.",
        504: "The upstream did not answer in time.",
    }.items()
}


def new_id(kind: str) -> str:
    """A name for a reply."""
    return f"{kind}-{secrets.token_hex(12)}"


def read_as(model: type[M], value: object, param: str = "") -> M:
    """A parsed body, or a field of it, as its schema says.

    Raises:
        ServiceError: 422 it doesn't fit.
    """
    try:
        return model.model_validate(value)
    except ValidationError as error:
        raise unfit(error.errors(), param) from None


def refuse_fields(
    given: Mapping[str, object],
    names: Iterable[str],
    harmless: Mapping[str, tuple[object, ...]] | None = None,
    who: str = "a local model",
) -> None:
    """Refuses fields that can't be honoured; dropping them in silence would change what the client gets.

    Args:
        given: The body.
        names: Of what is refused, beside how other servers let a text be sampled.
        harmless: Values of these that ask for nothing, beside null, 0, false and what is empty.
        who: Can't do it.

    Raises:
        ServiceError: 422.
    """
    asks_nothing = _SAMPLING_OF_OTHERS | dict(harmless or {})
    for name in (*names, *_SAMPLING_OF_OTHERS):
        value = given.get(name)
        if value and value not in asks_nothing.get(name, ()):
            raise ServiceError(422, "unsupported_parameter", f"{who} can't do {name!r}", param=name)


def unfit(errors: Any, param: str = "") -> ServiceError:
    """The error for fields that don't fit; says where and why, and shows nothing of what was sent."""
    places = [".".join(str(part) for part in e["loc"] if part != "body") for e in errors]
    where = [".".join(filter(None, (param, place))) for place in places]
    words = "; ".join(f"{place or 'the body'}: {e['msg']}" for place, e in list(zip(where, errors, strict=True))[:5])
    return ServiceError(422, "invalid_request", words, param=where[0] if where else None)


def body_of(name: str) -> dict[str, Any]:
    """For OpenAPI: a route that reads its body itself, of this schema."""
    schema = {"$ref": f"#/components/schemas/{name}"}
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}
