"""How a text names a label: [2], (2), {2}, #2, P2, Passage 2, [Passage 2], or 2 alone."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

NOUN = (
    r"(?<![^\W_])(?:passage|document|doc|item|option|candidate|snippet|article|segment|id|text|excerpt|pasaje|dokument|"
    r"documento|abschnitt|texte|passaggio|passagem|trecho|段落|文档|文章|パッセージ|문서)"
    r"[ \t]{0,3}(?:no\.?|number|nr\.?|id:?)?[ \t]{0,3}#?[ \t]{0,3}"
)
_QUOTE = r"[\"'“”‘]?"
_WORD = r"[^\W_]{1,32}"


@dataclass(frozen=True, slots=True)
class NamedItem:
    """A name in a text, from `start` to `end`; `style` is its bracket, "#", "P", "noun", or "" where it is bare."""

    name: str
    style: str
    start: int
    end: int


class NameReader:
    """Finds names of labels.

    Args:
        labels: What there is to be listed. Other numbers count too, and other words in square brackets: they are what a
            model invents, and belong to its list.
    """

    def __init__(self, labels: Sequence[str]) -> None:
        known = "|".join(sorted(map(re.escape, labels), key=len, reverse=True))
        bare = rf"(?<![\w.\-/])(?:{known}|\d{{1,6}})(?!\w|\.\d|%|/\d)"
        noun = rf"(?i:{NOUN})"
        # "P2" is passage 2, where labels aren't called so themselves.
        is_taken = any(re.match(r"(?i:psg|[pd])\d", label) for label in labels)
        short = r"(?!)" if is_taken else r"(?:(?i:psg|[pd])(?=\d))"
        called = rf"(?:{noun}|{short})?"
        self._item = re.compile(
            rf"{_QUOTE}(?:(?:{noun})?(?:(?P<square>\[)[ \t]{{0,4}}{called}\#?(?P<inside>{_WORD})[ \t]{{0,4}}\]"
            rf"|(?P<other>[({{])[ \t]{{0,4}}{called}\#?(?P<within>{known}|\d{{1,6}}|[A-Za-z])[ \t]{{0,4}}[)}}])"
            rf"|{noun}(?P<named>\d{{1,6}}|(?:{bare}))(?!\w)|(?<!\w)\#(?P<hash>\d{{1,6}})(?![\w.:)])"
            rf"|(?<![\w.\-]){short}(?P<short>\d{{1,6}})(?!\w|\.\d)|(?P<bare>{bare})){_QUOTE}"
        )

    def find_items(self, text: str) -> Iterator[NamedItem]:
        """All names, as they come."""
        for match in self._item.finditer(text):
            yield _item_of(match)

    def whole_name(self, text: str) -> str | None:
        """The name that a text is; None where it is none, or holds more."""
        match = self._item.fullmatch(text.strip())
        return None if match is None else _item_of(match).name

    def first_name(self, text: str) -> NamedItem | None:
        """The name that a text begins with."""
        match = self._item.match(text)
        return None if match is None else _item_of(match)


def _item_of(match: re.Match[str]) -> NamedItem:
    styles = {"inside": "[", "within": match["other"], "named": "noun", "hash": "#", "short": "P", "bare": ""}
    kind = next(kind for kind in styles if match[kind] is not None)
    return NamedItem(match[kind], styles[kind] or "", match.start(), match.end())
