"""Lists that stand in a text as names with signs between them: chains and enumerations.

    chain         [2] > [1] = [3]            ">" between neighbours, or "=" for a tie
    enumeration   [2], [1], [3]              commas, blanks or lines between brackets, commas or lines between bare
                                             ones; after words that say so also "[2], [1] and [3]", "[2], then [1]"

`line_lists` has the forms of whole lines, `json_lists` those of JSON, `names` the ways to write a name, and
docs/ranking.md the grammar with examples.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from fairpos.replies.names import NamedItem, NameReader
from fairpos.replies.words import AGAINST
from fairpos.types import Groups

Needs: TypeAlias = Literal["nothing", "start", "alone", "words"]


@dataclass(frozen=True, slots=True)
class Found:
    """A list in a text.

    Attributes:
        groups: Names as they stand, the best group first.
        start: In characters.
        end: After it.
        needs: What must be so for it to be a ranking: "nothing" (it says so by itself), "words" (words before it
            say so), "start" (they do, or the reply begins with it), "alone" (they do, or it is all that there is).
    """

    groups: Groups
    start: int
    end: int
    needs: Needs = "nothing"

    @property
    def has_ties(self) -> bool:
        """Whether names share a group."""
        return any(len(group) > 1 for group in self.groups)


_AND = r"(?:and|&|und|y|e|et|和|及)"
_JOINTS = tuple(
    (name, re.compile(pattern, re.IGNORECASE))
    for name, pattern in (
        (">", r"[ \t]*\n?[ \t]*>{1,3}[ \t]*\n?[ \t]*"),
        ("=", r"[ \t]*={1,3}[ \t]*"),
        (",", r"[ \t]*[,;][ \t]*\n?[ \t]*"),
        ("line", r"[ \t]*\n[ \t\n]*(?:[-•+][ \t]+)?"),
        (
            "then",
            rf"[ \t]*[,;]?[ \t]*(?:{_AND}[ \t]+)?(?:then|next|finally|lastly|last|followed[ \t]+by|after[ \t]+that|"
            r"dann|schließlich|zuletzt|luego|después|finalmente|por[ \t]+último|puis|ensuite|enfin|poi|infine|depois)"
            r"[ \t]*,?[ \t]*(?:by[ \t]+)?",
        ),
        ("and", rf"[ \t]*,?[ \t]*{_AND}[ \t]*"),
        ("space", r"[ \t]*"),
    )
)
_ASIDE = re.compile(r"[ \t]*\(([^()\[\]{}\n]{1,60})\)")
_ALONE_IN_LINE = re.compile(r"[\"'”’)\]}]*[ \t]*(?:\([^()\n]*\))?[ \t]*[.,;]?[\"'”’)\]}]*[ \t]*(?:\n|$)")
_LONGEST_GAP = 110
TIE_MARK = re.compile(
    r"\W*(?:tied?|ties|a\s+tie|tied\s+(?:for\s+)?\w+|joint(?:ly)?|equal|draw|gleichauf|empate|并列|同着)\W*",
    re.IGNORECASE,
)
_BEST_MARK = re.compile(r"\b(?:most|best|highest|top|1st|strongest)\b", re.IGNORECASE)
_WORST_MARK = re.compile(r"\b(?:least|worst|lowest|bottom|last|weakest)\b", re.IGNORECASE)
_NUMBER = re.compile(r"(?<![\w.])\d+(?:\.\d+)?")


def joint_of(gap: str) -> str:
    """What stands between two names of one list; "" where they aren't of one list."""
    return next((name for name, pattern in _JOINTS if pattern.fullmatch(gap)), "")


@dataclass(frozen=True, slots=True)
class _MarkedItem:
    """A name, and what stands in parentheses after it."""

    item: NamedItem
    aside: str
    end: int


def find_runs(text: str, names: NameReader) -> Iterator[Found]:
    """Chains and enumerations, as they come."""
    run: list[_MarkedItem] = []
    joints: list[str] = []
    for item in (*names.find_items(text), None):
        joint = ""
        if item is not None and run:
            last = run[-1]
            gap = text[last.item.end : item.start][: _LONGEST_GAP + 1]
            aside = _ASIDE.match(gap)
            joint = joint_of(gap)
            if not joint and aside is not None:
                joint = joint_of(gap[aside.end() :]).replace("space", "")
                run[-1] = _MarkedItem(last.item, aside[1], last.item.end + aside.end()) if joint else last
        if joint == "," and item and ";" in text[run[-1].item.end : item.start] and ">" in joints:
            joint = ""  # a semicolon ends a chain
        if joint == "line" and item is not None and not _ALONE_IN_LINE.match(text, item.end):
            joint = ""
        kept = 0  # items of this run with which the next one begins
        if joint and joints and (joints[-1] == "line") != (joint == "line"):
            # A line of several names is no part of a list that has a line a name.
            kept, joint = (1, joint) if joints[-1] == "line" else (0, "")
        if item is None or not joint or kept:
            ended = len(run) - kept
            if ended > 0:
                yield from _list_of_run(text, run[:ended], joints[: ended - 1])
            run, joints = run[ended:], []
        if item is not None:
            run.append(_MarkedItem(item, "", item.end))
            joints += [joint] if len(run) > 1 else []


