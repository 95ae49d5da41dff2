"""Where a training stands: written whole at every look, so that a run that was stopped goes on from the last one."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fairpos.errors import InvalidRequest

STATE = "training_state.pt"


@dataclass(frozen=True, slots=True)
class Look:
    """One look at the lists held out.

    Attributes:
        step: After so many steps.
        trained: The mean loss of the steps since the last look, nats; None before the first step.
        held_out: The mean loss on the lists held out, nats.
    """

    step: int
    trained: float | None
    held_out: float


@dataclass
class State:
    """Where a training stands.

    Attributes:
        step: Steps done.
        curve: All looks.
        losses: Of the steps since the last look.
        weights: Of the adapter at the last look, by name; empty before the first.
        optimizer: The optimizer's own.
    """

    step: int = 0
    curve: list[Look] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    weights: dict[str, Tensor] = field(default_factory=dict)
    optimizer: dict[str, Any] = field(default_factory=dict)

    @property
    def best_look(self) -> Look:
        """The look with the lowest loss on what is held out; the first of several."""
        return min(self.curve, key=lambda look: (look.held_out, look.step))

    def looks_since_best(self) -> int:
        """How many looks brought nothing better."""
        return len(self.curve) - 1 - self.curve.index(self.best_look)

    @classmethod
    def read(cls, folder: Path, identity: Mapping[str, Any], *, resume: bool) -> State:
        """The state in a folder; a new one where there is none.

        Raises:
            InvalidRequest: there is one and it isn't to be gone on with, it can't be read, or it is another training's.
        """
        path = folder / STATE
        if not path.exists():
            return cls()
        if not resume:
            raise InvalidRequest(f"{path} exists; add --resume to go on with it, or name another folder")
        stored, curve = _stored_state(path)
        kept = stored["identity"]
        other = sorted(name for name in {*kept, *identity} if kept.get(name) != identity.get(name))
        if other:
            raise InvalidRequest(f"{path} is of another training: {', '.join(other)} differ; name another folder")
        return cls(stored["step"], curve, [], stored["weights"], stored["optimizer"])

    def write(self, folder: Path, identity: Mapping[str, Any]) -> None:
        """Puts it into the folder, by one rename."""
        folder.mkdir(parents=True, exist_ok=True)
        draft = folder / f".{STATE}.{os.getpid()}"
        curve = [asdict(look) for look in self.curve]
        kept = {"step": self.step, "curve": curve, "weights": self.weights, "optimizer": self.optimizer}
        torch.save({"identity": dict(identity), **kept}, draft)
        draft.replace(folder / STATE)


def read_curve(folder: Path) -> list[Look]:
    """All looks of a training, done or not.

    Raises:
        InvalidRequest: the folder has no state that can be read.
    """
    return _stored_state(folder / STATE)[1]


def _stored_state(path: Path) -> tuple[dict[str, Any], list[Look]]:
    """A state as it is stored, and its curve.

    Raises:
        InvalidRequest: it can't be read.
    """
    try:
        stored = torch.load(path, weights_only=True)
        return stored, [Look(**look) for look in stored["curve"]]
    except Exception as error:  # pickle, zip and torch have errors of their own for a damaged file
        raise InvalidRequest(f"can't go on with {path}: {str(error).splitlines()[0]}") from None
