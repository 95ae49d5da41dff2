"""One batch, many generations: each row samples, stops, streams and is cancelled on its own.

transformers' `generate` decodes the batch; a processor draws each row's token from that row's own random generator, and
a stopping criterion ends each row at its own limit. So requests of different users share a batch, and what one of them
gets doesn't depend on who the others are.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from transformers import LogitsProcessor, PreTrainedTokenizerBase, StoppingCriteria

from fairpos.backends.base import Decoding, Finish


class GrowingText:
    """The text of one generation as it grows.

    Args:
        decoding: Its limits and listener.
        tokenizer: Of the model.
        ends: Tokens that end the text.
    """

    def __init__(self, decoding: Decoding, tokenizer: PreTrainedTokenizerBase, ends: frozenset[int]) -> None:
        self.decoding = decoding
        self.tokens: list[int] = []
        self.text = ""  # what was given out
        self.finish: Finish | None = None
        self.stopped_by = ""
        self._tokenizer = tokenizer
        self._ends = ends
        self._held = ""  # decoded, but it may be the beginning of a stop text
        self._shown = self._read = 0  # tokens[_shown:_read] are the context in which the next ones are decoded
        for guide in decoding.guides:
            guide.begin()

    def take(self, token: int) -> None:
        """Takes the next token; `finish` is set when it was the last."""
        live = self.decoding.live
        if live is not None and live.cancelled():
            self.finish = "cancelled"
        elif token in self._ends:
            self.finish = "stop"
        else:
            self.tokens.append(token)
            for guide in self.decoding.guides:
                guide.take(token)
            self._decode_new()
            if self.finish is None and any(guide.is_complete for guide in self.decoding.guides):
                self.finish = "stop"
            if self.finish is None and len(self.tokens) >= self.decoding.max_new_tokens:
                self.finish = "length"
        if self.finish is not None:
            self._decode_new(last=True)

    def _decode_new(self, last: bool = False) -> None:
        known = self._text_between(self._shown, self._read)
        text = self._text_between(self._shown, len(self.tokens))
        # A character may be spread over several tokens; until it is whole it decodes to the replacement character.
        if len(text) > len(known) and (last or not text.endswith("�")):
            self._held += text[len(known) :]
            self._shown, self._read = self._read, len(self.tokens)
        found = [(at, stop) for stop in self.decoding.stop if (at := self._held.find(stop)) >= 0]
        if found:
            cut, self.stopped_by = min(found)
            self.finish = "stop"
            self._hand_over(self._held[:cut])
            self._held = ""
            return
        keep = 0 if last else _longest_overlap(self._held, self.decoding.stop)
        self._hand_over(self._held[: len(self._held) - keep])
        self._held = self._held[len(self._held) - keep :]

    def _text_between(self, start: int, end: int) -> str:
        return str(self._tokenizer.decode(self.tokens[start:end], skip_special_tokens=True))

    def _hand_over(self, piece: str) -> None:
        if not piece:
            return
        self.text += piece
        if self.decoding.live is not None and self.finish != "cancelled":
            self.decoding.live.on_text(piece)


def _longest_overlap(text: str, stops: Sequence[str]) -> int:
    """Length of the longest end of the text that begins a stop text."""
    longest = max((len(stop) - 1 for stop in stops), default=0)
    for length in range(min(longest, len(text)), 0, -1):
        if any(stop.startswith(text[-length:]) for stop in stops):
            return length
    return 0


class EachRowStops(StoppingCriteria):  # type: ignore[misc]
    """Hands each row its newest token, and says which rows have ended."""

    def __init__(self, rows: Sequence[GrowingText]) -> None:
        self.rows = rows

    def __call__(self, input_ids: Tensor, scores: Tensor | None, **kwargs: object) -> Tensor:  # noqa: ARG002
        """(B,) bool."""
        for row, token in zip(self.rows, input_ids[:, -1].tolist(), strict=True):
            if row.finish is None:
                row.take(token)
        return torch.tensor([row.finish is not None for row in self.rows], device=input_ids.device)


class EachRowGuided(LogitsProcessor):  # type: ignore[misc]
    """Shows each row's scores to its guides, the first first."""

    def __init__(self, rows: Sequence[GrowingText]) -> None:
        self._rows = {i: row for i, row in enumerate(rows) if row.decoding.guides}

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:  # noqa: ARG002
        """scores (B, V)."""
        if not self._rows:
            return scores
        scores = scores.clone()
        for i, row in self._rows.items():
            if row.finish is None:
                for guide in row.decoding.guides:
                    scores[i] = guide.narrow(scores[i])
        return scores


class EachRowSamples(LogitsProcessor):  # type: ignore[misc]
    """Draws each sampled row's token and leaves it as the only possible one; greedy rows stay as they are.

    A draw is the largest of log-probability plus Gumbel noise, which is a sample from the distribution.
    """

    def __init__(self, decodings: Sequence[Decoding]) -> None:
        self._rows = {i: d for i, d in enumerate(decodings) if d.temperature > 0}
        self._generators = {i: torch.Generator("cpu").manual_seed(d.seed or 0) for i, d in self._rows.items()}

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:  # noqa: ARG002
        """scores (B, V)."""
        if not self._rows:
            return scores
        scores = scores.clone()
        for i, decoding in self._rows.items():
            log_probs = torch.log_softmax(scores[i].double().cpu() / decoding.temperature, dim=-1)
            if decoding.top_p < 1:
                ordered, index = log_probs.sort(descending=True, stable=True)
                probs = ordered.exp()
                # A token stays while those before it don't reach top_p; the first always does.
                log_probs[index[probs.cumsum(-1) - probs >= decoding.top_p]] = -torch.inf
            uniform = torch.rand(log_probs.shape, generator=self._generators[i], dtype=torch.float64, device="cpu")
            token = int((log_probs - torch.log(-torch.log(uniform.clamp_min(1e-300)))).argmax())
            scores[i] = -torch.inf
            scores[i, token] = 0.0
        return scores
