"""Rankings that a reply gives as JSON: {"ranking": [2, 1, 3]}, an array within an array is a tie.

An object says by itself that it ranks, by the words of its key. What else it holds must leave the ranking standing:
reasons, the query, counts and the like may be there; a remark counts as it does beside any other list.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence

from fairpos.replies.claims import places_of
from fairpos.replies.forms import Found, find_runs
from fairpos.replies.names import NameReader
from fairpos.replies.remarks import stands_after
from fairpos.types import Groups

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
    "passage_number",
    "identifier",
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
_SAY_REPLY = {"answer", "result", "results", "output", "list", "response", "data"}
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
_EXPLAIN = {
    "reason",
    "reasons",
    "reasoning",
    "explanation",
    "explanations",
    "rationale",
    "justification",
    "justifications",
    "analysis",
    "thoughts",
    "thought",
    "thinking",
    "summary",
    "why",
    "evidence",
    "steps",
}
_SAY_NOTHING = {
    "query",
    "question",
    "user",
    "model",
    "version",
    "type",
    "task",
    "confidence",
    "count",
    "total",
    "num",
    "number",
    "n",
    "id",
    "time",
    "latency",
    "language",
    "lang",
    "text",
    "title",
    "content",
}
_SAY_NO_RANKING = {
    "tie",
    "tied",
    "ties",
    "equal",
    "reversed",
    "ascending",
    "example",
    "input",
    "random",
    "unranked",
    "placeholder",
    "draft",
    "error",
    "failed",
    "original",
}
_FINE = re.compile(r"(?:ok|success|successful|complete|completed|done|high|medium)\W*", re.IGNORECASE)


def find_json(text: str, names: NameReader) -> list[Found]:
    """The reply's JSON: an object with a ranking or an array, amid other words too."""
    for opening, closing in (("{", "}"), ("[", "]")):
        start, end = text.find(opening), text.rfind(closing) + 1
        if opening == "[" and "{" not in text[start : start + 20] and text[:start].strip():
            continue  # an array of names amid words is read as names with signs between them
        if 0 <= start < end:
            groups = _groups_of(_load_json(text[start:end]), names)
            if groups:
                return [Found(groups, start, end)]
    return []


def _load_json(text: str) -> object:
    """JSON, also as Python and hasty models write it: single quotes, a trailing comma, an object a line."""
    plain = re.sub(r",(\s*[\]}])", r"\1", text)
    by_line = "[" + re.sub(r"}\s*,?\s*{", "},{", plain) + "]"
    for attempt in (text, plain, plain.replace("'", '"'), by_line):
        try:
            value: object = json.loads(attempt)
        except (ValueError, RecursionError):
            continue
        return value
    return None


def _groups_of(value: object, names: NameReader) -> Groups:
    """The names of a JSON value that is a ranking; none where it isn't surely one."""
    if isinstance(value, dict):
        rankings = {key: item for key, item in value.items() if _names_a_ranking(key)}
        groups = _groups_of(next(iter(rankings.values())), names) if len(rankings) == 1 else ()
        others = {key: item for key, item in value.items() if key not in rankings}
        return groups if groups and _others_agree(others, groups) else ()
    if isinstance(value, str):
        chains = [found for found in find_runs(value, names) if not value[: found.start].strip()]
        chains = [found for found in chains if not value[found.end :].strip(" .")]
        return chains[0].groups if len(chains) == 1 and len(chains[0].groups[0] + chains[0].groups[-1]) > 1 else ()
    if not isinstance(value, list) or not value:
        return ()
    if all(isinstance(item, dict) for item in value):
        return _groups_of_records(value, names)
    groups = tuple(_names_of(item, names) for item in value)
    return groups if all(groups) else ()


def _names_of(value: object, names: NameReader) -> tuple[str, ...]:
    """One name, or the tied names of an array."""
    if isinstance(value, list):
        found = [name for item in value if not isinstance(item, list) for name in _names_of(item, names)]
        return tuple(found) if len(found) == len(value) else ()
    if isinstance(value, int) and not isinstance(value, bool):
        return (str(value),)
    name = names.whole_name(value) if isinstance(value, str) else None
    return () if name is None else (name,)


