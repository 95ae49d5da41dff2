"""docs/retrieval.md: its commands and its Python run as they are written, in a folder with its record."""

import contextlib
import json
import re
import shlex
from dataclasses import fields
from pathlib import Path

from fairpos.audit.retrieval.figures import RetrieverFigures
from fairpos.audit.retrieval.report import FIGURES
from tests.command_line import run_here

PAGE = (Path(__file__).parents[3] / "docs" / "retrieval.md").read_text(encoding="utf-8")
BLOCK = re.compile(r"^```(python|sh|json)\n(.*?)^```", re.S | re.M)


def test_what_the_page_shows_runs(tmp_path, capsys):
    ran = []
    for kind, block in BLOCK.findall(PAGE):
        if kind == "json":
            lines = [json.dumps(json.loads(block) | {"id": str(number)}) for number in range(3)]
            (tmp_path / "questions.jsonl").write_text("\n".join(lines), encoding="utf-8")
    for kind, block in BLOCK.findall(PAGE):
        if kind == "sh":
            done = run_here(*shlex.split(block)[1:], cwd=tmp_path)
            assert done.status == 0, done.stderr
            assert (tmp_path / "audit" / "report.html").exists()
        elif kind == "python":
            with contextlib.chdir(tmp_path):
                exec(compile(block, "retrieval.md", "exec"), {})
            assert "No dependence on the answer's place was found" in capsys.readouterr().out
        ran.append(kind)
    assert ran == ["sh", "json", "python"]


def test_every_figure_and_field_is_explained():
    for name, *_ in FIGURES:
        assert re.search(rf"\b{name}\b", PAGE), name
    for field in fields(RetrieverFigures):
        if field.name != "per_item":
            assert re.search(rf"\b{field.name}\b", PAGE), field.name