def _list_of_run(text: str, run: Sequence[_MarkedItem], joints: Sequence[str]) -> Iterator[Found]:
    """The list that names with joints between them are, if they are one."""
    style = run[0].item.style
    if any(marked.item.style != style for marked in run):
        return
    run = [*run[:-1], _with_last_aside(text, run[-1])]
    joints = _with_marked_ties(run, joints)
    kinds = set(joints)
    is_chain = bool(kinds) and kinds <= {">", "="}
    if not (is_chain or _is_enumeration(joints, style)):
        return
    # "3 > 2" and "1 = 3" without brackets may be sums and scores.
    if is_chain and not style and ">" not in kinds:
        return
    groups = [[run[0]]]
    for joint, marked in zip(joints, run[1:], strict=True):
        if joint == "=":
            groups[-1].append(marked)
        else:
            groups.append([marked])
    if not _asides_agree(groups):
        return
    needs: Needs = "alone"
    if is_chain and style:
        needs = "nothing"
    elif is_chain and len(run) > 2:
        needs = "start"
    elif kinds & {"and", "then"} or (not joints and run[0].aside):
        needs = "words"
    names = tuple(tuple(marked.item.name for marked in group) for group in groups)
    yield Found(names, run[0].item.start, run[-1].end, needs)


def _is_enumeration(joints: Sequence[str], style: str) -> bool:
    """Whether the signs are those of one enumeration: all alike, but for the last "and"."""
    kinds = set(joints)
    if "and" in kinds:
        return len(joints) > 1 and joints[-1] == "and" and set(joints[:-1]) in ({","}, {",", "then"}, {"then"})
    if "then" in kinds:
        return kinds <= {"then", ","}
    return len(kinds) <= 1 and "=" not in kinds and ("space" not in kinds or style in ("[", "(", "{"))


def _with_last_aside(text: str, last: _MarkedItem) -> _MarkedItem:
    """The last name of a run with what it is called in parentheses, if that is about it and not about the list."""
    aside = _ASIDE.match(text, last.item.end)
    if aside is None:
        return last
    about_it = TIE_MARK.fullmatch(aside[1]) or (_WORST_MARK.search(aside[1]) and not _BEST_MARK.search(aside[1]))
    return _MarkedItem(last.item, aside[1], aside.end()) if about_it or _NUMBER.search(aside[1]) else last


def _with_marked_ties(run: Sequence[_MarkedItem], joints: Sequence[str]) -> list[str]:
    """The joints, "=" where "(tie)" stands after both neighbours, or after the last of those that commas join."""
    joined = list(joints)
    marks = [TIE_MARK.fullmatch(marked.aside) is not None for marked in run]
    for i in range(len(joined)):
        if marks[i] and marks[i + 1]:
            joined[i] = "="
    if ">" in joined:
        for i in reversed(range(len(joined))):
            after_is_tied = marks[i + 1] or (i + 1 < len(joined) and joined[i + 1] == "=")
            if joined[i] in (",", "and") and after_is_tied:
                joined[i] = "="
    return joined


def _asides_agree(groups: Sequence[Sequence[_MarkedItem]]) -> bool:
    """Whether what stands in parentheses after names says nothing else than the list does."""
    scores = []
    for place, group in enumerate(groups):
        for marked in group:
            aside = marked.aside
            if TIE_MARK.fullmatch(aside):
                if len(group) == 1:
                    return False  # tied with whom?
            elif (
                AGAINST.search(aside)
                or (len(groups) > 1 and TIE_MARK.search(aside))
                or (_BEST_MARK.search(aside) and place > 0 and not re.search(r"second|third|next|\dth|2nd|3rd", aside))
                or (_WORST_MARK.search(aside) and place < len(groups) - 1)
            ):
                return False
            number = _NUMBER.search(aside)
            scores += [float(number[0])] if number else []
    rising = any(one < other for one, other in itertools.pairwise(scores))
    return not (rising and len(scores) == sum(map(len, groups)))
