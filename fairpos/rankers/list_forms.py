"""The forms in which a text may list labels, and where they stand in it; docs/ranking.md has the grammar with examples.

    chain         [2] > [1] = [3]            ">" between neighbours, or "=" for a tie; in brackets, (parentheses), bare,
                                             or with a noun: Passage 2 > Passage 1
    enumeration   [2], [1], [3]              commas, spaces or lines between brackets, commas or lines between bare ones
    numbering     1. [3] / 2. [1] = [2]      a line each, numbered from 1
    JSON          {"ranking": [2, 1, 3]}     an array within an array is a tie

A chain and an object of JSON say by themselves that they rank. A chain of bare names, an enumeration and a numbering
only do if they are all that the reply holds, or if the words before them say so.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from fairpos.rankers.list_context import Context, context_of

Groups = tuple[tuple[str, ...], ...]  # names as they stand, best group first


@dataclass(frozen=True, slots=True)
class Found:
    """A list in a text: names in groups, the best first, and whether words before it call it the last one."""

    groups: Groups
    start: int
    final: bool = False


_NOUN = (
    r"(?<![^\W_])(?:passage|document|doc|item|option|candidate|snippet|article|segment|id)"
    r"[ \t]{0,3}(?:no\.?|number)?[ \t]{0,3}#?[ \t]{0,3}"
)
_QUOTE = r"[\"'“”‘]?"
_WORD = r"[^\W_]{1,32}"
_JOINTS = tuple(
    (name, re.compile(pattern))
    for name, pattern in (
        (">", r"[ \t]*\n?[ \t]*>{1,3}[ \t]*\n?[ \t]*"),
        ("=", r"[ \t]*={1,3}[ \t]*"),
        (",", r"[ \t]*[,;][ \t]*\n?[ \t]*"),
        ("line", r"[ \t]*\n[ \t\n]*(?:[-•+][ \t]+)?"),
        ("space", r"[ \t]*"),
    )
)
_LONGEST_JOINT = 40
_NUMBERED = re.compile(
    r"[ \t]*(?:[-•+][ \t]{1,3})?(?:(?:rank|place|position)[ \t]{0,3})?"
    r"(?:#?(\d{1,3})(?:st|nd|rd|th)?[ \t]?[.):]|\((\d{1,3})\))[ \t]{1,4}",
    re.IGNORECASE,
)
_TAIL = re.compile(r"[ \t]*[-:(,][^\n]*")
_TIE_WORDS = re.compile(r"\b(?:tied?|ties|equal(?:ly)?|same)\b", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class _NamedItem:
    """A name in a text, from `start` to `end`: in a bracket, after a noun, or bare ("")."""

    name: str
    style: str
    start: int
    end: int


class ListReader:
    """Finds lists of labels.

    Args:
        labels: What there is to be listed. Other names count in brackets, and other numbers also without: they are what
            a model invents, and belong to its list.
    """

    def __init__(self, labels: Sequence[str]) -> None:
        bare = "|".join(sorted(map(re.escape, labels), key=len, reverse=True))
        bare = rf"(?<![\w.\-])(?:{bare}|\d{{1,6}})(?!\w|\.\d|%)"
        noun = rf"(?i:{_NOUN})"
        self._item = re.compile(
            rf"{_QUOTE}(?:(?:{noun})?(?P<bracket>[\[(])[ \t]{{0,4}}(?:{noun})?\#?(?P<inside>{_WORD})[ \t]{{0,4}}[\])]"
            rf"|{noun}(?P<named>\d{{1,6}}|(?:{bare}))(?!\w)|(?P<bare>{bare})){_QUOTE}"
        )

    def lists(self, text: str) -> list[Found]:
        """All lists of a plain text that stand as rankings, in their order."""
        span = _span_of_words(text)
        found = [*self._find_runs(text, span), *self._find_numberings(text, span), *self._find_json(text)]
        return sorted(found, key=lambda each: each.start)

    def _find_items(self, text: str) -> Iterator[_NamedItem]:
        for match in self._item.finditer(text):
            name = match["inside"] or match["named"] or match["bare"]
            style = match["bracket"] or ("noun" if match["named"] else "")
            yield _NamedItem(name, style, match.start(), match.end())

    def _find_runs(self, text: str, words: tuple[int, int]) -> Iterator[Found]:
        """Chains and enumerations."""
        run: list[_NamedItem] = []
        joints: list[str] = []
        for item in (*self._find_items(text), None):
            joint = "" if item is None or not run else _joint_of(text[run[-1].end : item.start][: _LONGEST_JOINT + 1])
            kept = 0  # items of this run with which the next one begins
            if joint and joints and (joints[-1] == "line") != (joint == "line"):
                # A line of several names is no part of a list that has a line a name.
                kept, joint = (1, joint) if joints[-1] == "line" else (0, "")
            if item is None or not joint or kept:
                ended = len(run) - kept
                if ended > 0:
                    yield from _of_run(text, run[:ended], joints[: ended - 1], words)
                run, joints = run[ended:], []
            if item is not None:
                run.append(item)
                joints += [joint] if len(run) > 1 else []

    def _find_numberings(self, text: str, words: tuple[int, int]) -> Iterator[Found]:
        """Lines that are numbered from 1, each with a name or with tied ones."""
        block: list[tuple[tuple[str, ...], str]] = []
        start = end = place = 0
        for line in (*text.split("\n"), None):
            entry = None if line is None else self._numbered_names(line, len(block) + 1)
            if entry is None and block and (line is None or line.strip()):
                yield from _of_numbering(text, block, start, end, words)
                block = []
                entry = None if line is None else self._numbered_names(line, 1)
            if line is not None:
                if entry is not None:
                    start = start if block else place
                    block.append(entry)
                    end = place + len(line)
                place += len(line) + 1

    def _numbered_names(self, line: str, number: int) -> tuple[tuple[str, ...], str] | None:
        """The tied names of a line that has this number, and what follows them."""
        marker = _NUMBERED.match(line)
        if marker is None or int(marker[1] or marker[2]) != number:
            return None
        rest = line[marker.end() :]
        names, end = list[str](), 0
        for item in self._find_items(rest):
            if item.start != end and (not names or _joint_of(rest[end : item.start][: _LONGEST_JOINT + 1]) != "="):
                break
            names.append(item.name)
            end = item.end
        return (tuple(names), rest[end:]) if names else None

    def _find_json(self, text: str) -> Iterator[Found]:
        """The reply's JSON: an object with a ranking, amid other words too, or an array that is all there is."""
        start, stripped = text.find("{"), text.strip()
        end = text.rfind("}") + 1
        if stripped.startswith("["):
            start, end = text.find("["), text.rfind("]") + 1
            if text[end:].strip():
                return
        if start < 0 or end <= start:
            return
        groups = self._groups_of(_load_json(text[start:end]))
        if groups:
            context = context_of(text, start, end, ties=True)
            if context.counts:
                yield Found(groups, start, context.final)

    def _groups_of(self, value: object) -> Groups:
        """The names of a JSON value that is a ranking; none where it isn't surely one."""
        if isinstance(value, dict):
            rankings = [item for key, item in value.items() if _names_a_ranking(key)]
            return self._groups_of(rankings[0]) if len(rankings) == 1 else ()
        if isinstance(value, str):
            chains = [found for found in self._find_runs(value, _span_of_words(value)) if found.start == 0]
            return chains[0].groups if len(chains) == 1 else ()
        if not isinstance(value, list) or not value:
            return ()
        if all(isinstance(item, dict) for item in value):
            return self._groups_of_records(value)
        groups = [self._names_of(item) for item in value]
        return tuple(groups) if all(groups) else ()

    def _names_of(self, value: object) -> tuple[str, ...]:
        """One name, or the tied names of an array."""
        if isinstance(value, list):
            names = [name for item in value if not isinstance(item, list) for name in self._names_of(item)]
            return tuple(names) if len(names) == len(value) else ()
        if isinstance(value, int) and not isinstance(value, bool):
            return (str(value),)
        match = self._item.fullmatch(value.strip()) if isinstance(value, str) else None
        return () if match is None else (match["inside"] or match["named"] or match["bare"],)

    def _groups_of_records(self, records: Sequence[dict[str, object]]) -> Groups:
        """Objects with an id each, in the order of their ranks or scores where they have any; equal ones are tied.

        With a number of another name ("rating", "position") the order that is meant isn't sure.
        """
        records = [{key.lower(): value for key, value in record.items()} for record in records]
        names = [self._names_of(next((r[key] for key in _ID_KEYS if key in r), None)) for r in records]
        if not all(names):
            return ()
        for key, sign in _ORDERING_KEYS.items():
            values = [record.get(key) for record in records]
            if all(isinstance(value, int | float) and not isinstance(value, bool) for value in values):
                by_value: dict[float, list[str]] = {}
                for value, name in zip(values, names, strict=True):
                    by_value.setdefault(sign * float(str(value)), []).extend(name)
                return tuple(tuple(by_value[value]) for value in sorted(by_value))
            if any(value is not None for value in values):
                return ()
        known = {*_ID_KEYS, *_ORDERING_KEYS}
        others = (value for record in records for key, value in record.items() if key not in known)
        return () if any(isinstance(value, int | float) for value in others) else tuple(names)


