"""The three journeys of the documentation, played as they are written, in a folder of their own.

A tiny random model stands for smollm2: what it says means nothing, but every command ends well and every line runs.
"""

import contextlib
import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.command_line import run_here
from tests.service.running import running, tiny

DOCS = Path(__file__).parents[1] / "docs"
BLOCK = re.compile(r"^```(python|sh|json)\n(.*?)^```", re.S | re.M)
FILES = {"rag": "questions.jsonl", "evaluation": "pairs.jsonl", "research": "samples.jsonl"}
SERVED = "http://127.0.0.1:8000"
STATUSES = {"--max-effect": {0, 1, 4}}  # a gate's answer is its status


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A folder with a tiny model, to be named in place of smollm2."""
    folder = tmp_path_factory.mktemp("model") / "tiny"
    fair = tiny()
    fair.model.save_pretrained(folder)
    fair.tokenizer.save_pretrained(folder)
    return folder


def commands_of(block: str) -> Iterator[list[str]]:
    """The commands of fairpos that end by themselves."""
    for line in block.replace("\\\n", " ").splitlines():
        words = shlex.split(line, comments=True)
        if words[:1] == ["fairpos"] and words[1] != "serve":
            yield words[1:]


def play(page: str, folder: Path, model: Path, served: str = SERVED) -> int:
    """Runs a page from top to bottom; the number of blocks that ran."""
    text = (DOCS / f"journey-{page}.md").read_text(encoding="utf-8").replace(SERVED, served)
    names, ran = {}, 0
    for kind, block in BLOCK.findall(text):
        if kind == "json":
            record = json.loads(block)
            lines = [json.dumps(record | {"id": str(number)}) for number in range(3)]
            (folder / FILES[page]).write_text("\n".join(lines) + "\n", encoding="utf-8")
        elif kind == "sh":
            for words in commands_of(block):
                typed = [str(model) if word == "smollm2" else word for word in words]
                done = run_here(*typed, cwd=folder)
                allowed = next((STATUSES[word] for word in words if word in STATUSES), {0})
                assert done.status in allowed, f"{shlex.join(words)}\n{done.stdout}\n{done.stderr}"
                ran += 1
        else:
            code = block.replace('load("smollm2")', f"load({str(model)!r})")
            with contextlib.chdir(folder):
                exec(compile(code, f"journey-{page}.md", "exec"), names)
            ran += 1
    return ran


def test_a_rag_pipeline(tmp_path, model):
    pytest.importorskip("openai")
    with running({"smollm2": tiny()}, methods="placements:views=3") as service:
        assert play("rag", tmp_path, model, service.url) == 4


def test_an_evaluation(tmp_path, model):
    assert play("evaluation", tmp_path, model) == 4
    assert (tmp_path / "audit" / "report.html").exists()


def test_research(tmp_path, model, capsys, monkeypatch):
    from fairpos.methods.base import METHODS

    monkeypatch.setattr(METHODS, "_items", dict(METHODS))  # what the page registers is gone with it
    assert play("research", tmp_path, model) == 7
    assert "('2', '3', '1')" in capsys.readouterr().out  # the best of three in the middle
