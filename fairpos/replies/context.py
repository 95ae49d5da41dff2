"""What the words around a list say of it: that it is the ranking, that it isn't, or nothing.

A list counts only where it stands by itself: at the beginning of a line or a sentence, or after words that lead it in
("Ranking:", "The final ranking is"), and up to the end of its line or sentence, or to the reasons for it. What may lead
it in is a vocabulary (`words`), not a guess: with any other word it is no list. `remarks` has what may
follow.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from fairpos.replies.claims import NAME, Places
from fairpos.replies.remarks import is_objection, sentences_before, stands_after
from fairpos.replies.words import DENIED, FINAL, NOUNS, RANKED_OBJECT, RANKING, TIED, are_allowed

_NAMED = re.compile(NAME, re.IGNORECASE)
_REACH = 400  # characters before a list that are looked at

_FORMAT = re.compile(r"\bformat\b", re.IGNORECASE)
_IN_FORMAT = re.compile(r"\bin\b.{0,60}\bformat\b", re.IGNORECASE)
_COPULA = re.compile(
    r"(?:\b(?:is|are|be|as\s+follows|as|lautet|ist|es|est|è|é)|是|为)\s*$"
    rf"|\brank(?:ed)?(?:\s+(?:(?:the|these|all)\s+)?(?:them|these|{NOUNS}))?\s*$",
    re.IGNORECASE,
)
_MARKER = re.compile(r"^\s*(?:\(?\d{1,3}[.):]|\(\d{1,3}\)|#\d{1,3}:?)\s*$")
_CLAUSE_END = re.compile(r"[.!?;](?=\s|$)|\n")
_TURN = re.compile(r"\b(?:but|however|still|anyway|nonetheless|nevertheless)\b", re.IGNORECASE)
_REASON = re.compile(
    r"^\s*(?:since|because|as|given|considering|after)\b(?P<reason>[^\n]*),\s*(?=\S)|^.*?\bbecause\b.*,\s*(?=\S)",
    re.IGNORECASE,
)
# What the ranking is of or for is free: the query may be anything.
_FREE = re.compile(
    r"\b(?:(?:user(?:'s)?\s+)?(?:question|query|request)|(?:relevan(?:t|ce|cy)|useful(?:ness)?|helpful(?:ness)?|answer(?:s|ing)?|address(?:es|ing)?|"
    r"information|pertinence|responsive(?:ness)?)\s+(?:to|of|for|in|about|on|regarding|who|what|when|where|which|why|how)|"
    r"regarding|concerning|frage|anfrage|pregunta|consulta|requête|domanda|pergunta)\b.*",
    re.IGNORECASE | re.DOTALL,
)
_QUOTED = re.compile(r"[\"“«][^\"“”«»\n]{0,300}[\"”»]|'[^'\n]{3,300}'(?!\w)")
_OPENERS, _CLOSERS = " \t\"'“‘([{", "\"'”’)]}"
_END_OF_LIST = re.compile(r"[ \t]*(?:$|\n|[.!;](?=\s|$)|\((?P<aside>[^()\n]{1,120})\)[ \t]*[.!]?[ \t]*(?:$|\n))")
_REASONS_FOLLOW = re.compile(
    r"[ \t]*(?:[,;][ \t]*)?(?=(?:because|since|as|with|where|given|based|"
    r"in\s+(?:terms|order)\s+of|but|is\s+(?:my|the|your)|would\s+be|"
    r"weil|da|porque|ya\s+que|car|perché|因为)\b|因为)|[ \t]+[-:][ \t]+|:[ \t]+"
)
_CUT_OFF = re.compile(r"[ \t]*[>=][ \t]*(?:[\[({#][ \t]*\w{0,6})?\s*\Z")
_ALL = re.compile(
    r"\b(?:all|both|every|each|they|these|those|passages|documents|everything|none|two|three|four|five)\b",
    re.IGNORECASE,
)
# A sentence about the list that comes next.
_THIS = re.compile(
    r"\b(?:order(?:ing)?|ranking|ranked|list|following|below|example|format|next|what\s+follows)\b|"
    rf"^\W*(?:this|these|here)\b(?!\s+{NOUNS})",
    re.IGNORECASE,
)
_WHAT_FOLLOWS = re.compile(r"\b(?:following|below|next|follows)\W*$", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class LeadIn:
    """The words that lead a list in.

    Attributes:
        start: Where they begin, in characters.
        as_ranking: They say that it is the ranking.
        final: They say that it is the last word.
    """

    start: int
    as_ranking: bool = False
    final: bool = False


def lead_in(text: str, start: int, end: int, *, ties: bool = False) -> LeadIn | None:
    """How the list from `start` to `end` is led in; None where words before it don't let it count.

    Args:
        text: The whole reply, plain.
        start: Of the list, in characters.
        end: After it.
        ties: The list has ties: that words speak of such is no objection.
    """
    clause = _clause_before(text, start, end)
    if clause is None:
        return None
    words, begins = clause
    unquoted = _QUOTED.sub(" ", words)
    spoken = unquoted if any(c.isalpha() for c in unquoted) else words
    denied = DENIED.search(spoken) or (_FORMAT.search(spoken) and not _IN_FORMAT.search(spoken))
    if denied or (not ties and TIED.search(spoken)):
        return None
    plain = _COLON_END.sub("", spoken) if _COLON_END.search(spoken) else _REASON.sub("", spoken)
    if not are_allowed(TIED.sub(" ", _FREE.sub(" ", plain))):
        return None
    as_ranking = RANKING.search(plain) is not None and not RANKED_OBJECT.search(plain)
    lead = LeadIn(begins, as_ranking, FINAL.search(spoken) is not None)
    earlier = [] if lead.final else sentences_before(text[max(0, begins - _REACH) : begins])[-2:]
    return None if any(_turns_down(sentence, ties=ties) for sentence in earlier) else lead


def ends_well(text: str, end: int, until: int, places: Places, *, ties: bool) -> bool:
    """Whether the list's line or sentence ends with it, or goes on with reasons, and nothing takes it back.

    Args:
        text: The whole reply, plain.
        end: Of the list, in characters.
        until: Where the words after it end: at the next list's lead-in, or with the text.
        places: See `remarks.stands_after`.
        ties: See `lead_in`.
    """
    after = text[end:until]
    closed = after.lstrip(f" \t{_CLOSERS}")
    after = closed if after.strip(" \t")[:1] in _CLOSERS else after
    if until == len(text) and _CUT_OFF.match(after):
        return True
    stop = _END_OF_LIST.match(after)
    if stop is not None:
        aside = stop["aside"] or ""
        is_vague = DENIED.search(aside) or not are_allowed(_FREE.sub(" ", aside))
        if (TIED.search(aside) and not ties) or (is_vague and not stands_after(aside, places, ties=ties)):
            return False
        return stands_after(after[stop.end() :], places, ties=ties)
    reasons = _REASONS_FOLLOW.match(after)
    return reasons is not None and stands_after(after[reasons.end() :], places, ties=ties)


def _turns_down(sentence: str, *, ties: bool) -> bool:
    """Whether a sentence before a list says that what follows is no ranking, or that there is none."""
    said = _last_clause(sentence)
    if is_objection(said, {}, ties=True) and not said.lower().startswith(("wait", "hm", "no", "actually", "on ")):
        return True
    if not ties and TIED.search(said) and (_ALL.search(said) or said.count("[") > 1 or said.count("(") > 1):
        return True
    is_about_it = _WHAT_FOLLOWS if _NAMED.search(said) else _THIS
    return DENIED.search(said) is not None and is_about_it.search(said) is not None


def _clause_before(text: str, start: int, end: int) -> tuple[str, int] | None:
    """The clause that leads a list in and where it begins, "" where the list stands at a beginning, None amid words."""
    first = max(0, start - _REACH)
    before = text[first:start]
    line_start = before.rfind("\n") + 1
    own = before[line_start:].rstrip(_OPENERS)
    if own.lstrip().startswith(">") and "\n" in text[start:end]:  # a quotation, not a chain
        return None
    if _MARKER.match(own):
        return None
    if not own.strip(" \t->•+|"):
        above = before[:line_start].rstrip()
        title = above[above.rfind("\n") + 1 :]
        is_title = 0 < len(title) <= 40 and title[-1].isalpha() and not _NAMED.search(title)
        introduces = title.endswith(":") or is_title
        if not introduces:
            return "", start
        clause = _last_clause(title.rstrip(": \t"))
        return clause, first + len(above) - len(title) + title.rfind(clause)
    if own[-1] in ".!?;":
        return "", start
    if own[-1] in ":=":
        clause = _last_clause(own.rstrip(":= \t"))
        return clause, first + line_start + own.rfind(clause)
    clause = _last_clause(own)
    if _COPULA.search(clause) and RANKING.search(clause):
        return clause, first + line_start + own.rfind(clause)
    return None


_COLON_END = re.compile(r"^.*:[ \t]+(?=\S)", re.DOTALL)


def _last_clause(text: str) -> str:
    """What stands after the last end of a sentence, and after a "but" in it."""
    for boundary in (_CLAUSE_END, _TURN):
        ends = [match.end() for match in boundary.finditer(text)]
        text = text[ends[-1] :] if ends else text
    return text
