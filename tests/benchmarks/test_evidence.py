"""The page of evidence, on a model with a known bias: every study runs, resumes, and says what the figures are."""

import re
from dataclasses import replace

import pytest

from benchmarks import evidence
from benchmarks.evidence import STUDIES, page, run, with_summary
from benchmarks.report_in_browser import contrast
from fairpos import FairModel
from fairpos.backends.fake import FakeBackend
from fairpos.backends.once import OnceBackend


class Counted(FakeBackend):
    """Can all that a local model can, as far as the runner asks."""

    def run(self, calls):
        made.extend(calls)
        return super().run(calls)


made: list = []


def model():
    kinds = frozenset({"generate", "score", "attention"})
    return FairModel(OnceBackend(Counted(slot_bias=[9.0], capabilities=kinds)))


@pytest.mark.parametrize("name", list(STUDIES))
def test_every_study_runs_and_goes_on_where_it_was(name, tmp_path):
    made.clear()
    result = run(model(), name, STUDIES[name], 3, tmp_path)
    assert [figures.method for figures in result.figures] == ["none", *STUDIES[name].methods]
    text = page([result])
    for method in STUDIES[name].methods:
        [line] = [line for line in text.splitlines() if line.startswith(f"| `{method}` |")]
        assert line.count("|") == 10
    assert made
    made.clear()
    assert page([run(model(), name, STUDIES[name], 3, tmp_path)]) == text
    assert made == []


def test_the_bias_that_is_there_is_what_the_page_says(tmp_path):
    text = page([run(model(), "judge", STUDIES["judge"], 8, tmp_path)])
    assert re.search(r"- P\(first wins\) - P\(second wins\), labels crossed: 1\.00 \(0\.\d\d to 1\.00\)", text)
    assert re.search(r"- P\(A wins\) - P\(B wins\), orders crossed: 0\.00 \(-0\.\d\d to 0\.\d\d\)", text)
    assert "The plain model by the position of the right segment: 1.00 0.00." in text


def test_the_page_names_what_is_flat_and_no_worse():
    def rows(kv):
        cells = "| 0.50 (0.40 to 0.60) |"
        return [
            f"| `none` | 60 {cells}  | 0.00 | 0.10 (0.00 to 0.20) | 1.0 | 9 | 1 |",
            f"| `pine` | 60 {cells} {kv} (-0.30 to +0.30) | 0.50 | 1.00 (0.94 to 1.00) | 1.0 | 9 | 1 |",
            f"| `permutation:views=3` | 60 {cells} **+0.20 (+0.1 to +0.3)** | 0.50 | 0.99 (0.9 to 1.00) | 1 | 9 | 1 |",
            f"| `ape` | 6 {cells} +0.00 (-0.10 to +0.10) | 0.50 | 1.00 (0.61 to 1.00) | 1.0 | 9 | 1 |",
        ]

    def written(kv, choice):
        worse = {"kv": kv, "choice": choice}
        texts = [[f"## {study.title}", "", *rows(worse.get(name, "+0.00")), ""] for name, study in STUDIES.items()]
        return with_summary("\n".join(["# Evidence", "", *(line for text in texts for line in text)]))

    once = written("-0.10", "+0.01")
    assert "| `pine` | +0.00 | +0.01 | +0.00 | -0.10 | +0.00 | 5 of 5 | 4 of 5 |" in once
    assert "| `permutation` | +0.20 | +0.20 | +0.20 | +0.20 | +0.20 | 0 of 5 | 5 of 5 |" in once
    assert "`ape` | +" not in once  # on few items alone
    assert once.endswith("at least 4 of 5: `pine`.\n")
    assert written("-0.10", "-0.01").endswith("at least 4 of 5: none.\n")
    assert with_summary(once) == once


def test_contrast():
    assert contrast("rgb(0, 0, 0)", "rgb(255, 255, 255)") == pytest.approx(21)
    assert contrast("rgb(10, 20, 30)", "rgb(10, 20, 30)") == 1


def test_rows_that_are_not_renewed_stay_as_they_are(monkeypatch):
    kv = ["## KV", "", "6 items", "", "| m |", "|---|", "| `none` | 6 |", "| `pine` | 6 |", "", "bias", ""]
    before = "\n".join(["# Evidence", "", *kv, "## QA", "", "| `none` | 5 |", ""])
    after = ["## KV", "", "9 items", "", "| m |", "|---|", "| `none` | 9 |", "| `route` | 9 |", "", "new bias", ""]
    study = replace(STUDIES["kv"], title="KV")
    monkeypatch.setattr(evidence, "section", lambda result: after)
    renewed, other = evidence.updated(before, [evidence.Result(study, [], {})]).split("## ")[1:]
    rows = [line for line in renewed.split("\n") if line.startswith("| `")]
    assert rows == ["| `none` | 9 |", "| `route` | 9 |", "| `pine` | 6 |"]
    assert "9 items" in renewed
    assert "new bias" in renewed
    assert "6 items" not in renewed
    assert other == "QA\n\n| `none` | 5 |\n"
