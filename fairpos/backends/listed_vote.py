"""A vote on the next token from lists: what several prompts expect next, each a few of its most probable tokens.

The vote is the uniform one of `voting`: the token with the greatest mean of log-probabilities. A token that a list
doesn't have is no more probable there than the least that the list has, so that its mean has a bound; where the best
token that all lists have beats the bounds of all others, the lists say who wins the vote over the whole vocabulary.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ListedVote:
    """Who won.

    Attributes:
        token: Its id.
        certified: Whether no other token can have won; else it is the best of those that the lists tell.
    """

    token: int
    certified: bool


def vote_on_lists(lists: Sequence[Mapping[int, float]]) -> ListedVote:
    """The vote of prompts, as far as their lists tell it. COST: linear in the lists.

    Args:
        lists: Of each prompt, natural log-probabilities of its most probable next tokens by token id; at least 1 list,
            each with at least 1 token.

    Returns:
        The token that all lists have with the greatest sum, the lowest id of equal ones; where they have none in
        common, the one with the greatest bound.
    """
    floors = [min(listed.values()) for listed in lists]
    known = set().union(*lists)
    bound = {
        token: sum(listed.get(token, floor) for listed, floor in zip(lists, floors, strict=True)) for token in known
    }
    common = {token for token in known if all(token in listed for listed in lists)}
    winner = min(common or known, key=lambda token: (-bound[token], token))
    certain = bool(common) and all(bound[token] < bound[winner] for token in known - common)
    return ListedVote(winner, certain and sum(floors) < bound[winner])
