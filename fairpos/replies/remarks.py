"""What is said besides a list: whether it leaves the list standing.

After a list only these may stand, and anything else makes it no vote:

- a remark about passages ("[2] names him", "The other two are off-topic"), about the query, or a reason (because ...);
- a remark that the ranking is by relevance ("I ranked them by how directly they answer");
- a heading of an explanation, and what stands in its paragraph;
- a courtesy ("Let me know if ...").

None of them may say that passages are tied (unless the list has ties too), that the order is the input's, that the list
is taken back, or that a passage belongs elsewhere than where the list has it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from fairpos.replies.claims import NAME, Places, claims_otherwise
from fairpos.replies.words import AGAINST, NOUNS, TAKES_BACK, TIED

_LONGEST = 600  # characters of a sentence that are looked at
_ABBREVIATED = (
    r"(?<!\be\.g)(?<!\bi\.e)(?<!\betc)(?<!\bvs)(?<!\bDr)(?<!\bMr)(?<!\bMs)(?<!\bSt)(?<!\bcf)(?<!\bno)(?<!\b[A-Z])"
)
_SENTENCE_END = re.compile(rf"{_ABBREVIATED}[.!?;]+[\"')\]]*(?=\s|$)|\n")

_NAMED = re.compile(NAME, re.IGNORECASE)
_START = re.compile(r"[\s\"'“”‘’(\[{>|,:-]*(?:(?:[-•+–]|\(?\d{1,3}[.)]|\|)\s+)?", re.IGNORECASE)
_CONNECTIVES = re.compile(
    r"(?:(?:and|but|so|also|additionally|moreover|furthermore|however|while|although|though|whereas|because|since|as|"
    r"given\s+that|with|where|in\s+(?:contrast|comparison|particular|this\s+case|my\s+view)|by\s+contrast|conversely|"
    r"on\s+the\s+other\s+hand|meanwhile|similarly|likewise|finally|lastly|next|then|first(?:ly)?|second(?:ly)?|"
    r"third(?:ly)?|therefore|thus|hence|here|specifically|only|both|either|even|among\s+(?:these|them)|of\s+these|overall|"
    r"th(?:is|at)(?:'s|\s+is)\s+because|(?:please\s+)?note\s+that|note|i\s+(?:put|placed|ranked|chose|picked|selected|consider(?:ed)?|find|found|rated)|"
    r"first\s+of\s+all|in\s+(?:this|my|the)\s+(?:ranking|order|list)|weil|da|porque|ya\s+que|car|perché|因为|由于)\b[,:]?\s*|因为|由于){0,4}",
    re.IGNORECASE,
)
_CONTENT = (
    r"(?:(?:also|only|just|directly|clearly|explicitly|merely|briefly|specifically|all|both|each|simply|is|are|does|do|did|"
    r"it|not|don't|doesn't|didn't|then|still)\s+){0,3}"
    r"(?:mention|name|contain|provide|giv|talk|discuss|describ|explain|state|answer|address|cover|focus|offer|refer|lack|"
    r"fail|relat|detail|identif|support|match|about|concern|deal|touch|come|came|say|tell|show|includ|confirm|credit|"
    r"on-?topic|off-?topic|relevant|irrelevant|unrelated|less|more|closest|most|least|the\s+(?:most|least|best|only)|written|"
    r"have|has|make|point|present|define|highlight|specif|not\s+(?:relevant|directly))\w*\b"
)
_BY_RELEVANCE = (
    r"(?:relevan|pertinen|question|query|answer|how\s+(?:well|directly|closely|much|useful|relevant)|content|information|"
    r"usefulness|best\s+(?:first|to)|most\b.{0,20}\b(?:first|to))"
)
_HEADS = tuple(
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        NAME,
        # other passages than all of them
        rf"(?:(?:the|this|that|these|those|its|their|each|no|none\s+of\s+the)\s+)?"
        rf"(?:(?:first|second|third|fourth|fifth|last|top|other|remaining|latter|former|most|least|more|less|relevant|best|"
        rf"worst|highest|lowest|ranked|top-ranked|lower-ranked|middle|two|three|four|next)\s+){{1,4}}"
        rf"(?:{NOUNS}|ones?|two|three|four|five)\b",
        r"(?:the|all|none\s+of)\s+(?:the\s+)?(?:others?|rest|latter|former|remainder|top)\b",
        rf"(?:this|that|the)\s+{NOUNS}\s+{_CONTENT}",
        rf"(?:all(?:\s+of)?\s+|both(?:\s+of)?\s+|each(?:\s+of)?\s+|every\s+)?(?:the\s+|these\s+|three\s+|two\s+|four\s+)*"
        rf"(?:{NOUNS}|them)\s+{_CONTENT}",
        r"(?:the|this|your|der|die|la|el|le)?\s*(?:user(?:'s)?\s+)?(?:query|question|topic|frage|anfrage|"
        r"pregunta|consulta|requête|domanda|pergunta)\b",
        r"(?:the\s+)?user\s+(?:asks|asked|wants|wanted|needs|is\s+(?:asking|looking))\b",
    )
)
# What a pronoun means is only sure where something was said before: at the beginning of a line it may be the list.
_PRONOUN_HEAD = re.compile(rf"(?:it|its\s+\w+|they|this|that|which|who|he|she)\s+{_CONTENT}", re.IGNORECASE)
_RANKING_HEADS = tuple(  # a ranking by relevance
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        rf"(?:(?:this|the|my|that|above)\s+)*(?:final\s+)?(?:ranking|order|ordering|list)\b.{{0,80}}?{_BY_RELEVANCE}",
        rf"(?:i(?:'ve|\s+have)?|they|these|(?:the\s+|these\s+)?{NOUNS})\s+(?:are|were|have\s+been)?\s*(?:\w+ly\s+)?"
        rf"(?:rank|order|sort|plac|put|list|prioriti|based|consider|judg|evaluat|assess|chose|look|focus)\w*\b"
        rf".{{0,80}}?(?:{_BY_RELEVANCE}|{NAME})",
        rf"(?:based|ranked|ordered|sorted)\s+(?:on|by|according\s+to)\b.{{0,80}}?{_BY_RELEVANCE}",
        r"(?:relevance|direct(?:ness|ly)?|how\s+(?:well|directly|closely)|of\s+(?:its|their|relevance))\b",
        rf"in\s+(?:terms|order)\s+of\s+{_BY_RELEVANCE}",
        r"(?:is|would\s+be|represents)\s+(?:my|the|your)\s+(?:\w+\s+)?(?:ranking|order|answer)(?:\s+(?:of|by|based|for)\b.*)?\s*$",
    )
)
_HEADING = re.compile(
    r"(?:(?:brief|short|detailed|quick|my|the|some)\s+)*(?:explanations?|reasoning|rationale|reasons?|justifications?|why|"
    r"analysis|details?|breakdown|here(?:'s|\s+is)\s+(?:why|the\s+(?:reasoning|rationale|explanation)|my\s+reasoning|"
    r"a\s+(?:brief\s+)?(?:explanation|breakdown))|begründung|erklärung|erläuterung|explicaci[óo]n|justificaci[óo]n|razon\w*|"
    r"explications?|justification|spiegazione|motivazione|explica[çc][ãa]o|(?:以下是)?(?:理由|解释|说明|原因|分析|説明))"
    r"(?:\s+(?:for|of|behind|is|as)\b[^.:\n]{0,60})?\s*(?=[:-]|$)",
    re.IGNORECASE,
)
_COURTESY = re.compile(
    r"(?:please\s+)?(?:let\s+me\s+know|tell\s+me\s+if|(?:i\s+)?hope\s+(?:this|that|it)|feel\s+free|"
    r"if\s+(?:you\s+(?:have|need|want|would|'d|wish|like)|you'd|anything|there)|"
    r"(?:i(?:'m|\s+am)\s+)?happy\s+to\s+(?:help|explain)|is\s+there\s+anything|"
    r"would\s+you\s+like|do\s+you\s+(?:want|need|have)|thank|thanks|you(?:'re|\s+are)\s+welcome|best\s+regards|cheers|done\b|"
    r"that(?:'s|\s+is)\s+(?:it|all|my\s+(?:final\s+)?(?:ranking|answer))\s*$|"
    r"th(?:is|at)\s+is\s+(?:my|the)\s+(?:final\s+)?(?:ranking|answer)\s*$|i(?:'m|\s+am)\s+(?:quite\s+|very\s+)?confident|"
    r"end\s+of\s+(?:ranking|answer|list|response)|confidence\b|ich\s+hoffe|lass\w*\s+(?:es\s+)?mich\s+wissen|"
    r"gib\s+mir\s+bescheid|wenn\s+(?:du|sie)\s+(?:weitere|noch|fragen)|bei\s+(?:weiteren\s+)?fragen|espero\s+que|si\s+(?:necesitas|tienes)|avísame|"
    r"j'espère|n'hésite|si\s+vous\s+avez|spero\s+che|fammi\s+sapere|se\s+(?:precisar|tiver|hai)|希望|如果您|如有|请告诉|如需|"
    r"ご不明|お役に)",
    re.IGNORECASE,
)
# Of a ranking by relevance: that it is none.
_DENIES = re.compile(
    r"\b(?:not|nothing|no|never|without|regardless|irrespective|instead|rather|hardly|barely|neither|nor|despite|except|"
    r"unclear|unknown|ignored|irrelevant|uncertain|hard|difficult|impossible|unsure)\b|n't\b",
    re.IGNORECASE,
)
# A sentence that cites a passage, and speaks of nothing but what is in it.
_ABOUT_THE_LIST = re.compile(
    r"\b(?:i|me|my|we|you|this|that|these|those|it|them|they|all|both|each|any|list|order|ranking|rank|would|could|should|might|"
    r"may|if|or|what|how|same)\b",
    re.IGNORECASE,
)


def stands_after(text: str, places: Places, *, ties: bool, lenient: bool = False) -> bool:
    """Whether a list stands where this is said after it.

    Args:
        text: What is said, plain.
        places: Which group of the list a label is in, in lower case.
        ties: The list has ties: that words speak of such is no objection.
        lenient: It is an explanation, be its subject what it may.
    """
    explains = lenient
    for sentence, begins_line, is_listed in _sentences_of(text):
        if is_objection(sentence, places, ties=ties) or _NAMED.fullmatch(sentence):
            return False
        if _HEADING.match(sentence):
            explains = True
        elif begins_line and not (explains and is_listed) and not lenient:
            explains = explains and _follows_heading(sentence)
            if not explains and not _is_neutral(sentence, begins=True):
                return False
            explains = explains or _NAMED.match(sentence.lower()) is not None
        elif not explains and not _is_neutral(sentence):
            return False
    return True


def is_objection(sentence: str, places: Places, *, ties: bool) -> bool:
    """Whether a sentence speaks against a list, whatever it is about."""
    says_tied = not ties and TIED.search(sentence) is not None
    taken_back = AGAINST.search(sentence) is not None or TAKES_BACK.match(sentence) is not None
    return says_tied or taken_back or claims_otherwise(sentence, places)


def only_explains(text: str) -> bool:
    """Whether what follows a list, on lines of its own, begins as an explanation or a courtesy."""
    first = next(_sentences_of(text), None)
    if first is None or "\n" not in text[: len(text) - len(text.lstrip())]:
        return False
    return _HEADING.match(first[0]) is not None or _COURTESY.match(first[0]) is not None


def sentences_before(text: str) -> list[str]:
    """The sentences of the paragraph that a text ends with."""
    paragraph = re.split(r"\n[ \t]*\n", text.rstrip()[-2 * _LONGEST :])[-1]
    return [sentence for sentence, _, _ in _sentences_of(paragraph)]


def _sentences_of(text: str) -> Iterator[tuple[str, bool, bool]]:
    """Sentences, without what marks an entry; whether they begin a line, and whether they are an entry's."""
    start, begins_line = 0, True
    for end in (*_SENTENCE_END.finditer(text), None):
        whole = text[start : len(text) if end is None else end.start()][:_LONGEST]
        marker = _START.match(whole)
        opened = marker.end() if marker else 0
        if opened and whole[opened - 1] in "[({" and _NAMED.match(whole, opened - 1):
            opened -= 1  # it opens a name, not an aside
        sentence = whole[opened:].strip()
        is_listed = whole.startswith(("  ", "\t")) or re.match(r"\s*[-•+–|]", whole) is not None
        if any(c.isalnum() for c in sentence):
            yield sentence, begins_line, is_listed
            begins_line = False
        if end is not None:
            begins_line = begins_line or text[end.start()] == "\n"
            start = end.end()


def _follows_heading(sentence: str) -> bool:
    """Whether a line can be an explanation's although another one precedes it: it isn't about the list."""
    return not re.match(
        r"(?:all|both|they|these|those|that|this|it|the\s+(?:list|order|ranking|above|order\w*)|i|everything|each|every|please)\b",
        sentence,
        re.IGNORECASE,
    )


def _is_neutral(sentence: str, *, begins: bool = False) -> bool:
    """Whether a sentence is about passages or the query, gives a reason, or is a courtesy."""
    if _COURTESY.match(sentence):
        return True
    opening = _CONNECTIVES.match(sentence)
    rest = sentence[opening.end() :] if opening else sentence
    if any(head.match(rest) or head.match(sentence) for head in _HEADS):
        return True
    if (rest != sentence or not begins) and _PRONOUN_HEAD.match(rest):
        return True
    if any(head.match(rest) for head in _RANKING_HEADS):
        return _DENIES.search(rest) is None
    return _NAMED.search(sentence) is not None and not _ABOUT_THE_LIST.search(sentence)
