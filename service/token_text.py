"""Tokens of a local model as text and bytes, for whoever asks for log-probabilities."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from transformers import PreTrainedTokenizerBase

from fairpos.backends.token_log_probs import TokenLogProb

_ONE_BYTE = re.compile(r"<0x([0-9A-Fa-f]{2})>")


def token_bytes(tokenizer: PreTrainedTokenizerBase, token: int) -> bytes:
    """What a token stands for; a token may be a part of a character, and special ones stand for their name."""
    piece = tokenizer.convert_ids_to_tokens(token)
    if piece is None:  # a row of the output matrix that the tokenizer doesn't have
        return b""
    if token in _special_ids(tokenizer):
        return str(piece).encode()
    letters = _byte_letters(tokenizer)
    if letters and all(letter in letters for letter in piece):
        return bytes(letters[letter] for letter in piece)
    byte = _ONE_BYTE.fullmatch(piece)
    if byte is not None:
        return bytes([int(byte[1], 16)])
    return str(piece).replace("▁", " ").encode()


def token_text(tokenizer: PreTrainedTokenizerBase, token: int) -> str:
    """The same as text; what is no whole character shows as a replacement character."""
    return token_bytes(tokenizer, token).decode(errors="replace")


def shown_log_probs(tokenizer: PreTrainedTokenizerBase, tokens: Sequence[TokenLogProb]) -> list[dict[str, Any]]:
    """Log-probabilities as OpenAI's chats show them: each token's own, and those of its likeliest alternatives."""

    def shown(token: int, log_prob: float) -> dict[str, Any]:
        content = token_bytes(tokenizer, token)
        return {"token": content.decode(errors="replace"), "logprob": log_prob, "bytes": list(content)}

    return [
        {
            **shown(each.token, 0.0 if each.log_prob is None else each.log_prob),
            "top_logprobs": [shown(token, log_prob) for token, log_prob in each.top],
        }
        for each in tokens
    ]


def tokens_within(
    tokenizer: PreTrainedTokenizerBase, tokens: Sequence[TokenLogProb], text: str
) -> Sequence[TokenLogProb]:
    """Those of a text's tokens that begin within its first characters: a stop text's own don't."""
    room = len(text.encode())
    for place, each in enumerate(tokens):
        if room <= 0:
            return tokens[:place]
        if each.token not in _special_ids(tokenizer):  # they aren't written
            room -= len(token_bytes(tokenizer, each.token))
    return tokens


@lru_cache(maxsize=8)
def _special_ids(tokenizer: PreTrainedTokenizerBase) -> frozenset[int]:
    return frozenset(tokenizer.all_special_ids)


@lru_cache(maxsize=8)
def _byte_letters(tokenizer: PreTrainedTokenizerBase) -> dict[str, int]:
    """The letter that stands for each byte, in tokenizers that write bytes as letters (GPT-2's way); else nothing."""
    decoder = getattr(getattr(tokenizer, "backend_tokenizer", None), "decoder", None)
    if decoder is None or b"ByteLevel" not in bytes(decoder.__getstate__()):
        return {}
    shown = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    hidden = [byte for byte in range(256) if byte not in shown]
    return {chr(byte): byte for byte in shown} | {chr(256 + i): byte for i, byte in enumerate(hidden)}
