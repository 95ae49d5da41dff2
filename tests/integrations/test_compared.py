"""docs/compared.md: every mark of the table is explained, every explanation is used, and nothing is marked twice."""

import re
from pathlib import Path

PAGE = (Path(__file__).parents[2] / "docs" / "compared.md").read_text(encoding="utf-8")
TABLE = [[cell.strip() for cell in line.strip("|").split("|")] for line in PAGE.splitlines() if line.startswith("|")]
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
