"""The words that a judge is asked with."""

from __future__ import annotations

import dataclasses
import tomllib
from dataclasses import replace
from pathlib import Path

from fairpos.errors import InvalidOption
from fairpos.prompts import TEMPLATES, Template
from fairpos.rankers.verdict import IN_WORDS, JUDGE_IN_WORDS_WITH_TIES, JUDGE_WITH_TIES

_NEEDED = {"instruction", "segment", "question"}


def read_template(path: Path) -> Template:
    """A template from a TOML file with the fields of `Template`.

    Raises:
        InvalidOption: it can't be read, or has other fields.
    """
    kinds = {f.name: bool if f.name == "chat" else str for f in dataclasses.fields(Template)}
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise InvalidOption(f"can't read the template {path}: {error}") from None
    if not _NEEDED <= set(values) <= set(kinds):
        raise InvalidOption(
            f"template {path} must have instruction, segment and question, and may have answer_start, chat and repeat; "
            f"it has {', '.join(values) or 'nothing'}"
        )
    for name, value in values.items():
        if not isinstance(value, kinds[name]):
            raise InvalidOption(f"template {path}: {name} must be {kinds[name].__name__}, got {value!r}")
    return Template(**values)


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
