"""Rank by what the model writes: `[2] > [1] > [3]`.

Sun et al., "Is ChatGPT Good at Search?" (RankGPT), arXiv 2304.09542. Unlike the published code: a local model is held
to the ids while it decodes, and a reply that isn't held is read strictly (see listwise).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from fairpos.backends.base import Generate
from fairpos.options import Checked
from fairpos.outputs import with_groups
from fairpos.prompts import Template, render
from fairpos.rankers.base import Asked, Asking, register, view_of
from fairpos.replies.listing import parse_listing
from fairpos.types import Capability, Output, Request

LISTWISE = Template(
    instruction="Rank passages by how well they answer a question.\n\n",
    segment="[{label}] {heading}{text}\n\n",
    question=(
        "Question: {query}\nRank all {count} passages, the best first. Reply with their numbers, each in brackets, "
        'joined by " > ", and with nothing else.'
    ),
)
# "[12] > " is 4 to 7 tokens; the rest is for a short preamble.
_TOKENS_EACH, _TOKENS_MORE = 8, 16


@register
@dataclass(frozen=True)
class GenerateRanker(Checked):
    """The order in which a listwise reply names the segments; no scores.

    Segments that the reply doesn't name are left out of the ranking (status "partial"), those that it joins by "=" are
    tied; a reply that names none, or refuses, ranks none.

    COST: one call, and about 5 new tokens a segment, one after the other.
    HURTS: small models list the slots in the order shown; use several views. Not held to the ids (an endpoint, or
    constrained=false), replies forget passages and invent some.

    Attributes:
        constrained: On a local model, only texts that list every id once can be generated. An endpoint can't be held.
    """

    name: ClassVar[str] = "generate"
    summary: ClassVar[str] = "lets the model write the list, [2] > [1]; a local model is held to the ids"
    source: ClassVar[str] = "RankGPT, arXiv 2304.09542"
    requires: ClassVar[frozenset[Capability]] = frozenset()  # every backend generates: an endpoint needn't be tried out
    constrained: bool = True

    def __call__(self, request: Request, asking: Asking) -> Asked:
        """One generated call."""
        prompt = render(request, asking.template or LISTWISE)
        enough = _TOKENS_EACH * len(prompt.labels) + _TOKENS_MORE
        decoding = replace(asking.decoding, max_new_tokens=max(enough, asking.decoding.max_new_tokens))
        listing = prompt.labels if self.constrained else ()
        [reply] = yield [Generate(prompt, decoding, asking.attend, listing=listing)]
        output = Output(request.task, status=reply.status, usage=reply.usage)
        detail = reply.detail
        if reply.status == "ok":
            found = parse_listing(reply.text, prompt.labels)
            by_label = dict(zip(prompt.labels, request.ids, strict=True))
            canonical = request.canonical().ids
            groups = [sorted((by_label[label] for label in group), key=canonical.index) for group in found.groups]
            output = with_groups(replace(output, status=found.status), tuple(map(tuple, groups)))
            detail = f"dropped {', '.join(f'[{name}]' for name in found.dropped)}" if found.dropped else ""
        view = view_of(
            request.ids, reply, ranking=output.ranking, status=output.status, ties=output.ties, detail=detail
        )
        return replace(output, views=(view,))
