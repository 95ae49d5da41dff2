"""Reading a listwise reply, `[2] > [1] = [3]`, strictly: a list is a list, prose is none, what isn't sure is no vote.

Published code makes votes of what is none: it reads every number of "Here are the 3 passages ranked", clamps numbers
out of range to the last item, and appends what is missing in the order of the prompt, which puts the position bias back
that was to be removed. Here labels out of range are dropped, missing ones stay missing, tied ones are tied, and a reply
that refuses, lists nothing or contradicts itself ranks nothing. The grammar stands in docs/ranking.md. `forms`,
`line_lists` and `json_lists` have the forms, `context` and `remarks` what is said around them, `plain_text` the
mark-up that is taken off before.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from fairpos.errors import InvalidRequest
from fairpos.replies.context import LeadIn, ends_well, lead_in
from fairpos.replies.forms import Found, find_runs
from fairpos.replies.json_lists import find_json
from fairpos.replies.line_lists import find_lines
from fairpos.replies.names import NameReader
from fairpos.replies.plain_text import plain_text
from fairpos.replies.remarks import only_explains
from fairpos.replies.words import REVERSED
from fairpos.types import Groups

ListStatus: TypeAlias = Literal["ok", "partial", "unparsable", "refused", "empty"]

_REACH = 400  # characters after a list that tell whether it is all that the reply holds

_REFUSAL = re.compile(
    r"\s*(?:"
    r"i(?:['’]?m|\s+am)\s+(?:(?:really|very|so)\s+)?(?:sorry|unable|afraid|not\s+able)"
    r"|i\s+(?:can\s*not|can['’]?t|could\s*n['’]?t|won['’]?t|will\s+not|do\s+not|don['’]?t)"
    r"|as\s+an?\s+(?:ai|language\s+model)|sorry|unfortunately|my\s+apologies|i\s+apologi[sz]e"
    r")\b",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Listing:
    """What a reply ranks.

    Attributes:
        groups: Labels, the best group first; those of one group are tied. Each label at most once.
        status: "ok": every label is there. "partial": some are missing. "unparsable", "refused", "empty": none is.
        dropped: Names that are no label, and names that stand twice in a row, as they stood.
    """

    groups: Groups
    status: ListStatus
    dropped: tuple[str, ...] = ()

    @property
    def labels(self) -> tuple[str, ...]:
        """All labels, best first; tied ones as they stood."""
        return tuple(label for group in self.groups for label in group)


def parse_listing(text: str, labels: Sequence[str]) -> Listing:
    """Reads the ranking that a reply gives, if it gives one.

    Args:
        text: The reply.
        labels: What the segments are called, in the order shown.

    Raises:
        InvalidRequest: labels are equal, or contain something other than letters and digits.
    """
    if len(set(labels)) < len(labels) or not all(label.isalnum() for label in labels):
        raise InvalidRequest(f"labels must be different words of letters and digits, got {list(labels)}")
    if not text.strip():
        return Listing((), "empty")
    plain = plain_text(text)
    lists = [] if REVERSED.search(plain) else [_of_known(*led, labels) for led in _standing_lists(plain, labels)]
    chosen = _only_list([each for each in lists if each.groups])
    if chosen is None:
        return Listing((), "refused" if _REFUSAL.match(plain) else "unparsable")
    whole = sum(map(len, chosen.groups)) == len(labels)
    return Listing(chosen.groups, "ok" if whole else "partial", chosen.dropped)


def _standing_lists(text: str, labels: Sequence[str]) -> list[tuple[Found, LeadIn]]:
    """The lists of a plain text that count as rankings, by what is said before and after each."""
    names = NameReader(labels)
    first, last = _span_of_words(text)
    led: list[tuple[Found, LeadIn]] = []
    found = [*find_lines(text, names), *find_json(text, names), *find_runs(text, names)]
    for each in sorted(found, key=lambda found: (found.start, -found.end)):
        if led and each.end <= led[-1][0].end:  # within one that counts
            continue
        whole = each.start <= first and (last <= each.end or only_explains(text[each.end : each.end + _REACH]))
        if not whole and sum(map(len, each.groups)) == 1:  # one name amid words
            continue
        lead = lead_in(text, each.start, each.end, ties=each.has_ties)
        if lead is None:
            continue
        stands = {"nothing": True, "start": each.start <= first, "alone": whole, "words": False}[each.needs]
        if stands or lead.as_ranking:
            led.append((each, lead))
    nexts = [*(lead.start for _, lead in led[1:]), len(text)][: len(led)]
    return [
        (each, lead)
        for (each, lead), until in zip(led, nexts, strict=True)
        if ends_well(text, each.end, max(until, each.end), _places_of(each), ties=each.has_ties)
    ]


def _span_of_words(text: str) -> tuple[int, int]:
    """Where the first letter or digit of a text stands, and the end of the last one."""
    first = next((i for i, c in enumerate(text) if c.isalnum()), len(text))
    last = next((i for i in range(len(text) - 1, -1, -1) if text[i].isalnum()), -1)
    return first, last + 1


def _places_of(found: Found) -> dict[str, int]:
    """The group of each name, as `remarks` wants it."""
    return {(name.lstrip("0") or "0").lower(): i for i, group in enumerate(found.groups) for name in group}


@dataclass(frozen=True, slots=True)
class _KnownList:
    """A list without what is no label or stands in it twice, and whether the words before it call it the last one."""

    groups: Groups
    dropped: tuple[str, ...]
    final: bool

    def agrees_with(self, place: Mapping[str, int]) -> bool:
        """Whether it says nothing but what the places say."""
        places = [[place.get(label, -1) for label in group] for group in self.groups]
        tied = all(len(set(group)) == 1 and -1 not in group for group in places)
        firsts = [group[0] for group in places]
        return tied and firsts == sorted(set(firsts))


def _only_list(lists: Sequence[_KnownList]) -> _KnownList | None:
    """The list that a reply means: the longest, if no other says anything else; else the last that is called final."""
    if not lists:
        return None
    longest = max(lists, key=lambda each: sum(map(len, each.groups)))
    place = {label: i for i, group in enumerate(longest.groups) for label in group}
    if all(each.agrees_with(place) for each in lists):
        return longest
    return next((each for each in reversed(lists) if each.final), None)


def _of_known(found: Found, lead: LeadIn, labels: Sequence[str]) -> _KnownList:
    """The labels that a list names; none where one stands in two places, which is a contradiction.

    A name that is only said twice in a row contradicts nothing: the second is dropped.
    """
    folded = {label.casefold(): label for label in labels}
    known = {label.lstrip("0"): label for label in labels if label.isdigit()}
    known |= (folded if len(folded) == len(labels) else {}) | {label: label for label in labels}
    groups: list[tuple[str, ...]] = []
    dropped: list[str] = []
    for names in found.groups:
        group = []
        for name in names:
            plain = name.lstrip("0") if name.isdigit() else name
            label = known.get(name) or known.get(plain) or known.get(plain.casefold())
            if label is None or (groups and groups[-1] == (label,) and len(names) == 1):
                dropped.append(name)
            else:
                group.append(label)
        if group:
            groups.append(tuple(group))
    named = [label for group in groups for label in group]
    contradicts = len(set(named)) < len(named)
    return _KnownList(() if contradicts else tuple(groups), tuple(dropped), lead.final)
