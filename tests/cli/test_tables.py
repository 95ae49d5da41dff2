"""No table is ever cut, however narrow the terminal: rows are broken at blanks, or stacked."""

import io
import re

import pytest
from rich.console import Console

from fairpos.audit.audit import AuditRun
from fairpos.audit.runs import Plan
from fairpos.audit.tasks import TASKS
from fairpos.backends.fake import FakeBackend
from fairpos.cli import advise, audit_table, leaderboard, methods, models, terminal
from fairpos.cli.terminal import Column, prose, table_lines
from fairpos.files.items import Item
from fairpos.files.verdict import Verdict
from fairpos.types import Request, Segment

WIDTHS = (40, 60, 80, 100, 140)


@pytest.fixture
def printed(monkeypatch):
    """Runs a function with a terminal of so many columns; returns what it prints."""

    def run(width, print_it):
        out = io.StringIO()
        console = Console(file=out, width=width)
        for module in (terminal, audit_table, leaderboard, methods, models):
            monkeypatch.setattr(module, "console", console)
        print_it()
        return out.getvalue()

    return run


def test_a_row_a_line_where_it_fits():
    columns = [Column("name"), Column("n", is_number=True), prose("why")]
    rows = [["a", "1", "one two"], ["bb", "22", ""]]
    assert table_lines(columns, rows, 80) == ["name   n  why", "a      1  one two", "bb    22"]


def test_prose_is_broken_before_rows_are_stacked():
    columns = [Column("name"), prose("why")]
    rows = [["abc", "one two three four five six seven"]]
    assert table_lines(columns, rows, 30) == ["name  why", "abc   one two three four five", "      six seven"]
    assert table_lines(columns, rows, 20) == [
        "abc",
        "  why  one two three four",
        "       five six seven",
    ]


def test_wide_characters_count_twice():
    lines = table_lines([Column("m"), Column("n", is_number=True)], [["模型", "1"], ["ab", "2"]], 80)
    assert lines == ["m     n", "模型  1", "ab    2"]


NAMES = ["none", "swap:verdict=mean", "swap:verdict=tie", "swap:verdict=mean+cross_labels", "contextual"]


@pytest.fixture(scope="module")
def audit():
    items = [
        Item(
            f"i{i}",
            Request("judge", f"q{i}", tuple(Segment(id=id, text=f"{id}{i}", score=float(id == "A")) for id in "AB")),
            "A",
        )
        for i in range(12)
    ]
    return AuditRun(FakeBackend(slot_bias=[1.5], noise=0.5), TASKS["judge"], Plan(cross=True)).audit(items, NAMES)


@pytest.mark.parametrize("width", WIDTHS)
def test_the_audit_has_every_method_and_every_interval_whole(printed, audit, width):
    text = printed(width, lambda: audit_table.print_audit(audit))
    assert "…" not in text
    left_out = re.findall(r"left out for want of width: (.*?)\)", text.replace("\n", " "))
    dropped = left_out[0].split(", ") if left_out else []
    assert not {"method", "accuracy", "consistency", "bias"} & set(dropped)
    squeezed = re.sub(r"\s+", " ", text)
    for method in audit.methods:
        assert method.method in squeezed.split()
        for name in ("accuracy", "worst_position", "consistency", "position_effect", "label_effect"):
            value = method.figures[name]
            if name.replace("_", " ") not in dropped:
                assert f"{value.estimate:.2f}" in text
                assert f"({value.low:.2f} to {value.high:.2f})" in text
    if width >= 80:  # but for the sentences below, no line is longer than the terminal
        assert all(len(line) <= width for line in text.split("\n"))


def test_the_words_of_a_method_are_broken_by_the_terminal_alone(printed):
    text = printed(80, lambda: methods.methods("permutation", as_json=False))
    paragraph = text.split("\n\n")[2].split("\n")
    assert all(len(line) > 60 for line in paragraph[:-1])
    assert "\nHURTS:" in text


def test_costs_are_numbers_in_plain_digits_and_fit():
    assert [advise._plain_number(x) for x in (2.85e-6, 0.0, 0.61234, 12.0, 123.4)] == [
        "0.00000285",
        "0",
        "0.612",
        "12",
        "123",
    ]


def test_a_title_is_broken_too(printed):
    text = printed(40, lambda: terminal.print_table([Column("a")], [["1"]], title="one two three four " * 4 + "\n"))
    assert all(len(line) <= 40 for line in text.split("\n"))
    assert "\n\na\n1\n" in text


@pytest.mark.parametrize("width", WIDTHS)
def test_the_other_tables(printed, width):
    text = printed(width, lambda: methods.methods(None, as_json=False))
    assert "…" not in text
    assert "permutation self-consistency, arXiv 2310.07712" in re.sub(r"\s+", " ", text) or width > 60
    verdicts = [
        Verdict(
            id=f"v{i}",
            winner="A" if i % 3 else "B",
            status="ok",
            ids=("A", "B"),
            models={"A": "a-rather-long-model-name-of-a-vendor-2026-11", "B": "another-model-name-that-is-long"},
        )
        for i in range(20)
    ]
    text = printed(width, lambda: leaderboard.print_table(verdicts, as_json=False))
    assert "a-rather-long-model-name-of-a-vendor-2026-11" in text
    assert re.search(r"\(0\.\d\d to 0\.\d\d\)", text)
    assert "95 % intervals" in re.sub(r"\s+", " ", text)
    assert "…" not in text
