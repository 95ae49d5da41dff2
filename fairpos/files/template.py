"""A user's own words: a template by name, or from a TOML or JSON file."""

from __future__ import annotations

import dataclasses
import json
import tomllib
from pathlib import Path

from fairpos.errors import InvalidOption
from fairpos.prompts import CITED, FEW_SHOT, KEY_VALUE, SERVICE_TEMPLATES, Template
from fairpos.types import Task

NAMES = ("service", "key_value", "cited", "few_shot")
_NAMED = {"key_value": KEY_VALUE, "cited": CITED, "few_shot": FEW_SHOT}
_NEEDED = {"instruction", "segment", "question"}


def find_template(name: str, task: Task) -> Template | None:
    """A template by name, or from a file.

    Args:
        name: "service": what the HTTP service says for this task; "key_value": plain key-value retrieval; "cited":
            passages by their names, to be cited; "few_shot": classification by examples; else the path of a file.
        task: What is asked.

    Returns:
        None where the service uses the task's own template, as everybody does who names none.

    Raises:
        InvalidOption: see `read_template`.
    """
    if name == "service":
        return SERVICE_TEMPLATES.get(task)
    return _NAMED[name] if name in _NAMED else read_template(Path(name))


def read_template(path: Path) -> Template:
    """A template from a TOML or, where the name ends in .json, a JSON file with the fields of `Template`.

    Raises:
        InvalidOption: it can't be read, or has other fields.
    """
    kinds = {f.name: bool if f.name == "chat" else str for f in dataclasses.fields(Template)}
    try:
        text = path.read_text(encoding="utf-8-sig")
        values = json.loads(text) if path.suffix == ".json" else tomllib.loads(text)
    except (OSError, ValueError) as error:
        raise InvalidOption(f"can't read the template {path}: {error}") from None
    if not isinstance(values, dict) or not _NEEDED <= set(values) <= set(kinds):
        has = ", ".join(values) if isinstance(values, dict) and values else "nothing"
        raise InvalidOption(
            f"template {path} must have instruction, segment and question, and may have answer_start, chat and repeat; "
            f"it has {has}"
        )
    for name, value in values.items():
        if not isinstance(value, kinds[name]):
            raise InvalidOption(f"template {path}: {name} must be {kinds[name].__name__}, got {value!r}")
    return Template(**values)
