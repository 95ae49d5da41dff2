"""docs/notebook.ipynb: its cells are those of docs/notebook.py, they run, and its outputs hold nothing of a machine."""

import json
import re
import runpy
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[1] / "docs"
NOTEBOOK = json.loads((DOCS / "notebook.ipynb").read_text(encoding="utf-8"))
CELLS = runpy.run_path(str(DOCS / "notebook.py"))["CELLS"]


def test_its_cells_are_those_of_the_script_and_all_were_run():
    assert [(cell["cell_type"], "".join(cell["source"])) for cell in NOTEBOOK["cells"]] == list(CELLS)
    code = [cell for cell in NOTEBOOK["cells"] if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in code] == list(range(1, len(code) + 1))
    kinds = [output["output_type"] for cell in code for output in cell["outputs"]]
    assert "error" not in kinds
    assert any("image/png" in output.get("data", {}) for cell in code for output in cell["outputs"])


def test_its_outputs_hold_nothing_of_a_machine():
    for cell in NOTEBOOK["cells"]:
        assert "execution" not in cell["metadata"]  # times
        shown = json.dumps(
            [
                {key: value for key, value in output.get("data", {}).items() if key != "image/png"}
                | {"text": output.get("text")}
                for output in cell.get("outputs", [])
            ]
        )
        assert not re.search(r"/(home|root|tmp|work|usr|Users)/|Traceback|0x[0-9a-f]{6}", shown)


@pytest.mark.long
def test_its_code_runs_without_a_kernel(monkeypatch):
    import logging

    import matplotlib.pyplot as plt

    plt.switch_backend("agg")
    monkeypatch.setattr(plt, "show", lambda: None)  # nobody looks
    code = "\n".join(source for kind, source in CELLS if kind == "code")
    found: dict[str, object] = {}
    try:
        exec(compile(code, "notebook", "exec"), found)
    finally:
        logging.disable(logging.NOTSET)
        plt.close("all")
    assert len(found["rankings"]) == len(found["answers"]) == 1
    assert found["profile"].to_numpy().shape == (4, 3)
    assert list(found["profile"].to_frame().columns) == ["slot", "value", "low", "high"]
