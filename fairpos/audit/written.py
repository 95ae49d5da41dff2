"""How the report of any audit becomes a page and two files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import jinja2

from fairpos.files.text import json_text


def rendered_page(template: str, **values: object) -> str:
    """A page from a template of this package's folder."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=jinja2.StrictUndefined
    )
    return environment.get_template(template).render(**values)


def write_report_files(folder: Path, report: Mapping[str, object], page: str) -> None:
    """Writes report.json and report.html; makes the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "report.json").write_text(json_text(report, indent=2) + "\n", encoding="utf-8")
    (folder / "report.html").write_text(page, encoding="utf-8", errors="backslashreplace")
