"""Reading a verdict in words, strictly: it counts if the reply says one thing and nothing beside it takes it back.

A verdict is `[[A]]`, in whatever script brackets are and in whatever capitals, also `[[Answer A]]` and `[[A>B]]`, or a
JSON object whose "winner" or "verdict" is a label. It STANDS where its sentence holds nothing but words of a verdict
("My final verdict is [[A]]"); elsewhere it is mentioned ("I would write [[A]] if ..."), which only counts where none
stands. A text without a verdict, with different ones, or with a label that was not offered is unparsable, never guessed
at. docs/judging.md has the table of examples.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from fairpos.replies.remarks import stands_after
from fairpos.replies.words import AGAINST, TIED

# Brackets as they are typed in other scripts, and as LaTeX escapes them.
_PLAIN_BRACKETS = str.maketrans(
    dict.fromkeys("【〔［", "[") | dict.fromkeys("】〕］", "]") | {"〚": "[[", "〛": "]]", "⟦": "[[", "⟧": "]]"}
)
_BRACKETS = re.compile(r"\[\s*\[\s*([^\[\]]*?)\s*\]\s*\]")
_KEYS = frozenset({"winner", "verdict", "final_verdict", "choice"})
# What people and models call the thing that has the label.
_CANDIDATE = r"(?:answer|assistant|candidate|choice|letter|model|option|response|solution)"
_CALLED = re.compile(rf"\A(?:the\s+)?{_CANDIDATE}\s*[:#]?\s*", re.IGNORECASE)
_AROUND = " \t\r\n*_`'\"“”‘’().,:;!"
_TIES = frozenset({"tie", "tied", "a tie", "draw", "a draw", "equal", "neither", "none", "both", "no winner"})
_SAID_OF_VERDICTS = """
    a actual after all am analysis and answer answers as assessment assistant based be best better both by careful
    choice choose chosen clear comparing comparison conclude conclusion considered considering consideration correct
    clearly decided decision declare evaluation final finally follows for given go hence here here's i i'd i'll i'm
    in is it it's judge judged judgement judgment letter model my of on one option our overall pick preference
    prefer preferred question rating reasons response result right select selected so solution the therefore these
    this thus to verdict vote we weighing will winner winning with would above own summary sum up everything
