"""The documentation as a site (`make docs-site` builds it): every page has its place, every page outside is there.

mkdocs itself isn't needed: what is read here is its file and the functions of its hooks that are pure.
"""

import importlib.util
import re
import sys
from pathlib import Path
from types import ModuleType
from unittest import mock

import pytest
import yaml

ROOT = Path(__file__).parents[1]
CONTENTS = (ROOT / "docs" / "README.md").read_text(encoding="utf-8")
HOME = "https://git.example/fairpos"


@pytest.fixture(scope="module")
def hooks():
    """docs/site/hooks.py, with names of mkdocs that only annotations need."""
    names = ["mkdocs", *(f"mkdocs.{part}" for part in ("config", "config.defaults", "structure"))]
    names += ["mkdocs.structure.files", "mkdocs.structure.pages"]
    stand_ins = {name: ModuleType(name) for name in names}
    stand_ins["mkdocs.config.defaults"].MkDocsConfig = object
    stand_ins["mkdocs.structure.files"].File = stand_ins["mkdocs.structure.files"].Files = object
    stand_ins["mkdocs.structure.pages"].Page = object
    spec = importlib.util.spec_from_file_location("site_hooks", ROOT / "docs" / "site" / "hooks.py")
    module = importlib.util.module_from_spec(spec)
    with mock.patch.dict(sys.modules, stand_ins):
        spec.loader.exec_module(module)
    return module


def test_every_page_is_in_the_navigation_once(hooks):
    sections = hooks.navigation(CONTENTS)
    pages = [
        page for section in sections[1:] for entries in section.values() for entry in entries for page in entry.values()
    ]
    assert len(pages) == len(set(pages))
    kept = {path.relative_to(ROOT / "docs").as_posix() for path in (ROOT / "docs").rglob("*.md")} - {"README.md"}
    assert kept | set(hooks.OUTSIDE.values()) == {page for page in pages if page.endswith(".md")}


def test_pages_from_outside_exist(hooks):
    assert [source for source in hooks.OUTSIDE if not (ROOT / source).is_file()] == []


@pytest.mark.parametrize(
    ("source", "page", "link", "there"),
    [
        ("docs/ranking.md", "ranking.md", "evidence.md#lists", "evidence.md#lists"),
        ("docs/ranking.md", "ranking.md", "../CONTRIBUTING.md#adding-a-ranker", "contributing.md#adding-a-ranker"),
        ("docs/ranking.md", "ranking.md", "../pyproject.toml", f"{HOME}/blob/main/pyproject.toml"),
        ("docs/ranking.md", "ranking.md", "../tests/rankers", f"{HOME}/tree/main/tests/rankers"),
        ("docs/ranking.md", "ranking.md", "position.svg", "position.svg"),
        ("docs/ranking.md", "ranking.md", "nowhere.md", "nowhere.md"),  # which mkdocs refuses
        ("CONTRIBUTING.md", "contributing.md", "docs/architecture.md", "architecture.md"),
        ("examples/plugin/README.md", "plugin.md", "../../docs/methods.md", "methods.md"),
        ("docs/ranking.md", "ranking.md", "https://arxiv.org", "https://arxiv.org"),
    ],
)
def test_links_lead_to_a_page_or_to_the_repository(hooks, source, page, link, there):
    assert hooks.relinked(f"see [it]({link}).", source, page, HOME) == f"see [it]({there})."


def test_code_keeps_its_brackets(hooks):
    code = "```python\nfound[0](pyproject.toml)\n```\n"
    assert hooks.relinked(code, "docs/ranking.md", "ranking.md", HOME) == code


def test_files_that_the_site_names_exist():
    site = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))
    assert "nav" not in site  # docs/README.md is the navigation
    assert site["theme"]["font"] is False  # nothing is asked of a server of fonts
    for name in [*site["hooks"], *(f"docs/{path}" for path in site["extra_css"])]:
        assert (ROOT / name).is_file(), name


def test_the_reference_names_what_there_is():
    import importlib

    for name in re.findall(r"^::: (\S+)$", (ROOT / "docs" / "python.md").read_text(encoding="utf-8"), re.M):
        module, _, member = name.rpartition(".")
        assert hasattr(importlib.import_module(module), member) or importlib.import_module(name), name
