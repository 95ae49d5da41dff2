"""Modules of others: installed ones are found, named ones are loaded, broken ones are left out and told."""

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Mapping
from pathlib import Path

import pytest

from fairpos.cli.commands import plugins_first

EXAMPLE = Path(__file__).parents[1] / "examples" / "plugin"


def install(folder: Path, name: str, groups: dict[str, dict[str, str]]) -> None:
    """What pip leaves behind of a package's metadata, for packages whose modules are in the folder already."""
    info = folder / f"{name.replace('-', '_')}-0.1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 0.1.0\n")
    lines = [
        f"[{group}]\n" + "".join(f"{key} = {value}\n" for key, value in each.items()) for group, each in groups.items()
    ]
    (info / "entry_points.txt").write_text("\n".join(lines))


@pytest.fixture
def example(tmp_path) -> Path:
    """The example package, installed."""
    project = tomllib.loads((EXAMPLE / "pyproject.toml").read_text())["project"]
    shutil.copytree(EXAMPLE / "fairpos_example", tmp_path / "site" / "fairpos_example")
    install(tmp_path / "site", project["name"], project["entry-points"])
    return tmp_path / "site"


BROKEN = """
from dataclasses import dataclass
from fairpos.methods.base import Method

@dataclass(frozen=True)
class NoSummary(Method):
    name = "no_summary"
    family = "input"

@dataclass(frozen=True)
class Pine(Method):
    name, family, summary = "pine", "input", "takes a name that is taken"

@dataclass(frozen=True)
class Sound(Method):
    name, family, summary = "sound", "input", "is well"
"""


@pytest.fixture
def broken(tmp_path) -> Path:
    """A package of which one of five entries works."""
    site = tmp_path / "broken"
    site.mkdir()
    (site / "raising.py").write_text("raise RuntimeError('not today')\n")
    (site / "half.py").write_text(BROKEN)
    entries = {"raises": "raising", "absent": "no_such_module:Thing", "no_summary": "half:NoSummary"}
    install(site, "half-broken", {"fairpos.methods": entries | {"pine": "half:Pine", "sound": "half:Sound"}})
    return site


def run(
    *command: object, path: Path | None = None, cwd: Path | None = None, more: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    root = str(Path(__file__).parents[1])
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(map(str, filter(None, (path, root))))} | (more or {})
    words = [sys.executable, *map(str, command)]
    return subprocess.run(words, capture_output=True, text=True, check=False, env=environment, cwd=cwd)


def test_an_installed_plugin_is_known_to_python_to_the_service_and_to_the_contracts(example):
    code = """
import json
from fastapi.testclient import TestClient
from fairpos import FairModel, Segment
from fairpos.backends.fake import FakeBackend
from fairpos.files.formats.base import FORMATS
from fairpos_service import Settings, create_app

passages = [Segment(id=i, text=i * n) for n, i in enumerate("abc", 1)]
output = FairModel(FakeBackend()).rank("q", passages, "shuffled:seed=3", ranker="longest")
app = create_app(Settings(upstream="http://127.0.0.1:9/v1"))
cards = TestClient(app).get("/v1/methods").json()["data"]
print(json.dumps([output.ranking, "csv_pairs" in FORMATS, [c for c in cards if c["name"] == "shuffled"]]))
"""
    done = run("-c", code, path=example)
    assert done.returncode == 0, done.stderr
    ranking, has_format, [card] = json.loads(done.stdout)
    assert ranking == ["c", "b", "a"]
    assert has_format
    assert card["option_details"][0]["nature"] == "seed"
    proof = run(EXAMPLE / "test_contract.py", path=example)
    assert (proof.returncode, proof.stdout.strip()) == (0, "the plugin keeps all contracts"), proof.stderr


