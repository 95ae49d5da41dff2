"""Writes what the documentation takes from the code: tables of methods and settings, docs/methods.md, pictures.

python docs/generate.py           writes
python docs/generate.py --check   exits with 1 where a file is out of date
"""

from __future__ import annotations

import inspect
import re
import sys
from pathlib import Path

from drawings import drawings

from fairpos.methods.base import Method
from fairpos.methods.catalogue import all_methods
from fairpos.options import options_of

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))  # for tests.layers


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


BOX, GAP, LEFT = 34, 8, 16  # pixels: of a layer, between two, before the first part
PICTURE = """<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="system-ui, sans-serif">
<title>The layers of fairpos: each imports only what stands below it</title>
<style>
text {{ font-size: 14px; fill: #1f2328 }} .what {{ fill: #59636e; font-size: 13px }}
.layer {{ fill: #8c959f22 }} .part {{ fill: #ffffff; stroke: #8c959f }}
@media (prefers-color-scheme: dark) {{
text {{ fill: #f0f6fc }} .what {{ fill: #9198a1 }} .part {{ fill: #151b23; stroke: #656c76 }}
}}
</style>
{shapes}
</svg>
"""


def layers() -> str:
    """The layers as a picture, the lowest at the bottom; what they have in common at the right."""
    from tests.layers import LAYERS

    width, shapes, y = 1000, [], GAP
    for parts, what in reversed(LAYERS):
        shapes.append(f'<rect class="layer" x="0" y="{y}" width="{width}" height="{BOX}" rx="6"/>')
        x = LEFT
        for part in parts:
            name = {"fairpos_service": "service"}.get(part, part)
            size = 16 + 8 * len(name)
            shapes.append(f'<rect class="part" x="{x}" y="{y + 5}" width="{size}" height="{BOX - 10}" rx="4"/>')
            shapes.append(f'<text x="{x + size / 2}" y="{y + 22}" text-anchor="middle">{name}</text>')
            x += size + GAP
        shapes.append(f'<text class="what" x="{width - 12}" y="{y + 22}" text-anchor="end">{what}</text>')
        y += BOX + GAP
    return PICTURE.format(width=width, height=y, shapes="\n".join(shapes))


def files() -> dict[Path, str]:
    """Every generated file with its text."""
    service = ROOT / "docs" / "service.md"
    listed = re.compile(r"(<!-- settings: .*? -->\n).*?(<!-- /settings -->)", re.S)
    readme = ROOT / "README.md"
    marked = re.compile(r"(<!-- methods: .*? -->\n).*?(<!-- /methods -->)", re.S)
    intro = "# Methods\n\nTaken from the code by `make docs`. Costs are relative to one call of the plain model.\n\n"
    pictures = {ROOT / "docs" / "drawings" / name: picture for name, picture in drawings().items()}
    return pictures | {
        readme: marked.sub(lambda m: m[1] + table() + "\n" + m[2], readme.read_text(encoding="utf-8")),
        service: listed.sub(lambda m: m[1] + settings() + "\n" + m[2], service.read_text(encoding="utf-8")),
        ROOT / "docs" / "layers.svg": layers(),
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
            path.parent.mkdir(exist_ok=True)
            path.write_text(text, encoding="utf-8")
    return stale


if __name__ == "__main__":
    sys.exit(main())
