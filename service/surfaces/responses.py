"""OpenAI's Responses: text in, one message out, nothing stored."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from itertools import count
from typing import TYPE_CHECKING, Any, Self

from fairpos.types import Turn

from ..annotations import annotations_of
from ..choices import Choice, Piece, Told
from ..errors import ServiceError
from ..history import read_history
from ..replies import new_id, read_as, refuse_fields
from ..schemas.options import Done, Options
from ..schemas.responses import ResponsesRequest
from ..settings import Settings
from ..wanted import Sampling, Wanted, schema_of
from .base import Surface, named_event

if TYPE_CHECKING:
    from fairpos.backends.token_log_probs import TokenLogProb

_ROLES = {"user": "user", "assistant": "assistant", "system": "system", "developer": "system"}
_TEXTS = ("input_text", "output_text", "text")
_REFUSED = ("tools", "tool_choice", "previous_response_id", "conversation", "background", "prompt", "reasoning",
            "truncation", "max_tool_calls", "context_management")  # fmt: skip
_HARMLESS: dict[str, tuple[object, ...]] = {
    "tool_choice": ("none", "auto"),
    "truncation": ("disabled",),
    "reasoning": ({"effort": None, "summary": None}, {"effort": "none"}, {"effort": None}, {"summary": None}),
}


_LOG_PROBS = "message.output_text.logprobs"
_INCLUDED = (_LOG_PROBS, "reasoning.encrypted_content")  # there is no reasoning, so that nothing of it is missing


class Responses(Surface):
    """One request of POST /v1/responses."""

    messages_field = "input"

    def __init__(self, body: Mapping[str, Any], model: str, wanted: Wanted) -> None:
        super().__init__(body, model, wanted)
        self._id, self._item, self._created = new_id("resp"), new_id("msg"), int(time.time())
        self._numbers = count()

    @classmethod
    def read(cls, body: Mapping[str, Any], model: str, settings: Settings) -> Self:
        """See `Surface`."""
        read = read_as(ResponsesRequest, body)
        refuse_fields(body, _REFUSED, _HARMLESS, "this service")
        _check_included(read)
        text = read.text or {}
        for name in text.keys() - {"format"}:
            if text[name] not in (None, "medium"):
                raise ServiceError(422, "unsupported_parameter", f"this service can't do text.{name}", param="text")
        messages = [{"role": "user", "content": read.input}] if isinstance(read.input, str) else read.input
        for place, item in enumerate(messages):
            if item.get("type", "message") != "message":
                raise ServiceError(
                    422, "unsupported_content", f"input.{place} is a {item['type']!r}; only messages can be read here",
                    param=f"input.{place}",
                )  # fmt: skip
        history = read_history(messages, body, settings, field="input", roles=_ROLES, text_types=_TEXTS)
        told = (Turn("system", read.instructions), *history.turns) if read.instructions else history.turns
        notes = ("store: nothing is stored here",) if read.store else ()
        wanted = Wanted(
            query=history.query,
            history=told,
            documents=history.documents,
            options=read.fairpos or Options(),
            sampling=Sampling(
                max_tokens=read.max_output_tokens,
                temperature=read.temperature or 0.0,
                top_p=read.top_p or 1.0,
                log_probs=(read.top_logprobs or 0) if _LOG_PROBS in (read.include or ()) else None,
                schema=schema_of(text.get("format"), "text.format"),
            ),
            notes=notes,
        )
        return cls(body, model, wanted)

    def whole(self, told: Told) -> dict[str, Any]:
        """See `Surface`."""
        [choice] = told.choices
        cut = choice.finish == "length"
        return {
            **self._shared_fields,
            "status": "incomplete" if cut else "completed",
            "incomplete_details": {"reason": "max_output_tokens"} if cut else None,
            "output": [self._message_item(choice)],
            "usage": {
                "input_tokens": told.usage.prompt_tokens,
                "input_tokens_details": {"cached_tokens": 0},
                "output_tokens": told.usage.completion_tokens,
                "output_tokens_details": {"reasoning_tokens": 0},
                "total_tokens": told.usage.total_tokens,
            },
        }

    def begin(self, what: Done) -> Iterator[bytes]:
        """See `Surface`."""
        blank: dict[str, Any] = {"status": "in_progress", "incomplete_details": None, "output": [], "usage": None}
        response = {**self._shared_fields, **blank, "fairpos": what.model_dump()}
        yield self._numbered_event("response.created", response=response)
        yield self._numbered_event("response.in_progress", response=response)
        item = {"id": self._item, "type": "message", "status": "in_progress", "role": "assistant", "content": []}
        yield self._numbered_event("response.output_item.added", output_index=0, item=item)
        yield self._part_event("response.content_part.added", part=_text_part(""))

    def piece(self, piece: Piece) -> Iterator[bytes]:
        """See `Surface`."""
        yield self._part_event(
            "response.output_text.delta", delta=piece.text, logprobs=self._shown_log_probs(piece.log_probs)
        )

    def end(self, told: Told) -> Iterator[bytes]:
        """See `Surface`."""
        [choice] = told.choices
        for index, annotation in enumerate(self._flat_annotations(choice)):
            yield self._part_event(
                "response.output_text.annotation.added", annotation_index=index, annotation=annotation
            )
        shown = self._shown_log_probs(choice.log_probs)
        yield self._part_event("response.output_text.done", text=choice.text, logprobs=shown)
        yield self._part_event("response.content_part.done", part=self._part_of(choice))
        yield self._numbered_event("response.output_item.done", output_index=0, item=self._message_item(choice))
        whole = {**self.whole(told), "fairpos": told.done.model_dump()}
        yield self._numbered_event(f"response.{whole['status']}", response=whole)

    def failed(self, error: ServiceError) -> bytes:
        """See `Surface`."""
        return self._numbered_event("error", code=error.code, message=error.message, param=error.param)

    def _message_item(self, choice: Choice) -> dict[str, Any]:
        status = "incomplete" if choice.finish == "length" else "completed"
        content = [self._part_of(choice)]
        return {"id": self._item, "type": "message", "status": status, "role": "assistant", "content": content}

    def _part_of(self, choice: Choice) -> dict[str, Any]:
        return _text_part(choice.text, self._flat_annotations(choice), self._shown_log_probs(choice.log_probs))

    def _shown_log_probs(self, log_probs: Sequence[TokenLogProb]) -> list[dict[str, Any]]:
        """Log-probabilities, where they are wanted."""
        if not log_probs or self.tokenizer is None:
            return []
        from ..token_text import shown_log_probs

        return shown_log_probs(self.tokenizer, log_probs)

    def _flat_annotations(self, choice: Choice) -> list[dict[str, Any]]:
        """Citations as this API writes them: flat, and of a file only where it begins."""
        found = []
        for annotation in annotations_of(choice.text, choice.output, self.wanted.documents):
            kind = str(annotation["type"])
            inner = dict(annotation[kind])
            if kind == "file_citation":
                inner = {"file_id": inner["file_id"], "filename": inner["filename"], "index": inner["start_index"]}
            found.append({"type": kind, **inner})
        return found

    def _part_event(self, kind: str, **fields: Any) -> bytes:
        return self._numbered_event(kind, item_id=self._item, output_index=0, content_index=0, **fields)

    def _numbered_event(self, kind: str, **fields: Any) -> bytes:
        return named_event({"type": kind, "sequence_number": next(self._numbers), **fields})

    @property
    def _shared_fields(self) -> dict[str, Any]:
        """What the reply repeats of the request."""
        sampling = self.wanted.sampling
        format = (self.body.get("text") or {}).get("format") or {"type": "text"}
        return {
            "id": self._id,
            "object": "response",
            "created_at": self._created,
            "model": self.model,
            "error": None,
            "instructions": self.body.get("instructions"),
            "max_output_tokens": sampling.max_tokens,
            "metadata": self.body.get("metadata") or {},
            "parallel_tool_calls": True,
            "previous_response_id": None,
            "reasoning": {"effort": None, "summary": None},
            "store": False,
            "temperature": sampling.temperature,
            "top_logprobs": sampling.log_probs or 0,
            "text": {"format": format},
            "tool_choice": "auto",
            "tools": [],
            "top_p": sampling.top_p,
            "truncation": "disabled",
        }


def _check_included(read: ResponsesRequest) -> None:
    """Refuses what can't be told along with the text.

    Raises:
        ServiceError: 422.
    """
    for name in read.include or ():
        if name not in _INCLUDED:
            raise ServiceError(422, "unsupported_parameter", f"this service can't do include {name!r}", param="include")
    if read.top_logprobs and _LOG_PROBS not in (read.include or ()):
        raise ServiceError(
            422, "invalid_request", f"top_logprobs needs {_LOG_PROBS!r} in include", param="top_logprobs"
        )


def _text_part(
    text: str, annotations: Sequence[dict[str, Any]] = (), log_probs: Sequence[dict[str, Any]] = ()
) -> dict[str, Any]:
    return {"type": "output_text", "text": text, "annotations": list(annotations), "logprobs": list(log_probs)}
