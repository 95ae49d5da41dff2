"""The query before AND after the segments.

Liu et al., "Lost in the Middle: How Language Models Use Long Contexts", arXiv 2307.03172, section 4.2, call it
query-aware contextualization: a decoder that has read the query can look for it while it reads the segments.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

from fairpos.methods.base import Family, Method, register
from fairpos.types import Request

if TYPE_CHECKING:
    from fairpos.backends.base import Backend


@register
@dataclass(frozen=True)
class QueryTwice(Method):
    """Says the query a second time, on the side of the segments where the template doesn't have it.

    How it is said is the template's `repeat`; a template that has the query on both sides stays as it is. The order of
    the segments stays, too.

    COST: the query's tokens once more; no call more. Questions about the same segments no longer share their prefill.
    HURTS: hardly; it is published to repair key-value retrieval (46 to 100 in one case) and to do little for question
    answering over passages.
    """

    name: ClassVar[str] = "query_twice"
    family: ClassVar[Family] = "input"
    summary: ClassVar[str] = "puts the query before and after the segments"
    source: ClassVar[str] = "query-aware contextualization, arXiv 2307.03172"
    repeats_query: ClassVar[bool] = True

    def arrange(self, request: Request, backend: Backend) -> list[Request]:
        """The same order, the query repeated."""
        return [replace(request, query_twice=True)]
