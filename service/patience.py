"""How long a connection may take for the head of a request, and how large that may be."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from .errors import ServiceError

_LARGEST_HEAD = 2**16


class PatientProtocol(HttpToolsProtocol):
    """uvicorn's protocol, which itself waits for ever: a head that is half sent is given up, with a 408 or a 431."""

    header_timeout_s = 10.0

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._head_timer: asyncio.TimerHandle | None = None
        self._head_bytes = 0

    @classmethod
    def waiting(cls, header_timeout_s: float) -> type[PatientProtocol]:
        """The protocol with this patience; uvicorn wants a class."""
        return type(cls.__name__, (cls,), {"header_timeout_s": header_timeout_s})

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Waits for the first head."""
        super().connection_made(transport)
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Waits no more."""
        self._stop_waiting()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Waits from the first byte of a further head on."""
        if self._head_timer is None and self._is_idle():
            self._await_head()
        self._head_bytes += len(data)
        super().data_received(data)
        if self._head_timer is not None and self._head_bytes > _LARGEST_HEAD:
            self._refuse_head(ServiceError(431, "head_too_large", f"the head is larger than {_LARGEST_HEAD} bytes"))

    def on_headers_complete(self) -> None:
        """The head is there."""
        self._stop_waiting()
        super().on_headers_complete()

    def _is_idle(self) -> bool:
        return self.cycle is None or self.cycle.response_complete

    def _await_head(self) -> None:
        self._head_bytes = 0
        self._head_timer = self.loop.call_later(
            self.header_timeout_s,
            self._refuse_head,
            ServiceError(408, "head_timeout", f"the head did not come within {self.header_timeout_s:g} s"),
        )

    def _stop_waiting(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _refuse_head(self, error: ServiceError) -> None:
        self._stop_waiting()
        if self.transport.is_closing():
            return
        content = json.dumps(error.body).encode()
        head = b"content-type: application/json\r\nconnection: close\r\ncontent-length: %d\r\n\r\n" % len(content)
        self.transport.write(STATUS_LINE[error.status] + head + content)
        self.transport.close()
