"""Where a benchmark's table goes: between <!-- name --> and <!-- /name --> of a page in docs/."""

from __future__ import annotations

import re
from pathlib import Path

DOCS = Path(__file__).parent.parent / "docs"


def fill(page: str, name: str, text: str) -> None:
    """Replaces what stands between the marks.

    Raises:
        ValueError: the page has no such marks.
    """
    path = DOCS / page
    block = f"<!-- {name} -->\n{text}\n<!-- /{name} -->"
    filled, found = re.subn(
        rf"<!-- {name} -->.*<!-- /{name} -->", lambda _: block, path.read_text(encoding="utf-8"), flags=re.DOTALL
    )
    if not found:
        raise ValueError(f"docs/{page} has no <!-- {name} --> to fill")
    path.write_text(filled, encoding="utf-8")
