"""No mitigation: the model as it is, in the order that came in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from fairpos.methods.base import Family, Method, register


@register
@dataclass(frozen=True)
class NoMethod(Method):
    """The plain model; the reference for every other method.

    COST: nothing.
    HURTS: wherever the order of the segments should not matter.
    """

    name: ClassVar[str] = "none"
    family: ClassVar[Family] = "none"
    summary: ClassVar[str] = "leaves the model and the order as they are"
