"""What orders that vote on one result said, token by token: where they part, the answer hangs on the order.

    vote.orders[2]              the order of the segments in which number 2 saw them
    vote.tokens[5].said         what the orders would have gone on with by themselves, most of them first
    vote.disputed               the tokens on which they did not agree

It is data alone, by segment id; whoever makes the orders vote (`fairpos.backends`) fills it in.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from fairpos.errors import InvalidRequest

Choice = TypeVar("Choice", bound=Hashable)


@dataclass(frozen=True, slots=True)
class Said:
    """What some orders would have gone on with.

    Attributes:
        text: The token as text, or a segment's id where candidates were voted on.
        orders: Numbers of these orders in `Vote.orders`.
    """

    text: str
    orders: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class VotedToken:
    """One token that was voted on.

    Attributes:
        text: What was written: the token as text, or the id of the best candidate.
        said: What the orders' likeliest tokens were, that of most orders first, then by the lowest number.
        entropy: Of the distribution that the vote gave, nats.
        divergence: How far the orders' distributions lie apart, nats: the entropy of their mean less the mean of their
            entropies (Jensen-Shannon, equal weights). 0: all the same; at most the logarithm of their number.
    """

    text: str
    said: tuple[Said, ...]
    entropy: float
    divergence: float

    @property
    def agreement(self) -> float:
        """Share of the orders that say what most of them say, in (0, 1]."""
        return len(self.said[0].orders) / sum(len(each.orders) for each in self.said)


@dataclass(frozen=True, slots=True)
class Vote:
    """The record of one vote.

    Attributes:
        orders: Segment ids as each order showed them.
        tokens: One a token of the reply, those of a stop text or a thinking trace among them; one alone where
            candidates were voted on.
    """

    orders: tuple[tuple[str, ...], ...]
    tokens: tuple[VotedToken, ...]

    @property
    def agreement(self) -> float:
        """The smallest agreement on any token: one token that hangs on the order makes another text."""
        return min((token.agreement for token in self.tokens), default=1.0)

    @property
    def disputed(self) -> tuple[int, ...]:
        """Numbers of the tokens on which the orders did not agree."""
        return tuple(number for number, token in enumerate(self.tokens) if len(token.said) > 1)

    def renamed(self, names: Mapping[str, str]) -> Vote:
        """The vote with other words for what was said, for labels that stand for segments."""

        def of(token: VotedToken) -> VotedToken:
            said = tuple(replace(each, text=names.get(each.text, each.text)) for each in token.said)
            return replace(token, text=names.get(token.text, token.text), said=said)

        return replace(self, tokens=tuple(map(of, self.tokens)))

    @classmethod
    def from_record(cls, record: Mapping[str, object]) -> Vote:
        """A vote as JSON has it (`dataclasses.asdict`).

        Raises:
            InvalidRequest: it is none.
        """
        try:
            tokens = tuple(
                VotedToken(
                    str(token["text"]),
                    tuple(Said(str(said["text"]), tuple(map(int, said["orders"]))) for said in token["said"]),
                    float(token["entropy"]),
                    float(token["divergence"]),
                )
                for token in record["tokens"]  # type: ignore[attr-defined]
            )
            return cls(tuple(tuple(map(str, order)) for order in record["orders"]), tokens)  # type: ignore[attr-defined]
        except (KeyError, TypeError, ValueError) as error:
            raise InvalidRequest(f"not the record of a vote: {error!r}") from None


def grouped_by_choice(choices: Sequence[Choice], names: Mapping[Choice, str]) -> tuple[Said, ...]:
    """Who said what, from one choice an order: what most said first, then by the lowest number.

    Args:
        choices: One an order; two choices of one name (pieces of a character, say) stay two.
        names: Of the choices.
    """
    orders: dict[Choice, list[int]] = {}
    for number, choice in enumerate(choices):
        orders.setdefault(choice, []).append(number)
    return tuple(Said(names[key], tuple(who)) for key, who in sorted(orders.items(), key=lambda each: -len(each[1])))


def candidates_vote(
    orders: Sequence[Sequence[str]],
    candidates: Sequence[str],
    by_order: Sequence[Sequence[float]],
    voted: Sequence[float],
) -> Vote:
    """The vote on one of several candidates, whose shares are taken among themselves.

    Args:
        orders: Segment ids as each order showed them.
        candidates: What could be said.
        by_order: For each order the candidates' log-probabilities.
        voted: Those that the vote gave.
    """
    shares = [_shares_of(values) for values in by_order]
    mean = [math.fsum(column) / len(shares) for column in zip(*shares, strict=True)]
    divergence = _entropy_of(mean) - math.fsum(map(_entropy_of, shares)) / len(shares)
    said = grouped_by_choice([_best_of(values) for values in by_order], dict(enumerate(candidates)))
    token = VotedToken(candidates[_best_of(voted)], said, _entropy_of(_shares_of(voted)), max(0.0, divergence))
    return Vote(tuple(map(tuple, orders)), (token,))


def _best_of(values: Sequence[float]) -> int:
    return max(range(len(values)), key=values.__getitem__)


def _shares_of(log_probs: Sequence[float]) -> list[float]:
    top = max(log_probs)
    if top == -math.inf:
        return [1 / len(log_probs)] * len(log_probs)
    weights = [math.exp(value - top) for value in log_probs]
    return [weight / math.fsum(weights) for weight in weights]


def _entropy_of(shares: Sequence[float]) -> float:
    return -math.fsum(share * math.log(share) for share in shares if share > 0)
