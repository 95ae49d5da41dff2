"""What the words around a list say of it: that it is the ranking, that it isn't, or that it runs from worst to best.

A list counts only where it stands by itself: at the beginning of a line or a sentence, or after a few words that lead
it in ("Ranking:", "The final ranking is"), and up to the end of its line or sentence. Words are English, as prompts
are.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_REACH = 300  # characters before and after a list that are looked at

_WORST = r"(?:worst|least|lowest|weakest|poorest|bottom)"
_BEST = r"(?:best|most|highest|strongest|top)"
_GAP = r"(?:[\s_-]{1,3}[^\W_]{1,20}){0,3}?[\s_-]{1,3}"
_STOP = r"(?=[\s_]*(?:[.,:;)\]\"'\n]|$))"
_REVERSED = re.compile(
    rf"{_WORST}{_GAP}(?:to|until|>)[\s_-]{{1,3}}(?:the[\s_-]{{1,3}})?(?:[^\W_]{{1,20}}[\s_-]{{1,3}})?{_BEST}"
    rf"|{_WORST}{_GAP}(?:first{_STOP}|at[\s_]the[\s_](?:top|front|beginning)\b|on[\s_]top\b)"
    rf"|(?:start|begin)(?:s|ning|ing)?[\s_](?:with|from|at)[\s_](?:the[\s_])?{_WORST}"
    rf"|{_BEST}{_GAP}(?:last{_STOP}|at[\s_]the[\s_](?:bottom|end)\b)"
    r"|\bascending\b|\bincreasing[\s_](?:order|relevance|importance|rank)|\brevers(?:e|ed)[\s_](?:order|ranking)"
    r"|\bbackwards?[\s_](?:order|ranking)|\b(?:ranked|sorted|ordered|listed)[\s_]backwards?\b",
    re.IGNORECASE,
)
_DENIED = re.compile(
    r"\b(?:not|never|cannot|wrong(?:ly)?|incorrect(?:ly)?|mistaken|instead\s+of|rather\s+than|examples?|e\.?g|"
    r"for\s+instance|templates?|such\s+as|syntax|initial(?:ly)?|original(?:ly)?|draft|tentative(?:ly)?|previous(?:ly)?|"
    r"earlier|before|first\s+(?:thought|guess|attempt|try|impression|pass)|baseline|random(?:ly)?|arbitrary|off-topic|"
    r"irrelevant|unrelated|neither|none|nor|ignore|discard(?:ed)?|exclud(?:e|ed|ing)|(?:input|given)\s+(?:order|list)|"
    r"(?:order|list|sequence)\s+(?:as\s+)?(?:given|shown|presented|provided|received|seen)|as\s+(?:given|shown)|"
    r"(?:sorted|ranked|ordered)\s+by\s+(?:date|length|name|title|size|source)|"
    r"unsorted|alphabetical(?:ly)?|chronological(?:ly)?|appearance|irrelevance|"
    r"(?:to|please|must|should)\s+(?:be\s+)?(?:re-?)?rank(?:ed)?|"
    r"^\s*rank\s+(?:the|these|those|all)|no\s+(?:\w+\s+)?(?:ranking|order)|"
    r"(?:ranking|order)\s+(?:wanted|requested|task)|users?\s+wants?|"
    r"prompts?|inputs?|incoming|presented|shown|existing|old|prior|default|current|starting|document\s+order|reading\s+order|"
    r"retriever|bm25|if|suppos(?:e|ing)|assum(?:e|ing)|perhaps|maybe|possibl[ey]|"
    r"hypothetical(?:ly)?|one\s+could|placeholder|"
    r"sample|looks?\s+like|inverse|reversed|anti-?ranking|"
    r"unranked|impossible|differs?|differing|unclear|unknown|unavailable|unable|declined?|refused?|without|could\s+be|might\s+be|says?|said|states?|claims?|asks?|suggests?|instructs?|quotes?)\b|n't\b|"
    r"\bcant\b|[\])\w][ \t]*[<>][ \t]*[\[(\w]|(?<!to )(?<!to the )\b(?:low(?:est)?|bottom|worst|least|poorly)\b",
    re.IGNORECASE,
)
_TIED = re.compile(r"\b(?:tied?|ties|equal(?:ly)?|same|indistinguishable)\b", re.IGNORECASE)
_FORMAT = re.compile(r"\bformat\b", re.IGNORECASE)
_IN_FORMAT = re.compile(r"\bin\b.{0,60}\bformat\b", re.IGNORECASE)
_RANKING = re.compile(
    r"\b(?:re-?)?rank(?:ing|ings|ed|s)?\b|\b(?:final|relevance|best|new)\s+order(?:ing)?\b|^\s*(?:the\s+)?order(?:ing)?\s*$|"
    r"\border\s+of\s+relevance|\bsorted\b|\bordered\b|\bdescending\b|\bbest\b.{0,30}\b(?:first|to)\b|"
    r"\bmost\b.{0,30}\b(?:first|to)\b|^\s*(?:the\s+)?(?:final\s+)?answer\s*$",
    re.IGNORECASE,
)
_FINAL = re.compile(
    r"\b(?:final(?:ly)?|answer|conclusions?|corrected|correction|revised|updated|actual(?:ly)?|therefore|thus|so|hence)\b",
    re.IGNORECASE,
)
_TAKEN_BACK = re.compile(
    r"\b(?:that|this|it|which|the\s+above)(?:'s|\s+is|\s+was|\s+would\s+be)\s+(?:\w{1,20}\s+){0,2}?(?:wrong|incorrect|not|"
    r"mistaken|a\s+mistake|an?\s+example|the\s+(?:input|original|given|initial)\s+order|random|arbitrary)\b|"
    r"\bscratch\s+that|\bignore\s+(?:that|this)|\bdisregard|\bno,?\s+wait|^\s*wait\b|\bon\s+second\s+thought",
    re.IGNORECASE,
)

_COPULA = re.compile(r"\b(?:is|are|be|as\s+follows|as)\s*$", re.IGNORECASE)
_MARKER = re.compile(r"^\s*(?:\(?\d{1,3}[.):]|\(\d{1,3}\)|#\d{1,3}:?)\s*$")
_SENTENCE_END = re.compile(r"[.!?;](?=\s|$)|\n")
_TURN = re.compile(r"\b(?:but|however|still|anyway|nonetheless|nevertheless)\b", re.IGNORECASE)
_OPENERS, _CLOSERS = " \t\"'“‘([{", "\"'”’)]}"
_END_OF_LIST = re.compile(r"[ \t]*(?:$|\n|[.!;](?:\s|$)|\([^()\n]{1,80}\)[ \t]*[.!]?[ \t]*(?:$|\n))")
_CUT_OFF = re.compile(r"[ \t]*[>=][ \t]*(?:[\[(][ \t]*\w{0,6})?\s*\Z")


@dataclass(frozen=True, slots=True)
class Context:
    """How a list stands in its text.

    Attributes:
        counts: It stands by itself, and nothing around it says that it is no ranking.
        as_ranking: The words that lead it in say that it is the ranking.
        final: They say that it is the last word.
    """

    counts: bool
    as_ranking: bool = False
    final: bool = False


_APART = Context(counts=False)


def runs_backwards(text: str) -> bool:
    """Whether the text says somewhere that something goes from the worst to the best."""
    return _REVERSED.search(text) is not None


def context_of(text: str, start: int, end: int, *, ties: bool = False) -> Context:
    """How the list from `start` to `end` stands.

    Args:
        text: The whole reply, plain.
        start: Of the list, in characters.
        end: After it.
        ties: The list has ties: that words speak of such is no objection.
    """
    lead = _lead_in(text, start, end)
    if lead is None or not _ends_well(text, end):
        return _APART
    denied = _DENIED.search(lead) or (_FORMAT.search(lead) and not _IN_FORMAT.search(lead))
    if denied or (not ties and _TIED.search(lead)):
        return _APART
    return Context(True, _RANKING.search(lead) is not None, _FINAL.search(lead) is not None)


def _lead_in(text: str, start: int, end: int) -> str | None:
    """The words that lead a list in, "" where it stands at a beginning, None where it stands amid a sentence."""
    before = text[max(0, start - _REACH) : start]
    line_start = before.rfind("\n") + 1
    own = before[line_start:].rstrip(_OPENERS)
    if own.lstrip().startswith(">") and "\n" in text[start:end]:  # a quotation, not a chain
        return None
    if _MARKER.match(own):
        return None
    if not own.strip(" \t->•+"):
        above = before[:line_start].rstrip()
        title = above[above.rfind("\n") + 1 :]
        introduces = title.endswith(":") or (0 < len(title) <= 40 and title[-1].isalpha())
        return _last_clause(title.rstrip(": \t")) if introduces else ""
    if own[-1] in ".!?;":
        return ""
    if own[-1] in ":=":
        return _last_clause(own.rstrip(":= \t"))
    clause = _last_clause(own)
    return clause if _COPULA.search(clause) and _RANKING.search(clause) else None


def _last_clause(text: str) -> str:
    """What stands after the last end of a sentence, and after a "but" in it."""
    for boundary in (_SENTENCE_END, _TURN):
        ends = [match.end() for match in boundary.finditer(text)]
        text = text[ends[-1] :] if ends else text
    return text


def _ends_well(text: str, end: int) -> bool:
    """Whether the list's line or sentence ends with it (or the reply does), and the next one doesn't take it back."""
    after = text[end : end + _REACH]
    after = after[len(after) - len(after.lstrip(_CLOSERS)) :]
    if end + _REACH >= len(text) and _CUT_OFF.match(after):
        return True
    stop = _END_OF_LIST.match(after)
    if stop is None or (stop[0].lstrip().startswith("(") and (_DENIED.search(stop[0]) or _TIED.search(stop[0]))):
        return False
    following = after[stop.end() :]
    sentence = _SENTENCE_END.search(following.lstrip())
    return not _TAKEN_BACK.search(following.lstrip()[: sentence.end()] if sentence else following)
