"""Packed bodies: requests are unpacked within the limit, streams of the upstream piece by piece."""

from __future__ import annotations

import zlib

from .errors import ServiceError

# zlib's window bits: with 32 it finds out itself whether the head is gzip's or zlib's.
_WINDOW_BITS = {"gzip": 31, "x-gzip": 31, "deflate": 47}


class Decoder:
    """Unpacks a stream in pieces.

    Args:
        window_bits: See zlib.
    """

    def __init__(self, window_bits: int) -> None:
        self._stream = zlib.decompressobj(window_bits)

    @classmethod
    def of(cls, encoding: str) -> Decoder | None:
        """The decoder of a content encoding; None: none that is known here."""
        bits = _WINDOW_BITS.get(encoding)
        return None if bits is None else cls(bits)

    def feed(self, data: bytes) -> bytes:
        """What a piece unpacks to.

        Raises:
            zlib.error: it isn't of this encoding.
        """
        return self._stream.decompress(data)

    @property
    def complete(self) -> bool:
        """Whether its end has come."""
        return self._stream.eof


def unpacked(content: bytes, encoding: str, limit: int) -> bytes:
    """A request's body as it was before it was packed.

    Args:
        content: As it came.
        encoding: Its Content-Encoding, in lower case; empty: none.
        limit: Bytes that it may have unpacked.

    Raises:
        ServiceError: 413 it is larger; 415 an encoding that isn't known here; 400 it isn't of its encoding.
    """
    if encoding in ("", "identity"):
        return content
    bits = _WINDOW_BITS.get(encoding)
    if bits is None:
        known = ", ".join(_WINDOW_BITS)
        raise ServiceError(415, "unsupported_encoding", f"got a body packed with {encoding!r}; known are {known}")
    stream = zlib.decompressobj(bits)
    try:
        found = stream.decompress(content, limit + 1)
    except zlib.error as error:
        raise ServiceError(400, "invalid_encoding", f"the body can't be unpacked as {encoding}: {error}") from None
    if len(found) > limit:
        raise ServiceError(413, "body_too_large", f"the body unpacks to more than {limit} bytes")
    if not stream.eof:
        raise ServiceError(400, "invalid_encoding", f"the body, packed with {encoding}, is cut off")
    return found
