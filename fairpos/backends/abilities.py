"""What a model at an endpoint can do, as its calls have shown."""

from __future__ import annotations

from dataclasses import dataclass

from fairpos.backends.server import Server
from fairpos.types import Capability


@dataclass(frozen=True, slots=True)
class Abilities:
    """What a model at an endpoint can do, as its calls have shown.

    Attributes:
        server: What answers there.
        exact: Whether any label's log-probability can be had.
        alternatives: How many alternatives it lists beside a token of a free reply; 0: none, or not asked.
        reasons: Whether it reasons before it replies.
        votes: Whether prompts can vote on every token of one text (see endpoint_voting).
    """

    server: Server
    exact: bool = False
    alternatives: int = 0
    reasons: bool = False
    votes: bool = False

    @property
    def scores(self) -> bool:
        """Whether replies can be scored."""
        return self.exact or (self.alternatives > 0 and not self.reasons)


def capabilities_of(abilities: Abilities) -> frozenset[Capability]:
    """generate; score and vote where they can be had."""
    can: dict[Capability, bool] = {"generate": True, "score": abilities.scores, "vote": abilities.votes}
    return frozenset(ability for ability, there in can.items() if there)