def _groups_of_records(records: Sequence[dict[str, object]], names: NameReader) -> Groups:
    """Objects with an id each, in the order of their ranks or scores where they have any; equal ones are tied.

    With a number of another name ("rating", "position") the order that is meant isn't sure.
    """
    records = [{key.lower(): value for key, value in record.items()} for record in records]
    named = [_names_of(next((r[key] for key in _ID_KEYS if key in r), None), names) for r in records]
    if not all(named):
        return ()
    groups = _ordered_groups(records, named)
    known = {*_ID_KEYS, *_ORDERING_KEYS}
    others = [{key: value for key, value in record.items() if key not in known} for record in records]
    return groups if groups and all(_others_agree(other, groups, explains=True) for other in others) else ()


def _ordered_groups(records: Sequence[Mapping[str, object]], named: Sequence[tuple[str, ...]]) -> Groups:
    orders = []
    for key, sign in _ORDERING_KEYS.items():
        values = [record.get(key) for record in records]
        if all(isinstance(value, int | float) and not isinstance(value, bool) for value in values):
            by_value: dict[float, list[str]] = {}
            for value, name in zip(values, named, strict=True):
                by_value.setdefault(sign * float(str(value)), []).extend(name)
            orders.append(tuple(tuple(by_value[value]) for value in sorted(by_value)))
        elif any(value is not None for value in values):
            return ()
    if not orders:
        known = {*_ID_KEYS, *_ORDERING_KEYS}
        others = (value for record in records for key, value in record.items() if key not in known)
        return () if any(isinstance(value, int | float) for value in others) else tuple(named)
    finest = max(orders, key=len)
    place = {name: i for i, group in enumerate(finest) for name in group}
    # Ranks may part what scores don't, but not turn them round.
    firsts = [[place[name] for group in order for name in sorted(group, key=place.__getitem__)] for order in orders]
    return finest if all(places == sorted(places) for places in firsts) else ()


def _names_a_ranking(key: str) -> bool:
    """Whether a key's words ("final_ranking", "rankedList") say that its value is the ranking, and nothing else."""
    words = _words_of(key)
    return words <= _SAY_RANKING | _SAY_REPLY | _BESIDE_RANKING and bool(words & (_SAY_RANKING | _SAY_REPLY))


def _others_agree(others: Mapping[str, object], groups: Groups, *, explains: bool = False) -> bool:
    """Whether what stands beside a ranking leaves it standing."""
    places = places_of(groups)
    return all(_value_agrees(_words_of(key), value, places, explains=explains) for key, value in others.items())


def _value_agrees(words: set[str], value: object, places: Mapping[str, int], *, explains: bool) -> bool:
    """Whether a value under a key of these words leaves a ranking standing."""
    ties = len(set(places.values())) < len(places)
    if isinstance(value, bool):
        return value != bool(words & _SAY_NO_RANKING)
    if value in (None, [], {}, ""):
        return True
    if isinstance(value, str):
        lenient = explains or bool(words & _EXPLAIN)
        return (
            words <= _SAY_NOTHING
            or _FINE.fullmatch(value) is not None
            or stands_after(value, places, ties=ties, lenient=lenient)
        )
    if isinstance(value, list | dict) and words & _EXPLAIN:
        said = value if isinstance(value, list) else list(value.values())
        return all(isinstance(each, str) and stands_after(each, places, ties=ties, lenient=True) for each in said)
    if words & (_SAY_NO_RANKING | (set() if explains else _SAY_RANKING)):
        return False  # ties beside a ranking, or a second one
    return _scores_agree(value, places)


def _scores_agree(value: object, places: Mapping[str, int]) -> bool:
    """Whether numbers beside a ranking, by name or in its order, don't say otherwise; one number says nothing."""
    if isinstance(value, int | float):
        return True
    numbers: list[tuple[int, float]] = []
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, number in pairs:
        place = key if isinstance(key, int) else places.get(re.sub(r"\D", "", str(key)) or str(key).lower())
        if place is None or not isinstance(number, int | float) or isinstance(number, bool):
            return False
        numbers.append((place, float(number)))
    falling = [number for _, number in sorted(numbers, key=lambda pair: (pair[0], -pair[1]))]
    return falling == sorted(falling, reverse=True) and len(set(falling)) > 1


def _words_of(key: str) -> set[str]:
    return {word.lower() for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+", key)}
