"""What a sentence claims of passages' places ("[2] is the best", "[3] should come first"), beside a list.

A claim that the list bears out is fine; one that it doesn't is an objection to the list.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

from fairpos.replies.words import NOUNS

Places = Mapping[str, int]  # label, in lower case -> number of its group in the list, 0 for the best


def places_of(groups: Sequence[Sequence[str]]) -> dict[str, int]:
    """The group of each name of a list."""
    return {name.lower(): i for i, group in enumerate(groups) for name in group}


# A name in a sentence, in lower case or not.
NAME = (
    rf"(?:(?:\b{NOUNS}\s*(?:no\.?|number|#)?\s*)?[\[({{]\s*(?:{NOUNS}\s*)?#?\w{{1,12}}\s*[\])}}]|"
    rf"\b{NOUNS}(?:\s*#?\s*\d{{1,6}}|\s+[a-z])\b|#\d{{1,6}}\b|\b[pd]\d{{1,6}}\b|"
    r"\bnumber\s+\d{1,6}\b|\b\d{1,6}(?=\s*(?:[:,)><-]|\band\b|\bis\b|\bare\b|\bnames?\b|\bmentions?\b|\bdirectly\b)))"
)
_ORDINALS = {"first": 0, "second": 1, "third": 2, "fourth": 3, "fifth": 4, "last": -1}
_CALLED = rf"(?:{NAME}|\b(?:the\s+)?(?:{'|'.join(_ORDINALS)})\s+{NOUNS})"
_BEST = r"(?:best|most\s+(?:\w+\s+)?(?:relevant|useful|helpful|direct|important|pertinent)|top|strongest)"
_WORST = r"(?:worst|least\s+(?:\w+\s+)?(?:relevant|useful|helpful|direct|important|pertinent)|weakest)"
_END = (
    rf"(?:\s+(?:one|match|answer|choice|of\s+(?:all|the\s+\w+|them)|{NOUNS}))?"
    r"(?=\s*(?:$|[,.;:)]|and\b|because\b|since\b|as\b|to\b|for\b|with\b|by\b|here\b))"
)
_SURELY = r"(?:(?:clearly|actually|really|still|indeed|by\s+far|definitely|in\s+fact|also|therefore|thus)\s+)*"
_IS = (
    rf"\s*(?:is|was|seems|remains|being|comes(?:\s+out)?|came|goes|ranks|ranked)\s+{_SURELY}"
    r"(?:(?:the|as|at|in|ranked|placed|listed)\s+)*"
)
_SUPERLATIVES = tuple(
    (
        re.compile(
            rf"(?P<one>{_CALLED}){_IS}{word}{_END}|\b{word}(?:\s+(?:one|match|answer|{NOUNS}))?\s+is\s+(?P<other>{_CALLED})"
        ),
        place,
    )
    for word, place in ((_BEST, 0), (_WORST, -1))
)
_PLACED = re.compile(
    rf"(?P<one>{_CALLED}){_IS}(?P<place>{'|'.join(_ORDINALS)}|top|bottom)(?:\s+(?:place|spot|position))?{_END}"
)
_SUITED = tuple(
    (
        re.compile(
            rf"(?P<one>{_CALLED})\s+[\w']+\s+(?:(?:it|(?:the|this)\s+(?!second|third|next)\w+)\s+)?(?:the\s+)?{word}{_END}"
        ),
        place,
    )
    for word, place in (("(?:best|most)", 0), ("(?:worst|least)", -1))
)
_PUT = re.compile(
    rf"\b(?:rank|plac|put|list|rat|scor)\w*\s+(?P<one>{_CALLED})\s+(?:(?:at|in|as|the)\s+)*"
    rf"(?P<place>{'|'.join(_ORDINALS)}|top|bottom|highest|lowest|best|worst)\b"
)
_MOVED = re.compile(
    rf"(?P<one>{_CALLED})\s*(?:should|could|might|may|ought\s+to|must|would|deserves|belongs|needs\s+to|has\s+to)\b"
    r"(?:\s+\w+){0,5}?\s+(?P<place>first|top|best|second|third|fourth|middle|last|bottom|lowest|worst|above|below|higher|"
    r"lower|ahead|behind|swapped|before|after|up|down|instead|spot|place)\b"
)
_COMPARED = re.compile(
    rf"(?P<one>{_CALLED})(?P<between>(?:\s+[\w']+){{0,6}}?)\s*"
    r"(?P<how>\b(?:better|more\s+\w+|higher|preferable|worse|less\s+\w+|lower|ahead|above|below|beats|outranks|surpasses|"
    rf"trumps|outperforms)|>|<)\s*(?:than|of|to)?\s*(?P<other>{_CALLED})"
)
_BETTER = {
    "better",
    "more",
    "higher",
    "preferable",
    "ahead",
    "above",
    "beats",
    "outranks",
    "surpasses",
    "trumps",
    ">",
    "outperforms",
}
_LABEL = re.compile(r"\w+(?=\W*$)")


def claims_otherwise(sentence: str, places: Places) -> bool:
    """Whether a sentence claims a place of a passage that the list doesn't give it.

    Args:
        sentence: In any capitals.
        places: Those of the list; of a passage that isn't in it, any may be claimed.
    """
    lowered = sentence.lower()
    last = max(places.values(), default=0)
    return any(
        claimed is not None and one and claimed % (last + 1) not in one for claimed, one in _claims_in(lowered, places)
    ) or any(_turns_round(match, places) for match in _COMPARED.finditer(lowered))


def _claims_in(lowered: str, places: Places) -> Iterator[tuple[int | None, set[int]]]:
    """Places that are claimed, -1 for the last, and those that the passage has (any of two where names are unclear)."""
    for pattern, place in (*_SUPERLATIVES, *_SUITED):
        for match in pattern.finditer(lowered):
            yield place, _places_of(match["one"] or match.groupdict().get("other") or "", places)
    has_ties = len(set(places.values())) < len(places)
    ends = {**_ORDINALS, "top": 0, "highest": 0, "best": 0, "bottom": -1, "lowest": -1, "worst": -1}
    for match in (*_PLACED.finditer(lowered), *_PUT.finditer(lowered)):
        claimed = ends[match["place"]]
        yield None if has_ties and claimed > 0 else claimed, _places_of(match["one"], places)
    for match in _MOVED.finditer(lowered):
        fits = {"first": 0, "top": 0, "best": 0, "last": -1, "bottom": -1, "lowest": -1, "worst": -1}
        own = _places_of(match["one"], places)
        # Whatever else a passage should be, it isn't where it should be.
        yield (fits[match["place"]], own) if match["place"] in fits else (0, {-1})


def _turns_round(match: re.Match[str], places: Places) -> bool:
    """Whether a comparison says the opposite of what the list says."""
    one, other = (_places_of(match[name], places) for name in ("one", "other"))
    if not one or not other or one & other or re.search(r"\b(?:not|no|never)\b|n't\b", match["between"]):
        return False
    return any(a > b if match["how"].split()[0] in _BETTER else a < b for a in one for b in other)


def _places_of(name: str, places: Places) -> set[int]:
    """The places that a name may mean; none where it isn't in the list."""
    ordinal = next((number for word, number in _ORDINALS.items() if re.search(rf"\b{word}\b", name)), None)
    if ordinal is not None:
        shown = str(ordinal + 1) if ordinal >= 0 else str(len(places))
        return {ordinal % (max(places.values(), default=0) + 1), places.get(shown, 0)} if places else set()
    label = _LABEL.search(name)
    found = None if label is None else places.get(label[0].lstrip("0") or "0")
    return set() if found is None else {found}
