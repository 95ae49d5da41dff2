"""The files of retrieval experiments: TREC runs and judgements, queries and corpora.

run       qid Q0 docid rank score tag        read and written; the score decides, the rank column doesn't
qrels     qid 0 docid grade                  or, with a header, query-id corpus-id score (BEIR)
queries   {"id" | "_id": ..., "query" | "text": ...} a line, or id TAB text
corpus    {"id" | "_id" | "docid": ..., "title"?: ..., "text" | "contents": ...} a line, or id TAB text
"""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypeAlias

from fairpos.errors import InvalidRequest
from fairpos.types import Segment

Run: TypeAlias = dict[str, dict[str, float]]  # query -> document -> score
Qrels: TypeAlias = dict[str, dict[str, float]]  # query -> document -> grade

_TAG = "fairpos"


def read_run(path: Path, depth: int | None = None) -> Run:
    """Reads a run.

    Args:
        path: The file.
        depth: Documents a query, the best by score; None is all.

    Returns:
        Scores by query and document, best first; ties by document.

    Raises:
        InvalidRequest: a line isn't one of a run, or names a document twice.
    """
    run: Run = {}
    for number, line in _lines(path):
        fields = line.split()
        if len(fields) != 6:
            raise _bad(path, number, "a run has 6 columns: qid Q0 docid rank score tag", line)
        query, _, document, _, score, _ = fields
        found = run.setdefault(query, {})
        if document in found:
            raise _bad(path, number, f"document {document!r} appears twice for query {query!r}", line)
        found[document] = _number(path, number, score, line)
    return {
        query: dict(sorted(found.items(), key=lambda pair: (-pair[1], pair[0]))[:depth]) for query, found in run.items()
    }


def read_qrels(path: Path) -> Qrels:
    """Reads judgements: TREC's four columns, or three with a header. Grades below 0 count 0.

    Raises:
        InvalidRequest: a line is neither.
    """
    qrels: Qrels = {}
    for number, line in _lines(path):
        fields = line.split()
        if number == 1 and len(fields) == 3 and not _is_number(fields[2]):
            continue
        if len(fields) not in (3, 4):
            raise _bad(path, number, "judgements have 4 columns, qid 0 docid grade, or 3, qid docid grade", line)
        qrels.setdefault(fields[0], {})[fields[-2]] = max(0.0, _number(path, number, fields[-1], line))
    return qrels


def read_queries(path: Path) -> dict[str, str]:
    """Reads queries by id.

    Raises:
        InvalidRequest: a line has no id or no text, or an id appears twice.
    """
    return {id: query for id, _, query in _texts(path, ("query", "text"))}


def read_corpus(path: Path, wanted: Collection[str]) -> dict[str, Segment]:
    """Reads those documents of a corpus that are wanted; the others are skipped line by line.

    Raises:
        InvalidRequest: a line has no id or no text, an id appears twice, or a wanted document isn't there.
    """
    found = {
        id: Segment(id=id, title=title or None, text=text)
        for id, title, text in _texts(path, ("text", "contents"), frozenset(wanted))
    }
    missing = [id for id in wanted if id not in found]
    if missing:
        raise InvalidRequest(
            f"{path} lacks {len(missing)} of the {len(wanted)} documents in the run, e.g. {missing[0]!r}"
        )
    return found


def run_lines(query: str, ranking: Sequence[str], unranked: Sequence[str] = (), tag: str = _TAG) -> Iterator[str]:
    """A query's lines of a run; the score counts down to 1, and what was not ranked shares the score 0."""
    for place, document in enumerate([*ranking, *unranked]):
        score = max(0, len(ranking) - place)
        yield f"{query} Q0 {document} {place + 1} {score} {tag}"


def write_run(path: Path, rankings: Mapping[str, tuple[Sequence[str], Sequence[str]]]) -> None:
    """Writes a run of (ranking, unranked) by query: whole, or not at all.

    Raises:
        InvalidRequest: an id holds white space, which a run's columns can't; or the file can't be written.
    """
    for query, (ranking, unranked) in rankings.items():
        for id in (query, *ranking, *unranked):
            if len(id.split()) != 1:
                raise InvalidRequest(f"ids in a run must be without white space, got {id!r}")
    lines = [line for query, found in rankings.items() for line in run_lines(query, *found)]
    part = path.with_name(path.name + ".part")
    try:
        part.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        part.replace(path)
    except OSError as error:
        raise InvalidRequest(f"can't write {path}: {error}") from None


def _texts(path: Path, names: Sequence[str], wanted: frozenset[str] | None = None) -> Iterator[tuple[str, str, str]]:
    """(id, title, text) of each line, JSON or id TAB text."""
    seen: set[str] = set()
    for number, line in _lines(path):
        title, text = "", ""
        if line.lstrip().startswith("{"):
            try:
                record = json.loads(line)
            except json.JSONDecodeError as error:
                raise _bad(path, number, f"not JSON ({error})", line) from None
            id = next((str(record[key]) for key in ("id", "_id", "docid") if record.get(key) is not None), "")
            title = str(record.get("title") or "")
            text = next((str(record[key]) for key in names if record.get(key)), "")
        else:
            id, _, text = (part.strip() for part in line.partition("\t"))
        if not id or (not text.strip() and (wanted is None or id in wanted)):
            raise _bad(path, number, f"needs an id and {' or '.join(names)}, as JSON or as id TAB text", line)
        if id in seen:
            raise _bad(path, number, f"id {id!r} appears twice", line)
        seen.add(id)
        if wanted is None or id in wanted:
            yield id, title, text


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    try:
        with path.open(encoding="utf-8") as file:
            for number, line in enumerate(file, 1):
                if line.strip():
                    yield number, line.rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidRequest(f"can't read {path}: {error}") from None


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


def _number(path: Path, number: int, text: str, line: str) -> float:
    if not _is_number(text):
        raise _bad(path, number, f"{text!r} is no number", line)
    return float(text)


def _bad(path: Path, number: int, why: str, line: str) -> InvalidRequest:
    return InvalidRequest(f"{path} line {number}: {why}; got {line[:80]!r}")
