"""Where a prompt of somebody else lists the options of a question: found, never guessed.

    Which colour is snow?\n | A. black\n | B. white\n | Answer:
    prefix                  | piece       | piece       | suffix

The options' texts, or all texts that may be options, are known from elsewhere (a task's document, a sample's choices).
What counts is the last place of the prompt at which each of them stands once, in order, in one frame ("A. ...",
"(1) ...", "- ...") and with one separator; what isn't listed so isn't found.
"""

from __future__ import annotations

import re
import string
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

# How options are listed: what stands before and after a label, and which labels there are where none is scored.
_FRAMES = (("", ". "), ("", ") "), ("(", ") "), ("[", "] "), ("", ": "), ("", "."), ("", ")"), ("(", ")"))
_BULLETS = (("- ", ""), ("* ", ""), ("", ""))
_SCHEMES = (string.ascii_uppercase, string.ascii_lowercase, tuple(map(str, range(1, 100))))
_BETWEEN = re.compile(r"[\s,;|]+")


@dataclass(frozen=True, slots=True)
class Listing:
    """A prompt in which the options were found.

    Attributes:
        prefix, suffix: What comes before the first option and after the last one.
        texts: The options, in the order shown.
        labels: What the slots are called; empty texts where they have no name.
        opening, closing: Around a label.
        separator: Between two options; it belongs to the option before it, or (leading) to the one after it.
        leading: See `separator`.
    """

    prefix: str
    suffix: str
    texts: tuple[str, ...]
    labels: tuple[str, ...]
    opening: str
    closing: str
    separator: str
    leading: bool

    def piece(self, slot: int, text: str) -> str:
        """A text as it stands in a slot."""
        shown = f"{self.opening}{self.labels[slot]}{self.closing}{text}"
        return self.separator + shown if self.leading else shown + self.separator


def find_listing(context: str, choices: Sequence[Collection[str]], labels: Sequence[str] | None) -> Listing | None:
    """The last place of a prompt at which as many options as `choices` are listed, in order.

    Args:
        context: The prompt.
        choices: For each slot the texts that may stand there.
        labels: What the slots are called; None: any of the usual ways, or nothing.

    Returns:
        None where there is no such place, or where further options follow.
    """
    frames = [(frame, tuple(labels)) for frame in _FRAMES] if labels is not None else list(_usual_frames(len(choices)))
    found = (_listing_in(context, choices, names, *frame) for frame, names in frames)
    listings = [listing for listing in found if listing is not None]
    return max(listings, key=lambda listing: len(listing.prefix), default=None)


def _usual_frames(count: int) -> Iterator[tuple[tuple[str, str], tuple[str, ...]]]:
    for scheme in _SCHEMES:
        yield from ((frame, tuple(scheme[:count])) for frame in _FRAMES)
    yield from ((frame, ("",) * count) for frame in _BULLETS)


def _listing_in(
    context: str, choices: Sequence[Collection[str]], labels: tuple[str, ...], opening: str, closing: str
) -> Listing | None:
    marks = [f"{opening}{label}{closing}" for label in labels]
    first = [marks[0] + text for text in choices[0]]
    starts = {match.start() for head in first for match in re.finditer(re.escape(head), context)}
    for start in sorted(starts, reverse=True):
        for texts, separator, end in _walks(context, choices, marks, start, ""):
            prefix, suffix = context[:start], context[end:]
            if not _stands_apart(prefix, suffix, separator, marks[0]):
                continue
            if _goes_on(suffix, separator, labels, opening, closing):
                return None
            if suffix.startswith(separator):
                return Listing(prefix, suffix[len(separator) :], texts, labels, opening, closing, separator, False)
            if prefix.endswith(separator):
                prefix = prefix[: -len(separator)]
                return Listing(prefix, suffix, texts, labels, opening, closing, separator, True)
    return None


def _stands_apart(prefix: str, suffix: str, separator: str, mark: str) -> bool:
    """Whether a list begins and ends where its first and its last option do.

    On a line of other words the last option could be longer than it is known to be.
    """
    begins = not prefix or prefix[-1].isspace()
    ends = not suffix or suffix.startswith(("\n", "<")) or (not separator.isspace() and suffix.startswith(separator))
    is_line_by_line = "\n" in separator and (not prefix or prefix.endswith("\n"))
    return begins and ends and bool(separator) and (bool(mark) or is_line_by_line)


def _walks(
    context: str, choices: Sequence[Collection[str]], marks: Sequence[str], at: int, separator: str
) -> Iterator[tuple[tuple[str, ...], str, int]]:
    """Ways to read one option after the other from a place on: (texts, separator, end), longest texts first."""
    if not context.startswith(marks[0], at):
        return
    at += len(marks[0])
    for text in sorted((text for text in choices[0] if context.startswith(text, at)), key=len, reverse=True):
        end = at + len(text)
        if len(choices) == 1:
            yield (text,), separator, end
            continue
        between = separator or (gap[0] if (gap := _BETWEEN.match(context, end)) else "")
        if between and context.startswith(between, end):
            for texts, found, last in _walks(context, choices[1:], marks[1:], end + len(between), between):
                yield (text, *texts), found, last


def _goes_on(suffix: str, separator: str, labels: tuple[str, ...], opening: str, closing: str) -> bool:
    """Whether the list has another option behind the last one that was asked about."""
    for scheme in _SCHEMES:
        if labels == tuple(scheme[: len(labels)]) and len(labels) < len(scheme):
            return suffix.startswith(f"{separator}{opening}{scheme[len(labels)]}{closing}")
    return False
