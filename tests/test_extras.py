"""Whatever is missing, the message's command brings it: with an index, a wheel, a clone, or an old install."""

import re
import tomllib
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import pytest

from fairpos import extras

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
NAMED = {
    (path.relative_to(ROOT).as_posix(), extra)
    for folder in ("fairpos", "service")
    for path in (ROOT / folder).rglob("*.py")
    for extra in re.findall(r"missing_extra\(.*?, \"([\w-]+)\"", path.read_text(encoding="utf-8"), re.S)
}


class Installed:
    """Metadata of an installed fairpos with these extras."""

    def __init__(self, *extras):
        self.extras = extras

    def get_all(self, field):
        assert field == "Provides-Extra"
        return list(self.extras) or None


def absent(name):
    raise PackageNotFoundError(name)


@pytest.mark.parametrize(
    ("installed", "clone", "command"),
    [
        (lambda _: Installed("local"), False, 'pip install "fairpos[local]"'),
        (lambda _: Installed("local"), True, 'pip install "fairpos[local]"'),
        (lambda _: Installed(), True, 'pip install "{root}[local]"'),  # installed before the extra was added
        (absent, True, 'pip install "{root}[local]"'),
        (absent, False, 'pip install "fairpos[local]"'),
    ],
)
def test_the_command_names_what_pip_can_find(monkeypatch, tmp_path, installed, clone, command):
    if clone:
        (tmp_path / "pyproject.toml").touch()
    monkeypatch.setattr(extras, "_ROOT", tmp_path)
    monkeypatch.setattr(extras, "metadata", installed)
    error = extras.missing_extra("a model needs torch", "local", ImportError("No module named 'torch'"))
    assert str(error) == f"a model needs torch: {command.format(root=tmp_path)} (No module named 'torch')"


def test_every_extra_that_is_named_exists():
    assert len(NAMED) >= 14
    known = PROJECT["optional-dependencies"]
    assert [named for named in sorted(NAMED) if named[1] not in known] == []


def test_no_message_writes_the_command_by_hand():
    written = [
        str(path.relative_to(ROOT))
        for folder in ("fairpos", "service")
        for path in (ROOT / folder).rglob("*.py")
        if path.name != "extras.py" and re.search(r"pip install ['\"]?fairpos", path.read_text(encoding="utf-8"))
    ]
    assert written == []
