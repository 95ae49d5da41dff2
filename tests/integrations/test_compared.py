"""docs/compared.md: every mark of the table is explained and used once; every test that it names is there."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "compared.md").read_text(encoding="utf-8")
TOOLS, _, PUBLISHED = PAGE.partition("## Published work that is here")


def rows_of(text):
    """The cells of all rows of a table."""
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line.startswith("|")]


TABLE = rows_of(TOOLS)
MARK = re.compile(r"\b([FRELXHIPMK]\d+)\b")


def test_every_cell_has_a_mark_that_is_explained():
    explained = [mark for line in re.findall(r"^- (.*?):", PAGE, re.M) for mark in MARK.findall(line)]
    used = [mark for row in TABLE[2:] for mark in MARK.findall("|".join(row[1:]))]
    assert sorted(used) == sorted(explained)
    assert len(used) == len(set(used)) > 30
    unmarked = {cell for row in TABLE[2:] for cell in row[1:] if not MARK.search(cell)}
    assert unmarked == {"-", "itself"}


def test_rows_are_whole():
    assert {len(row) for row in TABLE} == {11}


def test_every_row_of_published_work_names_a_test_that_is_there():
    rows = rows_of(PUBLISHED)[2:]
    assert len(rows) > 8
    for name, _, shown in rows:
        test, file = re.fullmatch(r"\[`(test_\w+)`\]\(\.\./(tests/\S+\.py)\)", shown).groups()
        assert f"def {test}(" in (ROOT / file).read_text(encoding="utf-8"), f"{name}: {file} has no {test}"


def test_every_explanation_of_ours_names_a_file_that_has_tests():
    for mark, text in re.findall(r"^- (F\d+): (.*?)(?=^- |^[A-Z])", TOOLS, re.M | re.S):
        files = re.findall(r"\(\.\./(tests/\S+?\.py)\)", text)
        assert files, f"{mark} names no test"
        for file in files:
            assert re.search(r"^(async )?def test_", (ROOT / file).read_text(encoding="utf-8"), re.M), f"{mark}: {file}"


def test_every_refusal_has_a_reason_and_what_would_change_it():
    rows = rows_of((ROOT / "docs" / "refused.md").read_text(encoding="utf-8"))[2:]
    assert len(rows) > 8
    assert all(len(row) == 4 and all(row) for row in rows)
