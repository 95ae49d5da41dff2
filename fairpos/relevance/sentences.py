"""A text in sentences: where documents are cut into chunks, and what an audit of retrievers moves.

A sentence ends at a blank line, at a full stop, exclamation or question mark that a capital, a digit or a bracket
follows, and at those of Chinese and Japanese. Initials and common abbreviations end none. Rules, no model: a boundary
that they miss joins two sentences, which then are cut and moved as one.
"""

from __future__ import annotations

import re
from typing import TypeAlias

_CLOSING = "\"'\u201d\u2019)\\]\u00bb"
_END = re.compile(
    rf"(?P<blank>\s*\n\s*\n\s*)|(?P<wide>[\u3002\uff01\uff1f][\u300d\u300f\uff09]*)|[.!?\u2026]+[{_CLOSING}]*(?P<gap>\s+)"
)
_STARTS = re.compile(r"[\"'\u201c\u2018(\[\u00ab\u00bf\u00a1]*(?:[^\W\d_a-z]|\d)")
_ABBREVIATION = re.compile(
    r"(?:^|[\s(\[\"'])(?:(?:[^\W\d_]\.)*[^\W\d_]|Mr|Mrs|Ms|Dr|Prof|St|Sr|Jr|Gen|Col|Lt|Sgt|Rev|Hon|cf|vs|al|approx|"
    r"Inc|Ltd|Corp|Mt|Ft)\.$",
    re.IGNORECASE,
)
_BEFORE_NUMBER = re.compile(
    r"\b(?:no|nos|pp?|fig|figs|eq|vol|sec|ch|ca|c|jan|feb|mar|apr|jun|jul|aug|sept?|oct|nov|dec)\.$", re.IGNORECASE
)
_WIDE = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff"
_WORD = re.compile(rf"[{_WIDE}]|[^\s{_WIDE}]+")

Span: TypeAlias = tuple[int, int]  # in characters, the end exclusive


def sentence_spans(text: str) -> list[Span]:
    """Where the sentences of a text stand, without the white space around them; empty where there is only that."""
    ends = [match.end() for match in _END.finditer(text) if _ends_sentence(text, match)]
    spans = []
    for start, end in zip([0, *ends], [*ends, len(text)], strict=True):
        part = text[start:end]
        if part.strip():
            first = start + len(part) - len(part.lstrip())
            spans.append((first, first + len(part.strip())))
    return spans


def chunks_of(text: str, words: int) -> list[str]:
    """A text in chunks of whole sentences, at most so many words each; a sentence that is longer is cut.

    Args:
        text: One without a sentence is one chunk.
        words: At least 1; see `word_count`.
    """
    chunks: list[str] = []
    filled = 0
    for start, end in sentence_spans(text):
        for piece in _cut_pieces(text[start:end], words):
            size = word_count(piece)
            if chunks and filled + size <= words:
                chunks[-1] += f" {piece}"
                filled += size
            else:
                chunks.append(piece)
                filled = size
    return chunks or [text]


def word_count(text: str) -> int:
    """How many words a text has: what white space separates, and every character of Chinese and Japanese."""
    return len(_WORD.findall(text))


def _cut_pieces(sentence: str, words: int) -> list[str]:
    """The sentence in pieces of so many words, as it is written; one piece where it fits."""
    found = list(_WORD.finditer(sentence))
    return [
        sentence[found[first].start() : found[min(first + words, len(found)) - 1].end()]
        for first in range(0, len(found), words)
    ]


def _ends_sentence(text: str, match: re.Match[str]) -> bool:
    if match["blank"] is not None or match["wide"] is not None:
        return True
    before, after = text[max(0, match.start("gap") - 20) : match.start("gap")], text[match.end() : match.end() + 1]
    if not _STARTS.match(text, match.end()):
        return False
    return not _ABBREVIATION.search(before) and not (after.isdigit() and _BEFORE_NUMBER.search(before))
