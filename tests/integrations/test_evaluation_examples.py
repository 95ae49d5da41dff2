"""What examples/evaluation shows is run as it says, on the embedded model and against the packages themselves."""

import json
import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.fake_endpoint import Body, FakeEndpoint, Reply, Text

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "examples" / "evaluation"


def run(*command: str, folder: Path) -> str:
    """What a command says that ends well."""
    environment = os.environ | {"NO_COLOR": "1", "HF_HUB_OFFLINE": "1", "HF_DATASETS_CACHE": str(folder / "cache")}
    done = subprocess.run(
        [sys.executable, *command], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def needs(package: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(find_spec(package) is None, reason=f"{package} isn't installed")


@needs("inspect_ai")
def test_the_inspect_task(tmp_path):
    from inspect_ai.log import read_eval_log

    said = run(
        *("-m", "inspect_ai", "eval", "examples/evaluation/inspect_task.py", "--model", "fairpos/smollm2"),
        *("--display", "plain", "--log-dir", str(tmp_path)),
        folder=tmp_path,
    )
    assert "position_effect" in said
    [path] = tmp_path.glob("*.eval")
    log = read_eval_log(str(path))
    assert log.status == "success"
    assert len(log.samples or []) == len((FOLDER / "colours.jsonl").read_text(encoding="utf-8").splitlines())


@needs("lm_eval")
def test_the_task_of_the_harness(tmp_path):
    lines = (FOLDER / "lm_eval_task.yaml").read_text(encoding="utf-8").splitlines()
    command = " ".join(line.strip("#\\ ") for line in lines[1:3]).split()
    assert command[:2] == ["python", "-m"]
    run(*command[1:], "--output_path", str(tmp_path), folder=tmp_path)
    [results] = tmp_path.rglob("results_*.json")
    found = json.loads(results.read_text(encoding="utf-8"))["results"]["colours"]
    assert 0 <= found["acc,none"] <= 1


@needs("mcp")
def test_the_client_over_mcp(tmp_path):
    def prefers_seven(body: Body, nth: int) -> Reply:
        shown = re.findall(r"\[Answer (\w)\]\n(.*)\n", body["messages"][-1]["content"])
        return Text("".join(f"[[{label}]]" for label, text in shown if text == "7"))

    with FakeEndpoint(prefers_seven) as endpoint:
        said = run("examples/evaluation/ask_over_mcp.py", f"openai:{endpoint.url}#m", folder=tmp_path)
    assert said.startswith("['seven'")


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.[py]*")), ids=lambda path: path.name)
def test_examples_have_at_most_20_lines(path):
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 20
