"""How probable each label is as a reply, read from the few alternatives that an endpoint lists beside each token.

An endpoint lists the most probable tokens (20 at most, mostly) at every place of the ONE reply that it gives. That is
less than a local model's distribution, and two things can't always be told:

- a label that is not listed has at most what the list leaves over;
- where a tokenizer spells "12" as "1" and "2", the token "1" may be the label 1 or the beginning of 10 to 19; only on
  the reply's own path the next token's list tells them apart.

Such labels get an upper bound and are marked as bounded, so that nobody takes it for a measurement.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from fairpos.backends.completion import TokenLogprob
from fairpos.errors import InvalidRequest

_AROUND = " \t\r\n[](){}<>\"'`*_.,:;"  # may stand around a label in a reply
_ROUNDING = 1e-7  # endpoints give single precision: what a list leaves over is known no better
_NEVER = -500.0  # some write -9999 for what they don't want to tell


@dataclass(frozen=True, slots=True)
class LabelProbs:
    """Natural-log probabilities, aligned with the labels.

    Attributes:
        log_probs: Of each label; finite.
        bounded: Whether that is only an upper bound.
    """

    log_probs: tuple[float, ...]
    bounded: tuple[bool, ...]


def label_log_probs(tokens: Sequence[TokenLogprob], labels: Sequence[str]) -> LabelProbs | None:
    """Reads labels where the reply's first word stands: at the first token that has a letter or a digit.

    Capitals don't matter unless labels differ by them alone. Brackets, quotes and spaces around a label don't count.

    Args:
        tokens: The reply, with alternatives.
        labels: At least 1, different from each other.

    Returns:
        None where the endpoint lists no alternatives there, or none of them surely is a label.

    Raises:
        InvalidRequest: labels are empty, equal, or contain something other than letters and digits.
    """
    if not labels or len(set(labels)) < len(labels) or not all(label.isalnum() for label in labels):
        raise InvalidRequest(f"labels must be different words of letters and digits, got {list(labels)}")
    fold = str.casefold if len({label.casefold() for label in labels}) == len(labels) else str
    start = next((i for i, token in enumerate(tokens) if any(c.isalnum() for c in token.token)), None)
    if start is None or not tokens[start].top:
        return None
    names = tuple(fold(label) for label in labels)
    reading = MassReading(tuple((fold(t.token), tuple((fold(s), p) for s, p in t.top)) for t in tokens), names)
    reading.read(start, "", 1.0)
    if not any(reading.sure.values()):
        return None
    total = [reading.sure[n] or reading.shared[n] or reading.left[n] or _ROUNDING for n in names]
    return LabelProbs(
        log_probs=tuple(math.log(mass) for mass in total),
        bounded=tuple(not reading.sure[n] for n in names),
    )


@dataclass
class MassReading:
    """Probability mass by label: what is surely its own, what it may share, what the lists leave over for it."""

    tokens: tuple[tuple[str, tuple[tuple[str, float], ...]], ...]
    labels: tuple[str, ...]
    sure: dict[str, float] = field(init=False)
    shared: dict[str, float] = field(init=False)
    left: dict[str, float] = field(init=False)

    def __post_init__(self) -> None:
        self.sure, self.shared, self.left = (dict.fromkeys(self.labels, 0.0) for _ in range(3))

    def read(self, place: int | None, so_far: str, mass: float) -> None:
        """Gives `mass`, the probability that the reply begins with `so_far`, to labels; `place` is the next token's."""
        live = [label for label in self.labels if label.startswith(so_far)]
        if so_far and len(live) == 1:
            self.sure[live[0]] += mass
            return
        if place is None or place >= len(self.tokens) or not self.tokens[place][1]:
            for label in live:
                self.shared[label] += mass
            return
        own, listed = self.tokens[place]
        whole = self._spelled_whole(listed) and not so_far
        rest = max(_ROUNDING, 1.0 - math.fsum(math.exp(p) for _, p in listed))
        least = min(math.exp(p) for _, p in listed if p > _NEVER)
        for label in live:
            self.left[label] = max(self.left[label], mass * min(rest, least))
        for token, log_prob in listed:
            part = mass * math.exp(log_prob)
            text, ended = _word_after(token, so_far)
            if text in self.labels and (ended or whole):
                self.sure[text] += part
            elif not ended and any(label.startswith(text) for label in self.labels) and text != so_far:
                self.read(place + 1 if token == own else None, text, part)

    def _spelled_whole(self, listed: Sequence[tuple[str, float]]) -> bool:
        """Whether a label that begins with another one is listed as a single token: then all are single tokens."""
        words = {token.strip(_AROUND) for token, _ in listed} & set(self.labels)
        return any(word != label and word.startswith(label) for word in words for label in self.labels)


def _word_after(token: str, so_far: str) -> tuple[str, bool]:
    """What the reply's word is after this token, and whether it has ended."""
    if so_far and (not token or token[0] in _AROUND):
        return so_far, True
    word = token if so_far else token.lstrip(_AROUND)
    stripped = word.rstrip(_AROUND)
    return so_far + stripped, bool(stripped) and stripped != word
