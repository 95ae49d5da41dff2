"""A model whose weights an adapter was added to, which was trained under one attention: others are refused."""

from __future__ import annotations

from dataclasses import dataclass

from fairpos.attention.apart import PlainOwner
from fairpos.backends.base import AttentionOwner
from fairpos.errors import InvalidComposition


@dataclass(frozen=True)
class TrainedFor:
    """The attention that a model's adapter was trained for.

    Attributes:
        owner: Who owned the attention; None: nobody, prompts were plain ones.
        method: The same as users say it.
        adapter: What the adapter is called in reports: its digest.
    """

    owner: AttentionOwner | None
    method: str
    adapter: str

    def named(self, model: str) -> str:
        """The model's name together with the adapter's."""
        return f"{model}, tuned for {self.method} ({self.adapter})"

    def refuse_other(self, owner: AttentionOwner | None) -> None:
        """Refuses a call whose attention is another one.

        `PlainOwner` passes: it is how the backend tries the model on tokens of its own, and how plain calls share a
        pass, which were looked at when they came in.

        Raises:
            InvalidComposition: it is.
        """
        if owner != self.owner and not isinstance(owner, PlainOwner):
            got = "the plain attention" if owner is None else owner.name
            raise InvalidComposition(
                f"this model's adapter was trained for {self.method}; under {got} nobody knows what it does. Take "
                f"methods={self.method!r}, or load the model without the adapter"
            )
