"""Refuse what doesn't fit."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

from fairpos.backends.work import Work
from fairpos.fitting.base import Asked, Fit, register
from fairpos.types import TASKS, Output, Request, Task


@register
@dataclass(frozen=True)
class Refuse(Fit):
    """Asks as it is; a prompt beyond the context is refused by the model or its server, which says what to do.

    COST: nothing. HURTS: nobody silently.
    """

    name: ClassVar[str] = "error"
    summary: ClassVar[str] = "refuses what is longer than the context"
    tasks: ClassVar[frozenset[Task]] = frozenset(TASKS)

    def work(
        self, requests: Sequence[Request], asked: Asked, progress: Callable[[int, int], None] | None
    ) -> Work[list[Output]]:
        """The work as it is."""
        return asked.start(requests, progress)
