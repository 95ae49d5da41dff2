"""The house rules that a machine can check: which way imports run, names that can be searched for, sizes.

CONTRIBUTING.md says what they are for. A limit that something has to exceed is listed here with the reason.
"""

import ast
import itertools
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.layers import ORDER

ROOT = Path(__file__).parents[1]
FOLDERS = {"fairpos": ROOT / "fairpos", "fairpos_service": ROOT / "service"}

ONE_WORD_NAMES = 3.0  # per thousand lines, at most, in fairpos and in service
LONGEST_FUNCTION = 60
LONGEST_FILE = 400
# What must be longer, and why: {"fairpos.module.function": "a reason in words"}.
LONG_FUNCTIONS: dict[str, str] = {}
LONG_FILES: dict[str, str] = {}


def sources() -> dict[str, Path]:
    """All modules by name."""
    found = {}
    for package, folder in FOLDERS.items():
        for file in sorted(folder.rglob("*.py")):
            parts = file.relative_to(folder).with_suffix("").parts
            found[".".join((package, *(part for part in parts if part != "__init__")))] = file
    return found


SOURCES = sources()
TREES = {name: ast.parse(file.read_text(encoding="utf-8")) for name, file in SOURCES.items()}


def imports(name: str) -> set[str]:
    """The modules of ours that a module imports: at its top, in functions and for the type checker alone."""
    package = name.split(".") if SOURCES[name].name == "__init__.py" else name.split(".")[:-1]
    found = set()
    for node in ast.walk(TREES[name]):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, *(node.module or "").split(".")]).strip(".")
            found |= {
                f"{module}.{alias.name}" if f"{module}.{alias.name}" in SOURCES else module for alias in node.names
            }
    return {other for other in found if other in SOURCES and other != name}


def layer(name: str) -> str:
    """The layer of a module: the part of `fairpos` that it belongs to, or the package itself, which gathers them."""
    package, _, rest = name.partition(".")
    first = rest.partition(".")[0]
    return package if package == "fairpos_service" or not first else "cli" if first == "__main__" else first


def test_every_module_is_in_a_layer():
    assert {layer(name) for name in SOURCES} <= set(ORDER)


def test_imports_run_one_way():
    place = {each: number for number, each in enumerate(ORDER)}
    wrong = [
        f"{name} imports {other}"
        for name in SOURCES
        for other in imports(name)
        if place[layer(other)] > place[layer(name)]
    ]
    assert wrong == []


def test_no_modules_import_each_other_in_a_circle():
    """Takes away what imports nothing that is left, until only circles are left."""
    left = {name: imports(name) for name in SOURCES}
    while leaves := {name for name, others in left.items() if not others & left.keys()}:
        left = {name: others for name, others in left.items() if name not in leaves}
    assert {name: sorted(others & left.keys()) for name, others in left.items()} == {}


@pytest.mark.long
def test_modules_can_be_the_first_import():
    """Every fourth; `python -m tests.first_imports` takes all."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", "tests.first_imports", "4"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.match(r"(\d+) modules, 0 fail", done.stdout)
    assert int(done.stdout.split()[0]) >= len(SOURCES) // 4


def definitions(name: str) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef]:
    for node in ast.walk(TREES[name]):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node


def count_of_lines(name: str) -> int:
    return len(SOURCES[name].read_text(encoding="utf-8").splitlines())


@pytest.mark.parametrize("package", FOLDERS)
def test_private_names_can_be_searched_for(package):
    """`_read` is found in every other file, `_read_pairs` where it is."""
    names = [name for name in SOURCES if name.partition(".")[0] == package]
    one_word = [
        f"{name}.{node.name}"
        for name in names
        for node in definitions(name)
        if re.fullmatch(r"_[a-z]+|_[A-Z][a-z]+", node.name)
    ]
    allowed = ONE_WORD_NAMES * sum(map(count_of_lines, names)) / 1000
    assert len(one_word) <= allowed, f"{len(one_word)} where {allowed:.0f} are allowed: {', '.join(one_word)}"


def test_functions_are_short():
    long = {
        f"{name}.{node.name}": length
        for name in SOURCES
        for node in definitions(name)
        if not isinstance(node, ast.ClassDef)
        and (length := (node.end_lineno or 0) - node.lineno + 1) > LONGEST_FUNCTION
    }
    assert long.keys() == LONG_FUNCTIONS.keys(), long


def test_files_are_short():
    long = {name: count for name in SOURCES if (count := count_of_lines(name)) > LONGEST_FILE}
    assert long.keys() == LONG_FILES.keys(), long


def test_reasons_are_given_for_what_is_longer():
    assert all(len(reason.split()) >= 4 for reason in itertools.chain(LONG_FUNCTIONS.values(), LONG_FILES.values()))


def test_the_rules_see_what_breaks_them():
    """A test of the tests: relative, lazy and type-checking imports are all found."""
    assert "fairpos.cli.app" in imports("fairpos.cli.methods")
    assert "fairpos_service.errors" in imports("fairpos_service.asking")
    assert "fairpos.attention.layer" in imports("fairpos.methods.pine")  # for the type checker alone
    assert "fairpos.attention.pine" in imports("fairpos.methods.pine")  # in a function
