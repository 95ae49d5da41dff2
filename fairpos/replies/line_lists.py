"""Lists that have a line a place: numbered lines, bullets with reasons, and tables with a column of ranks.

numbering   1. [3] / 2. [1] = [2]        also 1), (1), #1:, Rank 1:, First:; reasons may follow a name, on its line or
                                         below, where words before the list say that it is the ranking
bullets     - [3]: names him             where words before the list say so
table       | Rank | Passage |           by the numbers in the column of ranks
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from fairpos.replies.claims import places_of
from fairpos.replies.forms import TIE_MARK, Found, joint_of
from fairpos.replies.names import NameReader
from fairpos.replies.remarks import is_objection
from fairpos.replies.words import NOUNS

_ORDINALS = ["first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth"]
_PLACES = {word: i for i, word in enumerate(_ORDINALS, 1)}
_BULLET = r"[ \t]*(?:[-•+][ \t]{1,3})?"
_MARKER = re.compile(
    rf"{_BULLET}(?:(?:rank|place|position)[ \t]{{0,3}}#?(?P<ranked>\d{{1,3}})"
    r"(?:[ \t]*\([^()\n]{1,30}\))?[ \t]*(?:[.):]|-(?=[ \t]))|"
    r"#?(?P<number>\d{1,3})(?:st|nd|rd|th)?(?:[ \t]place)?[ \t]?[.):]|\((?P<within>\d{1,3})\)|"
    r"#(?P<hash>\d{1,3})(?=[ \t])"
    rf"|(?P<ordinal>{'|'.join(_ORDINALS)}|last|finally|lastly)"
    r"(?:[ \t](?:place|rank))?[ \t]?(?::|[ \t]-|,(?=[ \t]*[\[({])))[ \t]{1,4}",
    re.IGNORECASE,
)
_BULLETED = re.compile(r"[ \t]*[-•+][ \t]{1,3}")
_REASON = re.compile(r"[ \t]*[-:(,.;][^\n]*|[ \t]+(?!and\b|or\b|&|[<>=/|])[^\n]*", re.IGNORECASE)
_ASIDE = re.compile(r"[ \t]*\(([^()\n]{1,40})\)[ \t]*[,;.]?[ \t]*")
_SCORE = re.compile(r"(?:score|relevance|rating)[ \t:=*]*(\d+(?:\.\d+)?)", re.IGNORECASE)
_BELOW = re.compile(r"(?:\n(?:[ \t]{2,}|[ \t]*[-•+][ \t])[^\n]*)*")
_PARAGRAPH = re.compile(r"(?:\n[^\n]*[^\s][^\n]*)*")
_PROSE_BELOW = re.compile(r"\n[^\s•+|-]")
_RANK_HEADER = re.compile(
    r"\W*(?:final\s+|new\s+)?(?:rank(?:ing)?|position|place|排名|rang|platz|puesto)\W*(?:\(\s*1\s*=\s*best\s*\))?\W*",
    re.IGNORECASE,
)
_NAME_HEADER = re.compile(rf"\W*(?:{NOUNS}|label|identifier)(?:\s*(?:id|no\.?|number|#|label))?\W*", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class _Entry:
    """A line of a list: its number (0: the last one), the names of its place, and what follows them."""

    number: int
    names: tuple[str, ...]
    tail: str
    start: int
    end: int
    is_tied: bool = False


def find_lines(text: str, names: NameReader) -> Iterator[Found]:
    """All lists that have a line a place."""
    entries = list(_numbered_entries(text, names))
    found = [each for block in _blocks_of(entries) for each in _list_of_block(text, block)]
    found += [*_find_bullets(text, names), *_find_tables(text, names)]
    for each in found:
        named = [name for group in each.groups for name in group]
        if len(set(named)) == len(named):  # a name that has two places contradicts itself
            yield each


def _lines_of(text: str) -> Iterator[tuple[int, str]]:
    place = 0
    for line in text.split("\n"):
        yield place, line
        place += len(line) + 1


def _numbered_entries(text: str, names: NameReader) -> Iterator[_Entry]:
    for start, line in _lines_of(text):
        marker = _MARKER.match(line)
        if marker is None:
            continue
        digits = marker["ranked"] or marker["number"] or marker["within"] or marker["hash"]
        number = int(digits) if digits else _PLACES.get((marker["ordinal"] or "").lower(), 0)
        yield _entry_of(number, line, marker.end(), start, names)


def _entry_of(number: int, line: str, begins: int, start: int, names: NameReader) -> _Entry:
    """The entry of a line, after its marker; without names where it names none first."""
    found, place = list[str](), begins
    for item in names.find_items(line[begins:]):
        if begins + item.start != place and (not found or joint_of(line[place : begins + item.start]) != "="):
            break
        found.append(item.name)
        place = begins + item.end
    tail = line[place:]
    aside = _ASIDE.match(tail)
    is_tied = aside is not None and TIE_MARK.fullmatch(aside[1]) is not None
    if aside is not None and is_tied:
        tail = tail[aside.end() :]
    return _Entry(number, tuple(found), tail, start, start + len(line), is_tied)


def _blocks_of(entries: Sequence[_Entry]) -> Iterator[list[_Entry]]:
    """Entries that are numbered from 1 on; those that are marked as tied may share a number."""
    block: list[_Entry] = []
    for entry in entries:
        places = len({each.number for each in block})
        shares = bool(block) and entry.number == block[-1].number and entry.is_tied and block[-1].is_tied
        goes_on = entry.number in (places + 1, len(block) + 1) or (entry.number == 0 and len(block) > 1)
        if not entry.names or not (shares or (goes_on and (block or entry.number == 1))):
            if block:
                yield block
            block = []
            if entry.names and entry.number == 1:
                block = [entry]
            continue
        block.append(entry)
    if block:
        yield block


def _list_of_block(text: str, block: Sequence[_Entry]) -> Iterator[Found]:
    """The list that numbered lines are, if they are one."""
    start, end = block[0].start, block[-1].end
    between = [text[one.end : other.start] for one, other in itertools.pairwise(block)]
    # What stands below a place belongs to it: what is indented or has a bullet, or all up to a blank line where the
    # other places have it so.
    is_prose = any(_PROSE_BELOW.match(part) for part in between)
    below = (_PARAGRAPH if is_prose else _BELOW).match(text, end)
    if below and ((len(block) > 1 and any(map(_says_something, between))) or not _BULLETED.match(text, start)):
        end = below.end()
        between.append(below[0])
    groups = _grouped_entries(block)
    said = [part for entry in block for part in (entry.tail,) if _says_something(part)]
    said += [part for part in between if _says_something(part)]
    if groups is None or not _reasons_agree(block, between, groups):
        return
    yield Found(groups, start, end, "words" if said else "alone")


def _grouped_entries(block: Sequence[_Entry]) -> tuple[tuple[str, ...], ...] | None:
    """The names by place; None where one is marked as tied and nobody is beside it."""
    groups: list[list[str]] = []
    for i, entry in enumerate(block):
        if entry.is_tied and i and block[i - 1].is_tied:
            groups[-1] += entry.names
        else:
            groups.append(list(entry.names))
    alone = any(
        entry.is_tied and next(len(group) for group in groups if entry.names[0] in group) == 1 for entry in block
    )
    return None if alone else tuple(map(tuple, groups))


def _reasons_agree(block: Sequence[_Entry], between: Sequence[str], groups: Sequence[Sequence[str]]) -> bool:
    """Whether what is said of the names speaks for no other order."""
    places = places_of(groups)
    ties = any(len(group) > 1 for group in groups)
    if not all(_REASON.fullmatch(entry.tail) for entry in block if _says_something(entry.tail)):
        return False
    said = [*(entry.tail.lstrip(" \t-:(,.") for entry in block), *between]
    for part in said:
        if any(is_objection(sentence.strip(" \t-•+"), places, ties=ties) for sentence in re.split(r"[.!?]\s|\n", part)):
            return False
    found = [match for part in (entry.tail for entry in block) if (match := _SCORE.search(part))]
    scores = [float(match[1]) for match in found]
    if len(scores) < len(block) or len(block) == 1:
        return True
    return scores == sorted(scores, reverse=True) and len(set(scores)) > 1


def _says_something(text: str) -> bool:
    return any(c.isalnum() for c in text)


def _find_bullets(text: str, names: NameReader) -> Iterator[Found]:
    """Bullets that begin with a name each and go on with reasons, not with numbers."""
    block: list[_Entry] = []
    for start, line in (*_lines_of(text), (len(text), "-")):
        marker = _BULLETED.match(line)
        entry = _entry_of(0, line, marker.end(), start, names) if marker else None
        if entry is not None and entry.names:
            block.append(entry)
        elif line.strip():
            if len(block) > 1 and any(any(c.isalpha() for c in each.tail) for each in block):
                groups = tuple(each.names for each in block)
                if _reasons_agree(block, (), groups) and not any(each.is_tied for each in block):
                    yield Found(groups, block[0].start, block[-1].end, "words")
            block = []


def _find_tables(text: str, names: NameReader) -> Iterator[Found]:
    """Tables with a column of ranks and one of names."""
    rows: list[tuple[int, int, list[str]]] = []
    for start, line in (*_lines_of(text), (len(text), "")):
        if "|" in line:
            cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
            if not all(re.fullmatch(r":?-*:?", cell) for cell in cells):
                rows.append((start, start + len(line), cells))
            continue
        if len(rows) > 1:
            groups = _groups_of_table([cells for _, _, cells in rows], names)
            if groups:
                yield Found(groups, rows[0][0], rows[-1][1])
        rows = []


def _groups_of_table(rows: Sequence[Sequence[str]], names: NameReader) -> tuple[tuple[str, ...], ...]:
    """The names of a table by rank; equal ranks are tied."""
    header, body = rows[0], rows[1:]
    ranks = [i for i, cell in enumerate(header) if _RANK_HEADER.fullmatch(cell)]
    named = [i for i, cell in enumerate(header) if _NAME_HEADER.fullmatch(cell)]
    if len(ranks) != 1 or len(named) != 1 or any(len(row) != len(header) for row in body):
        return ()
    by_rank: dict[int, list[str]] = {}
    for row in body:
        rank = re.fullmatch(r"#?(\d{1,3})(?:st|nd|rd|th)?[.)]?(?:[ \t]*\(?tie[d)]*)?", row[ranks[0]])
        item = names.first_name(row[named[0]])
        if rank is None or item is None or re.match(r"[ \t]*(?:,|and\b|[<>=/])", row[named[0]][item.end :]):
            return ()
        by_rank.setdefault(int(rank[1]), []).append(item.name)
    groups = tuple(tuple(by_rank[rank]) for rank in sorted(by_rank))
    places = places_of(groups)
    ties = any(len(group) > 1 for group in groups)
    said = [cell for row in body for i, cell in enumerate(row) if i not in (ranks[0], named[0])]
    return () if min(by_rank) != 1 or any(is_objection(cell, places, ties=ties) for cell in said) else groups
