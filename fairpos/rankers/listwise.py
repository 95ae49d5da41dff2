"""Reading a listwise reply, `[2] > [1]`, strictly: a label that isn't surely there is no vote.

Published code makes votes of what is none: it reads every number of "Here are the 3 passages ranked", clamps numbers
out of range to the last item, and appends what is missing in the order of the prompt, which puts the position bias back
that was to be removed. Here labels out of range and repeated ones are dropped, missing ones stay missing, and a reply
that refuses or names nothing ranks nothing.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from fairpos.errors import InvalidRequest

ListStatus: TypeAlias = Literal["ok", "partial", "unparsable", "refused", "empty"]

_BRACKETED = re.compile(r"\[\s*([^\W_]+)\s*\]")
_ARROW = re.compile(r"\]\s*>\s*\[")
# Between two ids of one list: signs, and the numbers of a numbered list; no words. Possessive, so that no reply however
# odd takes long to read.
_BETWEEN = re.compile(r"(?:[\s>,;=|*-]++(?:\d++[.)](?=\s))?)*+")
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
        labels: Best first, each at most once.
        status: "ok": every label is there. "partial": some are missing. "unparsable", "refused", "empty": none is.
        dropped: Ids that are no label, and repetitions, as they stood.
    """

    labels: tuple[str, ...]
    status: ListStatus
    dropped: tuple[str, ...] = ()


def parse_listing(text: str, labels: Sequence[str]) -> Listing:
    """Reads the labels that a reply lists.

    Ids in brackets count. Where several of them follow each other with nothing but signs between them, the longest such
    list does (of two the later one: models think before they answer), and brackets in the text around it don't.
    Without any brackets the reply must be a list of ids and nothing else: "2 > 1", "2, 1", or one id.

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
    # "I can't rank [1], [2] and [3]" holds a list as well; only arrows make it a ranking.
    if _REFUSAL.match(text) and not _ARROW.search(text):
        return Listing((), "refused")
    known = {label: label for label in labels} | {label.lstrip("0"): label for label in labels if label.isdigit()}
    found: dict[str, None] = {}
    dropped = []
    for name in _named(text):
        label = known.get(name.lstrip("0") if name.isdigit() else name)
        if label is None or label in found:
            dropped.append(name)
        else:
            found[label] = None
    status: ListStatus = "unparsable" if not found else "ok" if len(found) == len(labels) else "partial"
    return Listing(tuple(found), status, tuple(dropped))


def _named(text: str) -> list[str]:
    """The ids of the reply in their order."""
    lists: list[list[str]] = []
    end = -1
    for match in _BRACKETED.finditer(text):
        if end >= 0 and _BETWEEN.fullmatch(text, end, match.start()):
            lists[-1].append(match[1])
        else:
            lists.append([match[1]])
        end = match.end()
    longest = max(map(len, lists), default=0)
    if longest > 1:
        return next(found for found in reversed(lists) if len(found) == longest)
    if lists:
        return [name for found in lists for name in found]
    names = [name.strip() for name in re.split(r"[>,\n]", text.strip().rstrip("."))]
    names = [name for name in names if name]
    return names if all(name.isalnum() for name in names) else []