def test_the_service_loads_what_its_settings_name_and_ranks_with_it(tmp_path, example):
    ranker = (EXAMPLE / "fairpos_example" / "longest.py").read_text()
    (tmp_path / "mine.py").write_text(ranker.replace("ongest", "ongest_of_mine").replace("float(len", "-float(len"))
    code = """
import json
from fastapi.testclient import TestClient
from fairpos_service import create_app

passages = ["one", "one two", "three"]
with TestClient(create_app()) as client:
    for ranker in ("longest_of_mine", "longest", "nobody"):
        asked = {"model": "m", "query": "q", "documents": passages, "fairpos": {"ranker": ranker}}
        told = client.post("/rerank", json=asked).json()
        print(json.dumps([each["index"] for each in told.get("results", ())] or told["error"]["message"]))
"""
    environment = {"FAIRPOS_UPSTREAM": "http://127.0.0.1:9/v1", "FAIRPOS_PLUGINS": str(tmp_path / "mine.py")}
    done = run("-c", code, path=example, more=environment)
    assert done.returncode == 0, done.stderr
    mine, longest, refused = map(json.loads, done.stdout.splitlines())
    assert (mine, longest) == ([0, 2, 1], [1, 2, 0])
    assert refused.startswith("unknown ranker 'nobody'. Known: ")
    assert {"longest", "longest_of_mine"} <= set(refused.partition("Known: ")[2].split(", "))
    done = run("-c", "from fairpos_service import create_app; create_app()", more={"FAIRPOS_PLUGINS": "absent.py"})
    assert "plugin 'absent.py' can't be loaded: FileNotFoundError: there is no file absent.py" in done.stderr


def test_a_ranker_of_an_installed_plugin_is_shown_by_help(example):
    done = run("-m", "fairpos", "rank", "--help", path=example)
    assert {"pointwise", "longest"} <= set(re.findall(r"\w+", done.stdout))


def test_broken_plugins_are_left_out_and_told_and_the_rest_works(broken):
    done = run("-m", "fairpos", "methods", "--json", path=broken)
    assert done.returncode == 0
    names = [method["name"] for method in json.loads(done.stdout)]
    assert {"pine", "sound", "set_based"} <= set(names)
    warnings = sorted(done.stderr.splitlines())
    assert [line.split(" can't")[0] for line in warnings] == [
        f"warning: method {name} of half-broken ({value})"
        for name, value in (
            ("absent", "no_such_module:Thing"),
            ("no_summary", "half:NoSummary"),
            ("pine", "half:Pine"),
            ("raises", "raising"),
        )
    ]
    assert "RuntimeError: not today" in done.stderr
    assert "has no summary" in done.stderr
    assert "'pine' is taken by <class 'fairpos.methods.pine.Pine'>" in done.stderr
    done = run("-m", "fairpos", "methods", "raises", path=broken)
    assert done.returncode == 2
    assert "Left out because it is broken: raises of half-broken (RuntimeError: not today)" in done.stderr


def test_a_module_or_file_can_be_named_before_or_after_the_command(tmp_path):
    (tmp_path / "mine.py").write_text((EXAMPLE / "fairpos_example" / "shuffled.py").read_text())
    for words in (
        ("--plugin", "mine", "methods", "shuffled"),
        ("methods", "shuffled", f"--plugin={tmp_path / 'mine.py'}"),
    ):
        done = run("-m", "fairpos", *words, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        assert "HURTS: where the order that came in was a good one" in done.stdout


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("absent", None, "plugin 'absent' can't be loaded: ModuleNotFoundError: No module named 'absent'"),
        ("absent.py", None, "there is no file absent.py"),
        ("raises.py", "1 / 0", "plugin 'raises.py' can't be loaded: ZeroDivisionError: division by zero"),
        ("idle.py", "x = 1", "plugin 'idle.py' registers nothing: put @register"),
    ],
)
def test_a_named_plugin_that_is_broken_is_refused(name, text, words, tmp_path, monkeypatch):
    from fairpos.errors import BrokenPlugin
    from fairpos.plugins import load_plugin

    monkeypatch.chdir(tmp_path)
    if text is not None:
        (tmp_path / name).write_text(text)
    with pytest.raises(BrokenPlugin) as raised:
        load_plugin(name)
    assert words in str(raised.value)
    assert Path(name).stem not in sys.modules


def test_plugins_go_before_the_command_wherever_they_stand():
    assert plugins_first(["rank", "f", "--plugin", "a", "-o", "x", "--plugin=b", "--", "--plugin", "c"]) == [
        *("--plugin", "a", "--plugin=b"),
        *("rank", "f", "-o", "x", "--", "--plugin", "c"),
    ]
    assert plugins_first(["methods", "--plugin"]) == ["--plugin", "methods"]
