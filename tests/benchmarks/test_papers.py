"""`python -m benchmarks.papers`: what it draws repeats, its page has both figures, and it goes on where it was."""

import json

import pytest

from benchmarks import papers
from tests.service.running import tiny


def test_sorting_problems_repeat_and_are_in_their_right_order():
    problems = list(papers.sorting_problems("psc_math", 5))
    assert problems == list(papers.sorting_problems("psc_math", 5))
    for _, items in problems:
        values = [eval(item) for item in items]
        assert values == sorted(set(values))
    assert all(items == sorted(items) for _, items in papers.sorting_problems("psc_word", 5))


def test_every_table_names_its_source_and_no_figure_without_one():
    for table in papers.TABLES.values():
        assert "arXiv" in table.source
        figures = any(letter.isdigit() for letter in table.published)
        assert not figures or "abstract" in table.published or "reproduction" in table.published


def test_any_model_is_run_shown_and_resumed(monkeypatch, tmp_path, capsys):
    model = tiny()
    asked = []

    def load(name, **options):
        asked.append((name, options))
        return model

    monkeypatch.setattr(papers.fairpos, "load", load)
    arguments = ["--model", "org/any", "--device", "cpu", "--items", "1", "--out", str(tmp_path)]
    arguments += ["--tables", "set_based_csqa", "psc_word"]
    papers.main(arguments)
    page = (tmp_path / "papers-org-any.md").read_text()
    assert asked == [("org/any", {"device": "cpu", "dtype": "float32"})]
    assert "| set_based |" in page
    assert "Published: -." in page
    assert "| permutation, 5 views |" in page
    found = json.loads((tmp_path / "papers-org-any.json").read_text())
    assert found["tables"]["set_based_csqa"]["rows"]["set_based"]["accuracy"][0] in (0.0, 1.0)
    monkeypatch.setattr(type(model.backend), "run", lambda *_: pytest.fail("asked again"))
    papers.main(arguments)
    assert (tmp_path / "papers-org-any.md").read_text() == page


def test_a_slice_does_not_become_the_page(capsys):
    with pytest.raises(SystemExit):
        papers.main(["--items", "1"])
    assert "--out" in capsys.readouterr().err