"""
_VERDICT_WORDS = frozenset(_SAID_OF_VERDICTS.split())
# In the clause of a verdict, and where it is said under a condition or as an example anywhere in its sentence.
_DENIED = re.compile(
    r"\b(?:not|never|neither|nor|instead|rather|cannot|can't|almost|initially|at\s+first|first\s+(?:thought|impression)|unsure|"
    r"wrong|mistaken|tempted|otherwise|anything\s+but|loses?|lost|losers?|worse|worst|weaker|weakest|inferior|fails?|refuse)\b|"
    r"n't\b",
    re.IGNORECASE,
)
_SUPPOSED = re.compile(
    r"\b(?:anything\s+but|if|unless|could|might|maybe|perhaps|examples?|formats?|either|whether|says?|claims?|asks?|asked|tells?|told|write|"
    r"reply|template|placeholder|supposed?)\b|\?",
    re.IGNORECASE,
)
_CLAUSE_END = re.compile(r"[,;]\s|\b(?:so|but|therefore|hence|thus)\b", re.IGNORECASE)
_FINAL = re.compile(
    r"\b(?:final|finally|overall|conclusions?|therefore|thus|hence|corrected|correction)\b", re.IGNORECASE
)
_SENTENCE_END = re.compile(r"(?<!\be\.g)(?<!\bi\.e)[.!?:](?=\s|$)|\n")
_TIE_SENTENCE = re.compile(
    r"(?:(?:overall|so|therefore|thus|hence|in\s+(?:conclusion|summary)|honestly|i\s+think|i'd\s+say)\b,?\s*)*"
    r"(?:it(?:'s|\s+is)|this\s+is|both(?:\s+\w+)?(?:\s+are)?|they(?:'re|\s+are)|the(?:\s+two)?\s+\w+\s+are|neither(?:\s+\w+)?\s+is|"
    r"i\s+call\s+it|there\s+is)\s+(?:\w+\s+)?(?:a\s+)?(?:tie|tied|draw|equal(?:ly)?(?:\s+\w+)?|the\s+same|equivalent|identical|"
    r"better|no\s+(?:clear\s+)?(?:winner|difference))(?:\s+than\s+the\s+other)?\W*",
    re.IGNORECASE,
)


_CALLED_TIE = re.compile(r"\b(?:it(?:'s|\s+is)|this\s+is|so|therefore|call\s+it)\s+a\s+(?:tie|draw)\b", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class _Said:
    """A verdict in a text: the label (None: one that wasn't offered), where it stands, and how."""

    label: str | None
    start: int
    end: int
    stands: bool
    is_final: bool = False


def parse_verdict(text: str, labels: Sequence[str], tie: str | None = None) -> str | None:
    """The one label that a text names as its verdict.

    Capitals don't matter unless labels differ by them alone, nor does what the label is called (`[[Answer A]]`), nor
    the script that brackets are from. A thinking trace must be cut off before (`fairpos.backends.thinking`).

    Args:
        text: The reply.
        labels: Those that were offered.
        tie: The label for a tie, where it was offered; "tie", "neither" and the like then mean it too.

    Returns:
        A label, or `tie`; None where there is no verdict, more than one, or one that is taken back.
    """
    names = _LabelReader(labels, tie)
    plain = unicodedata.normalize("NFKC", text.translate(_PLAIN_BRACKETS)).replace("\\[", "[").replace("\\]", "]")
    said = [*_bracketed_verdicts(plain, names), *_json_verdicts(plain, names)]
    said.sort(key=lambda each: each.start)
    chosen = _chosen_verdict(said)
    if chosen is None or chosen.label is None:
        return None
    later = [each for each in said if each.start > chosen.start and each.label != chosen.label]
    if later or not _stands_beside(plain, chosen, said[-1].end, names):
        return None
    return chosen.label


class _LabelReader:
    """Which label a name means.

    Args:
        labels: Those that were offered.
        tie: As in `parse_verdict`.
    """

    def __init__(self, labels: Sequence[str], tie: str | None) -> None:
        allowed = [*labels, tie] if tie is not None else list(labels)
        folds = len({label.casefold() for label in allowed}) == len(allowed)
        self._fold: Callable[[str], str] = str.casefold if folds else str
        self._known: dict[str, str] = {self._fold(label): label for label in allowed}
        if tie is not None:
            self._known |= {word: tie for word in _TIES if word not in self._known}
        self.labels = tuple(labels)
        self.tie = tie

    def label_of(self, name: str) -> str | None:
        """The label, without what it is wrapped in or called unless that itself is a label; None for any other name."""
        bare = name.strip("[]").strip(_AROUND)
        called = bare if self._fold(bare) in self._known else _CALLED.sub("", bare, count=1).strip(_AROUND)
        found = self._known.get(self._fold(called)) or self._known.get(called.lower() if self.tie else "")
        return found or self._compared_label(called)

    def _compared_label(self, name: str) -> str | None:
        """Of `A>B`, `A>>B`, `B<A` or `A=B`, each label once."""
        match = re.fullmatch(r"(\w+)\s*(>{1,2}|<{1,2}|=)\s*(\w+)", name)
        pair = [self._known.get(self._fold(part)) for part in (match[1], match[3])] if match else []
        if match is None or set(pair) != set(self.labels) or len(self.labels) != 2:
            return None
        return self.tie if match[2] == "=" else pair[0] if ">" in match[2] else pair[1]


def _bracketed_verdicts(text: str, names: _LabelReader) -> Iterator[_Said]:
    for match in _BRACKETS.finditer(text):
        before = text[max(0, match.start() - 300) : match.start()]
        starts = [0, *(end.end() for end in _SENTENCE_END.finditer(before))]
        lead, earlier = before[starts[-1] :], before[: starts[-1]].rstrip()
        # The words before a colon lead in: "Final verdict: [[A]]", "An example: [[A]]".
        title = re.split(r"[.!?\n]", earlier.rstrip(":"))[-1] if earlier.endswith(":") else ""
        end = _SENTENCE_END.search(text, match.end(), match.end() + 300)
        rest = text[match.end() : end.start() if end else match.end() + 300] + (end[0].strip() if end else "")
        words = re.findall(r"[^\W\d_]+(?:'[^\W\d_]+)?", f"{lead} {rest}".lower())
        alone = not any(sign in lead + rest for sign in ("|", "[[", "?"))
        stands = alone and all(word in _VERDICT_WORDS for word in words)
        label = names.label_of(match[1])
        denied = _is_denied(title, "") or (not stands and _is_denied(lead, rest))
        if denied and (stands or label is None):
            continue
        is_final = _FINAL.search(f"{title} {lead}") is not None
        until = end.start() if stands and end else match.end() + (len(rest) if stands else 0)
        yield _Said(None if denied else label, match.start(), until, stands, is_final)


def _is_denied(lead: str, rest: str) -> bool:
    """Whether the words of a sentence around a verdict say that it is none."""
    clause = _CLAUSE_END.split(lead)[-1]
    return _DENIED.search(f"{clause} {rest}") is not None or _SUPPOSED.search(f"{lead} {rest}") is not None


def _chosen_verdict(said: Sequence[_Said]) -> _Said | None:
    """The verdict that a reply means: the last that stands, if those that stand agree or it is called final."""
    standing = [each for each in said if each.stands]
    if standing:
        agrees = len({each.label for each in standing}) == 1
        return standing[-1] if agrees or standing[-1].is_final else None
    return said[-1] if said and len({each.label for each in said}) == 1 else None


def _stands_beside(text: str, chosen: _Said, last_end: int, names: _LabelReader) -> bool:
    """Whether nothing beside a verdict says otherwise: the sentence before it, and what comes after."""
    is_tie = chosen.label == names.tie
    before = [part.strip(" \t*_#>-|") for part in re.split(r"(?<=[.!?])\s+|\n", text[: chosen.start])]
    conclusion = next((part for part in reversed(before) if len(part) > 5 and not part.endswith(":")), "")
    if (_TIE_SENTENCE.fullmatch(conclusion) and not is_tie) or _names_other(conclusion, chosen, names, whole=True):
        return False
    after = re.sub(r"\A[\s\]*_`.\"'}),:-]+", "", text[last_end:]) if chosen.stands else text[last_end:]
    if _names_other(after, chosen, names, whole=False) or _says_it_lost(after, chosen):
        return False
    # As remarks after a list: candidates are options there.
    if re.match(r"[\s\]*_`\"')]*[:,-]", text[last_end:]):
        after = f"because {after}"  # "[[A]]: it is right"
    options = re.sub(r"[*_`]|\[\[|\]\]|<[^<>\n]{0,40}>|(?<=\n)\s*```\w*", "", after)
    options = re.sub(rf"\b{_CANDIDATE}(s?)\b", r"option\1", options, flags=re.IGNORECASE)
    for number, label in enumerate(names.labels):
        options = re.sub(rf"(?i)\b(option\s+){re.escape(label)}\b", rf"\g<1>{number}", options)
        options = re.sub(
            rf"\b{re.escape(label)}(?=\s+(?:is|was|has|does|gives|names|explains|provides)\b)",
            f"option {number}",
            options,
        )
        if label != chosen.label:  # that the other one is wrong is a reason
            options = re.sub(rf"(?i)(\boption\s+{number}\b[^.\n]*?)\b(?:wrong|incorrect|invalid)\b", r"\1off", options)
    places = {str(number): int(label != chosen.label) for number, label in enumerate(names.labels)}
    return stands_after(options, places, ties=is_tie, lenient=is_tie or not chosen.stands)


def _names_other(text: str, chosen: _Said, names: _LabelReader, *, whole: bool) -> bool:
    """Whether a text says that another candidate is the better one, or that one is where the verdict is a tie."""
    for label in names.labels:
        if label == chosen.label:
            continue
        called = rf"(?:(?:the\s+)?{_CANDIDATE}\s+)?\[*{re.escape(label)}\]*"
        better = r"(?:the\s+)?(?:better|best|stronger|superior|preferable|preferred|winner|more\s+\w+|most\s+\w+)"
        claim = (
            rf"{called}\s+(?:is|was|'s|seems|remains)\s+(?:\w+ly\s+|much\s+|far\s+|overall\s+)*{better}(?:\s+{_CANDIDATE}|\s+one|"
            rf"\s+overall|\s+of\s+the\s+two)?|{called}\s+(?:\w+ly\s+)?wins(?:\s+overall)?|(?:i\s+)?prefer\s+{called}|"
            rf"the\s+(?:winner|better\s+(?:{_CANDIDATE}|one))\s+is\s+{called}"
        )
        if whole and re.fullmatch(
            rf"(?:(?:overall|so|therefore|thus|hence|clearly|i\s+think|in\s+\w+)\b,?\s*)*(?:{claim})\W*",
            text,
            re.IGNORECASE,
        ):
            return True
        if not whole and re.search(rf"(?<!\w)(?:{claim})(?!\s+than)", text, re.IGNORECASE):
            return True
    return False


def _says_it_lost(text: str, chosen: _Said) -> bool:
    """Whether a text says that the winner isn't any, or won by where it stood."""
    called = rf"(?:(?:the\s+)?{_CANDIDATE}\s+)?\[*{re.escape(chosen.label or '')}\]*"
    not_better = r"not\s+(?:the\s+)?(?:better|best|right)"
    worse = rf"(?:the\s+)?(?:worse|worst|weaker|weakest|inferior|loser|wrong|incorrect|{not_better})"
    claim = (
        rf"(?<!\w){called}\s+(?:(?:is|was|seems)\s+(?:\w+ly\s+)?{worse}\b|loses\b|lost\b|\w+\s+(?:have\s+)?los[et]\b)"
    )
    by_place = r"\b(?:it|which|one)\s+(?:came|comes|was|is)\s+(?:\w+\s+)?(?:first|second|last)\b"
    return re.search(rf"{claim}|{by_place}", text, re.IGNORECASE) is not None


def _json_verdicts(text: str, names: _LabelReader) -> Iterator[_Said]:
    """What the JSON objects in a text give as winner or verdict."""
    decoder = json.JSONDecoder()
    start = text.find("{")
    while start >= 0:
        try:
            value, end = decoder.raw_decode(text, start)
        except (ValueError, RecursionError):
            start = text.find("{", start + 1)
            continue
        for verdict, beside in _verdicts_in(value):
            label = names.label_of(verdict)
            yield _Said(label if _agrees_with(label, beside, names) else None, start, end, stands=True)
        start = text.find("{", end)


def _verdicts_in(value: object) -> list[tuple[str, Mapping[str, object]]]:
    """Of an object and of those in it; keys in any capitals. Each with the object that it stands in."""
    if isinstance(value, list):
        return [verdict for item in value for verdict in _verdicts_in(item)]
    if not isinstance(value, dict):
        return []
    found: list[tuple[str, Mapping[str, object]]] = []
    for key, item in value.items():
        if key.casefold() in _KEYS and not isinstance(item, dict | list):
            found.append(("" if item is None else str(item), value))
        else:
            found += _verdicts_in(item)
    return found


def _agrees_with(label: str | None, beside: Mapping[str, object], names: _LabelReader) -> bool:
    """Whether an object says nothing beside its verdict that speaks against it: a tie, another one, a lower score."""
    if label is None or not all(_value_agrees(label, key, value, names) for key, value in beside.items()):
        return False
    scores = _scores_by_label(beside, names)
    for key, value in beside.items():
        if key.casefold() in ("scores", "ratings") and isinstance(value, dict):
            scores |= _scores_by_label(value, names)
    return label not in scores or scores[label] == max(scores.values())


def _value_agrees(label: str, key: str, value: object, names: _LabelReader) -> bool:
    """Whether one value beside a verdict leaves it standing."""
    is_tie = label == names.tie
    words = set(re.findall(r"[a-z]+", key.casefold()))
    if words & {"tie", "tied", "draw"}:
        return is_tie or value in (False, None, 0, "no", "none", "false", "")
    if not isinstance(value, str):
        return True
    if words & {"better", "best", "preferred"}:
        return names.label_of(value) == label
    if words & {"loser", "worse"}:
        return names.label_of(value) != label
    if words & {"explanation", "reason", "reasons", "reasoning", "rationale", "analysis", "justification"}:
        said = _Said(label, 0, 0, stands=True)
        parts = re.split(r"(?<=[.!?])\s+|\n", value)
        ties = not is_tie and any(_TIE_SENTENCE.fullmatch(part) or _CALLED_TIE.search(part) for part in parts)
        return not ties and not any(_names_other(part, said, names, whole=True) for part in parts)
    if words & {"note", "notes", "comment", "remark", "warning"}:
        return not (AGAINST.search(value) or (TIED.search(value) and not is_tie))
    return True


def _scores_by_label(values: Mapping[str, object], names: _LabelReader) -> dict[str, float]:
    """Numbers under a label, or under a label with "score" or "rating"."""
    found = {}
    for key, value in values.items():
        label = names.label_of(re.sub(r"(?i)_?(?:score|rating)s?_?", "", key))
        if label is not None and isinstance(value, int | float) and not isinstance(value, bool):
            found[label] = float(value)
    return found
