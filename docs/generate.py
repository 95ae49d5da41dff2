"""Writes what the documentation takes from the code: the README's table of methods, and docs/methods.md.

python docs/generate.py           writes
python docs/generate.py --check   exits with 1 where a file is out of date
"""

from __future__ import annotations

import inspect
import re
import sys
from pathlib import Path

from fairpos.methods.base import Method
from fairpos.methods.catalogue import all_methods
from fairpos.options import options_of

ROOT = Path(__file__).parents[1]


def table() -> str:
    """All methods, a row each."""
    rows = ["| method | level | what it does | order-free | source |", "|---|---|---|---|---|"]
    for cls in all_methods().values():
        free = "yes" if cls.order_free else ""
        link = f"[`{cls.name}`](docs/methods.md#{cls.name})"
        rows.append(f"| {link} | {cls.family} | {cls.summary} | {free} | {cls.source} |")
    return "\n".join(rows)


def chapter(cls: type[Method]) -> str:
    """One method in full."""
    lines = [f"## {cls.name}", "", f"{cls.family} level; for {', '.join(sorted(cls.tasks))}."]
    if cls.requires:
        lines.append(f"Needs a backend that can: {', '.join(sorted(cls.requires))}.")
    if cls.source:
        lines.append(f"Source: {cls.source}.")
    text, _, _ = inspect.cleandoc(cls.__doc__ or "").partition("\nAttributes:\n")
    lines += ["", text.rstrip(), ""]
    options = options_of(cls).values()
    if options:
        lines += ["| option | default | allowed | meaning |", "|---|---|---|---|"]
        lines += [
            f"| `{o.name}` | `{o.default!r}` | {o.allowed} | {o.help.replace('|', chr(92) + '|')} |" for o in options
        ]
        lines.append("")
    return "\n".join(lines)


def settings() -> str:
    """Every setting of the service, a row each."""
    from fairpos_service.settings import Settings

    rows = ["| variable | default | what it is |", "|---|---|---|"]
    for name, field in Settings.model_fields.items():
        default = "" if field.default in (None, []) else f"`{field.default}`"
        rows.append(f"| `FAIRPOS_{name.upper()}` | {default} | {field.description or ''} |")
    return "\n".join(rows)


def files() -> dict[Path, str]:
    """Every generated file with its text."""
    service = ROOT / "docs" / "service.md"
    listed = re.compile(r"(<!-- settings: .*? -->\n).*?(<!-- /settings -->)", re.S)
    readme = ROOT / "README.md"
    marked = re.compile(r"(<!-- methods: .*? -->\n).*?(<!-- /methods -->)", re.S)
    intro = "# Methods\n\nTaken from the code by `make docs`. Costs are relative to one call of the plain model.\n\n"
    return {
        readme: marked.sub(lambda m: m[1] + table() + "\n" + m[2], readme.read_text(encoding="utf-8")),
        service: listed.sub(lambda m: m[1] + settings() + "\n" + m[2], service.read_text(encoding="utf-8")),
        ROOT / "docs" / "methods.md": intro + "\n".join(chapter(cls) for cls in all_methods().values()),
    }


def main() -> int:
    """Writes, or checks."""
    stale = 0
    for path, text in files().items():
        if path.exists() and path.read_text(encoding="utf-8") == text:
            continue
        if "--check" in sys.argv:
            sys.stderr.write(f"{path.relative_to(ROOT)} is out of date: run `make docs`\n")
            stale = 1
        else:
            path.write_text(text, encoding="utf-8")
    return stale


if __name__ == "__main__":
    sys.exit(main())
