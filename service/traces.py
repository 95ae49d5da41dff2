"""Spans of a request, beside the one that the framework makes of it: its methods, its calls upstream, its batches.

Without a collector that the OTEL_* variables name, spans are nobody's and cost next to nothing. They hold no texts.

    POST /v1/chat/completions     fairpos.methods, .order_free, .views, .calls, .prompt_tokens, ...
      fairpos.batch               on a local model: .kind, .calls of this request, .batch_calls of all
      fairpos.upstream_call       of a method: .kind, the status of the reply
      fairpos.relay               of a request that is passed on
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from opentelemetry import context, trace
from opentelemetry.trace import Span, SpanKind, Status, StatusCode

_ENDPOINTS = (
    "OTEL_EXPORTER_OTLP_ENDPOINT",
    "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
    "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT",
)
_tracer = trace.get_tracer("fairpos")


def collector_is_named() -> bool:
    """Whether the operator's OTEL_* variables name a collector, and don't turn it off."""
    return (
        any(os.environ.get(name) for name in _ENDPOINTS) and os.environ.get("OTEL_SDK_DISABLED", "").lower() != "true"
    )


def describe_request(**attributes: str | int) -> None:
    """Writes what was done onto the span of the request that is being answered."""
    span = trace.get_current_span()
    if span.is_recording():
        span.set_attributes({f"fairpos.{name}": value for name, value in attributes.items()})


@contextmanager
def upstream_span(name: str, **attributes: str | int) -> Iterator[Span]:
    """The span of something that is asked of the upstream."""
    named = {f"fairpos.{key}": value for key, value in attributes.items()}
    with _tracer.start_as_current_span(f"fairpos.{name}", kind=SpanKind.CLIENT, attributes=named) as span:
        yield span


def note_status(span: Span, status: str, http_status: int | None) -> None:
    """How what was asked came out."""
    if http_status is not None:
        span.set_attribute("http.response.status_code", http_status)
    span.set_attribute("fairpos.status", status)
    if status not in ("ok", "partial"):
        span.set_status(Status(StatusCode.ERROR, status))


def request_context() -> context.Context:
    """Where the spans of this request belong, for a thread that works for it later."""
    return context.get_current()


def note_batch(request: context.Context, began_ns: int, ended_ns: int, **attributes: str | int) -> None:
    """A span of a batch, in the trace of one of the requests that had calls in it."""
    named = {f"fairpos.{name}": value for name, value in attributes.items()}
    span = _tracer.start_span("fairpos.batch", context=request, start_time=began_ns, attributes=named)
    span.end(ended_ns)
