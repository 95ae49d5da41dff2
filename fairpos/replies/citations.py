"""Citations in an answer, by the names under which the segments were shown.

    marker  = "[" names "]" | "【" names "】" | "(" word names ")"
    names   = [word] name { ("," | ";" | "and" | "&") [word] name }
    word    = "doc" | "document" | "passage" | "source" | "segment" | "ref" | "reference" | "id", in any case, also
              with "s"; then " ", "#", ":" or "."

A name is one that was shown: as it is, else the only one that differs in case alone. A known name may hold brackets,
commas and spaces: the longest that closes its bracket counts. Parentheses need the word, since prose has others. What
follows "†" in a marker isn't read, nor is "^" before it ("【2†source】", "[^2]").

What stands in a marker and was not shown is no citation. It is listed as unknown where it looks like a name (letters,
digits, ".", "_", "-", "#", "/", ":"; no spaces) and has a digit, the word before it, or a known name beside it;
"[see above]", "[sic]" and links like "[text](address)" are prose. Ranges ("[1-3]") are unknown: names have no order.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from fairpos.types import Citation

_CLOSING = {"[": "]", "【": "】", "(": ")"}
_OPENING = re.compile(r"[\[【(]")
_WORD = re.compile(
    r"(?:documents?|docs?|passages?|sources?|segments?|references?|refs?|ids?)\s*[ #:.]\s*#?", re.IGNORECASE
)
_SEPARATOR = re.compile(r"\s*(?:[,;&]|\band\b)\s*")
_NAME_LIKE = re.compile(r"[\w.#/:-]+")
_LONGEST = 600  # characters of a marker; ids have at most 512


@dataclass(frozen=True, slots=True)
class Cited:
    """What an answer cites.

    Attributes:
        citations: In the order of the text.
        unknown: Names in markers that were not shown, each once, in the order of the text.
    """

    citations: tuple[Citation, ...] = ()
    unknown: tuple[str, ...] = ()


def read_citations(text: str, names: Mapping[str, Sequence[str]]) -> Cited:
    """Reads the markers of an answer.

    Args:
        text: The answer.
        names: Names as shown -> the ids of the segments that have them (several, where a name is shared).
    """
    folded: dict[str, list[str]] = {}
    for name in names:
        folded.setdefault(name.casefold(), []).append(name)
    known = {name: list(ids) for name, ids in names.items()}
    known |= {fold: list(names[own[0]]) for fold, own in folded.items() if len(own) == 1 and fold not in names}
    citations: list[Citation] = []
    unknown: dict[str, None] = {}
    for start, end, found in _markers(text, known):
        for name in found:
            ids = known.get(name) or known.get(name.casefold())
            if ids is None:
                unknown[name] = None
            else:
                citations += [Citation(id, start, end, text[start:end]) for id in ids]
    return Cited(tuple(dict.fromkeys(citations)), tuple(unknown))


def _markers(text: str, known: Mapping[str, Sequence[str]]) -> Iterator[tuple[int, int, list[str]]]:
    """Start, end and names of each marker, from left to right."""
    awkward = sorted((name for name in known if re.search(r"[\[\]()【】,;&]", name)), key=len, reverse=True)
    place = 0
    while (opening := _OPENING.search(text, place)) is not None:
        start, closing = opening.start(), _CLOSING[opening[0]]
        place = start + 1
        whole = next((name for name in awkward if text.startswith(name + closing, place)), None)
        end = place + len(whole) if whole is not None else text.find(closing, place, place + _LONGEST)
        if end < 0:
            continue
        found = [whole] if whole is not None else _names_in(text[place:end], known, needs_word=opening[0] == "(")
        is_link = opening[0] == "[" and text[end + 1 : end + 2] == "("
        if found and not is_link:
            yield start, end + 1, found
            place = end + 1


def _names_in(inside: str, known: Mapping[str, Sequence[str]], *, needs_word: bool) -> list[str]:
    """The names in a marker, known or not; none where it is prose."""
    inside = inside.partition("†")[0].strip().lstrip("^")
    word = _WORD.match(inside)
    if needs_word and word is None:
        return []
    if not needs_word and (inside in known or inside.casefold() in known):
        return [inside]
    parts = [_without_word(part, known) for part in _SEPARATOR.split(inside) if part.strip()]
    named = [part in known or part.casefold() in known for part in parts]
    if any(named):
        return [part for part, is_known in zip(parts, named, strict=True) if is_known or _NAME_LIKE.fullmatch(part)]
    # Nothing known: prose, unless every part looks like a name and has a digit or the word before it.
    looks = all(_NAME_LIKE.fullmatch(part) and (word or re.search(r"\d", part)) for part in parts)
    return parts if parts and looks else []


def _without_word(part: str, known: Mapping[str, Sequence[str]]) -> str:
    part = part.strip()
    if part in known or part.casefold() in known:
        return part
    word = _WORD.match(part)
    return part if word is None else part[word.end() :].strip()