_ORDERING_KEYS = {"rank": 1, "score": -1, "relevance": -1, "relevance_score": -1}  # 1: the smallest is the best
_ID_KEYS = (
    "id",
    "label",
    "passage_id",
    "doc_id",
    "docid",
    "document_id",
    "passage",
    "document",
    "doc",
    "index",
    "number",
)


_SAY_RANKING = {
    "ranking",
    "rankings",
    "ranked",
    "rank",
    "reranked",
    "reranking",
    "order",
    "ordering",
    "ordered",
    "sorted",
}
_SAY_REPLY = {"answer", "result", "results", "output", "list"}
_BESIDE_RANKING = {
    "final",
    "new",
    "the",
    "my",
    "best",
    "passage",
    "passages",
    "document",
    "documents",
    "doc",
    "docs",
    "ids",
}


def _names_a_ranking(key: str) -> bool:
    """Whether a key's words ("final_ranking", "rankedList") say that its value is the ranking, and nothing else."""
    words = {word.lower() for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+", key)}
    return words <= _SAY_RANKING | _SAY_REPLY | _BESIDE_RANKING and bool(words & (_SAY_RANKING | _SAY_REPLY))


def _load_json(text: str) -> object:
    """JSON, also as Python writes it, with single quotes; None where it is neither."""
    for attempt in (text, text.replace("'", '"')):
        try:
            value: object = json.loads(attempt)
        except (ValueError, RecursionError):
            continue
        return value
    return None


def _joint_of(gap: str) -> str:
    """What stands between two names of one list; "" where they aren't of one list."""
    return next((name for name, pattern in _JOINTS if pattern.fullmatch(gap)), "")


def _span_of_words(text: str) -> tuple[int, int]:
    """Where the first letter or digit of a text stands, and the end of the last one."""
    first = next((i for i, c in enumerate(text) if c.isalnum()), len(text))
    last = next((i for i in range(len(text) - 1, -1, -1) if text[i].isalnum()), -1)
    return first, last + 1


def _of_run(text: str, run: Sequence[_NamedItem], joints: Sequence[str], words: tuple[int, int]) -> Iterator[Found]:
    """The list that names with joints between them are, if they are one."""
    kinds = set(joints)
    start, end = run[0].start, run[-1].end
    style = run[0].style
    if any(item.style != style for item in run):
        return
    is_chain = bool(kinds) and kinds <= {">", "="}
    if not is_chain and (len(kinds) > 1 or ("space" in kinds and style not in ("[", "("))):
        return
    context = context_of(text, start, end, ties="=" in kinds)
    # "3 > 2" and "1 = 3" without brackets may be sums and scores.
    says_so = is_chain and bool(style)
    if not context.counts or not (says_so or _is_ranking(context, start, end, words, single=not joints)):
        return
    if is_chain and not style and ">" not in kinds:
        return
    groups = [[run[0].name]]
    for joint, item in zip(joints, run[1:], strict=True):
        if joint == "=":
            groups[-1].append(item.name)
        else:
            groups.append([item.name])
    yield Found(tuple(map(tuple, groups)), start, context.final)


def _of_numbering(
    text: str, block: Sequence[tuple[tuple[str, ...], str]], start: int, end: int, words: tuple[int, int]
) -> Iterator[Found]:
    """The list that numbered lines are, if they are one; reasons may follow the names where words lead the list in."""
    tails = [tail for _, tail in block if any(c.isalnum() for c in tail)]
    context = context_of(text, start, end, ties=True)
    if not context.counts or not _is_ranking(context, start, end, words) or (tails and not context.as_ranking):
        return
    if all(_TAIL.fullmatch(tail) and not _TIE_WORDS.search(tail) for tail in tails):
        yield Found(tuple(names for names, _ in block), start, context.final)


def _is_ranking(context: Context, start: int, end: int, words: tuple[int, int], *, single: bool = False) -> bool:
    """Whether a list without ">" is a ranking: it is all that the reply holds, or is led in as one."""
    whole = start <= words[0] and words[1] <= end
    return whole or (context.as_ranking and not single)
