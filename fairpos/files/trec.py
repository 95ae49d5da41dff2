"""The files of retrieval experiments: runs and judgements, queries and corpora, each plain or packed (`.gz`).

run       qid Q0 docid rank score tag        read and written; the score decides, the rank column doesn't
          qid docid rank                     MS MARCO's; read
qrels     qid 0 docid grade                  or, with a header, query-id corpus-id score (BEIR)
queries   {"id" | "_id": ..., "query" | "text": ...} a line, or id TAB text
corpus    {"id" | "_id" | "docid": ..., "title"?: ..., "text" | "contents": ...} a line, or id TAB text

Columns are what tabs separate, where there are as many of these as the format has, so that an id may hold a blank; else
what blanks and tabs separate. No other character separates: an id may hold a no-break space.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

from fairpos.errors import InvalidRequest
from fairpos.files.text import text_lines, write_text
from fairpos.metrics.trec_order import trec_order
from fairpos.types import Groups, Segment

Run: TypeAlias = dict[str, dict[str, float]]  # query -> document -> score
Qrels: TypeAlias = dict[str, dict[str, float]]  # query -> document -> grade

_TAG = "fairpos"
_NUMBER = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
_GRADE_TITLES = frozenset(
    {"score", "rel", "relevance", "relevant", "relevancy", "grade", "label", "judgement", "judgment"}
)
_BLANKS = " \t\f\v\r"  # what trec_eval takes for white space within a line


@dataclass(slots=True)
class Texts:
    """Texts by id, and what was wrong with lines of their file: a line's fault is that line's.

    Attributes:
        found: By id, in the file's order.
        faults: In words, with their line numbers.
    """

    found: dict[str, Segment] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)


def read_run(path: Path, depth: int | None = None) -> Run:
    """Reads a run.

    Args:
        path: The file.
        depth: Documents a query, the best as trec_eval ranks them (see `trec_order`); None is all.

    Returns:
        Scores by query and document, best first. MS MARCO's runs have none: theirs are the negative ranks.

    Raises:
        InvalidRequest: a line isn't one of a run, or names a document twice.
    """
    run: Run = {}
    for number, line in _filled_lines(path):
        fields = _columns_of(line, (6, 3))
        if len(fields) == 6:
            query, _, document, _, text, _ = fields
            score = _number_of(path, number, text, line)
        elif len(fields) == 3:
            query, document, text = fields
            score = -_number_of(path, number, text, line)
        else:
            raise _bad_line(
                path, number, "a run has 6 columns, qid Q0 docid rank score tag, or 3, qid docid rank", line
            )
        found = run.setdefault(query, {})
        if document in found:
            raise _bad_line(path, number, f"document {document!r} appears twice for query {query!r}", line)
        found[document] = score
    return {query: {id: found[id] for id in trec_order(found)[:depth]} for query, found in run.items()}


def read_qrels(path: Path) -> Qrels:
    """Reads judgements: TREC's four columns, or three; a header may stand first. Grades below 0 count 0.

    Raises:
        InvalidRequest: a line is neither, a grade isn't a whole number, or another one was there for its document.
    """
    qrels: Qrels = {}
    for number, line in _filled_lines(path):
        fields = _columns_of(line, (4, 3))
        if number == 1 and len(fields) in (3, 4) and fields[-1].lower() in _GRADE_TITLES:
            continue
        if len(fields) not in (3, 4):
            raise _bad_line(path, number, "judgements have 4 columns, qid 0 docid grade, or 3, qid docid grade", line)
        grade = _number_of(path, number, fields[-1], line)
        if grade != int(grade):  # trec_eval reads 0.5 as 0
            raise _bad_line(path, number, f"a grade must be a whole number, got {fields[-1]}", line)
        grade = max(0.0, grade)
        if qrels.setdefault(fields[0], {}).setdefault(fields[-2], grade) != grade:
            raise _bad_line(path, number, f"document {fields[-2]!r} has another grade already", line)
    return qrels


def read_queries(path: Path) -> Texts:
    """Reads queries.

    Raises:
        InvalidRequest: the file can't be read.
    """
    return _read_texts(path, ("query", "text"))


def read_corpus(path: Path, wanted: Collection[str]) -> Texts:
    """Reads the documents that are wanted; the others are skipped line by line. One without text has its title for it.

    Raises:
        InvalidRequest: the file can't be read.
    """
    return _read_texts(path, ("text", "contents"), frozenset(wanted))


def run_lines(query: str, groups: Groups, tag: str = _TAG) -> Iterator[str]:
    """A query's lines of a run. Scores count down to 1, a step a group; tied documents share theirs.

    What isn't ranked has no line: trec_eval counts it as not found. Whole numbers up to 2^24 differ in single
    precision, in which trec_eval compares them; ties stand in its order, by descending id.
    """
    rank = 0
    for place, group in enumerate(groups):
        for document in trec_order(dict.fromkeys(group, 0.0)):
            rank += 1
            yield f"{query} Q0 {document} {rank} {len(groups) - place} {tag}"


def refuse_unwritable(ids: Collection[str]) -> None:
    """Refuses ids that a run's columns can't hold.

    Raises:
        InvalidRequest: one holds white space.
    """
    for id in ids:
        if not id or any(blank in id for blank in f"{_BLANKS}\n"):
            raise InvalidRequest(f"ids in a run must be without white space, got {id!r}")


def write_run(path: Path, rankings: Mapping[str, Groups]) -> None:
    """Writes a run of rankings by query: whole, or not at all; packed where the name ends in `.gz`.

    Raises:
        InvalidRequest: an id holds white space, which a run's columns can't; or the file can't be written.
    """
    for query, groups in rankings.items():
        refuse_unwritable([query, *(id for group in groups for id in group)])
    write_text(path, "".join(f"{line}\n" for query, groups in rankings.items() for line in run_lines(query, groups)))


def _read_texts(path: Path, names: Sequence[str], wanted: frozenset[str] | None = None) -> Texts:
    """Texts of lines that are JSON, or id TAB text. Of two lines with one id the first counts."""
    texts = Texts()
    for number, line in _filled_lines(path):
        try:
            segment = _text_of_line(line, names)
        except InvalidRequest as error:
            texts.faults.append(f"{path} line {number}: {error}")
            continue
        if wanted is not None and segment.id not in wanted:
            continue
        first = texts.found.setdefault(segment.id, segment)
        if first != segment:
            texts.faults.append(f"{path} line {number}: id {segment.id!r} has another text already, which counts")
    return texts


def _text_of_line(line: str, names: Sequence[str]) -> Segment:
    """A line's id, title and text; the text is the title's, or empty, where there is none.

    Raises:
        InvalidRequest: it has no id, or isn't JSON where it begins like that.
    """
    if not line.lstrip().startswith("{"):
        id, tab, text = line.partition("\t")
        id = id.strip(_BLANKS)
        if not id or not tab:
            raise InvalidRequest(f"needs an id and {' or '.join(names)}, as JSON or as id TAB text; got {line[:80]!r}")
        return Segment(id=id, text=text.strip())
    try:
        record = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise InvalidRequest(f"not JSON ({error}); got {line[:80]!r}") from None
    id = next((str(record[key]) for key in ("id", "_id", "docid") if record.get(key) is not None), "")
    if not id:
        raise InvalidRequest(f"needs an id; got {line[:80]!r}")
    title = str(record.get("title") or "").strip()
    text = next((str(record[key]) for key in names if record.get(key)), "")
    if not text.strip():
        return Segment(id=id, text=title)
    return Segment(id=id, text=text, title=title or None)


def _filled_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Lines that aren't blank, with their numbers."""
    return ((number, line) for number, line in text_lines(path) if line.strip())


def _columns_of(line: str, counts: Collection[int]) -> list[str]:
    """The columns of a line, of which there should be one of these numbers."""
    by_tab = [column.strip(_BLANKS) for column in line.strip("\r").split("\t")]
    if len(by_tab) in counts and all(by_tab):
        return by_tab
    return [column for column in line.translate(dict.fromkeys(map(ord, _BLANKS), " ")).split(" ") if column]


def _is_number(text: str) -> bool:
    """Whether a text is a finite number as C reads it: Python's `float` takes "1_0" and other scripts' digits."""
    return _NUMBER.fullmatch(text) is not None and math.isfinite(float(text))


def _number_of(path: Path, number: int, text: str, line: str) -> float:
    if not _is_number(text):
        raise _bad_line(path, number, f"{text!r} is no number", line)
    return float(text)


def _bad_line(path: Path, number: int, why: str, line: str) -> InvalidRequest:
    return InvalidRequest(f"{path} line {number}: {why}; got {line[:80]!r}")
