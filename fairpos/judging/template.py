"""The words that a judge is asked with."""

from __future__ import annotations

from dataclasses import replace

from fairpos.prompts import TEMPLATES, Template
from fairpos.rankers.verdict import IN_WORDS, JUDGE_IN_WORDS_WITH_TIES, JUDGE_WITH_TIES


def with_ties(template: Template) -> Template:
    """The template, made to offer a tie after its question if it doesn't yet."""
    if template.ties:
        return template
    return replace(template, question=f"{template.question} If none is better, reply with {{tie}}.")


def worded(own: Template | None, *, ties: bool, in_words: bool) -> Template:
    """The template of a run.

    Args:
        own: The user's; None takes one of ours.
        ties: Whether a tie is offered.
        in_words: Whether the judge gives its verdict in words.
    """
    if own is not None:
        return with_ties(own) if ties else own
    if in_words:
        return JUDGE_IN_WORDS_WITH_TIES if ties else IN_WORDS["judge"]
    return JUDGE_WITH_TIES if ties else TEMPLATES["judge"]
