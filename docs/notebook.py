"""Writes docs/notebook.ipynb: these cells, run in order in a fresh kernel.

    pip install 'fairpos[local,notebook]'
    python docs/notebook.py

Outputs hold no times, paths or counters, so that a run that finds the same writes the same file.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

NOTEBOOK = Path(__file__).with_suffix(".ipynb")
LONGEST_TEXT = 500  # characters

# (kind, source), in order. Of plain code alone: tests/test_notebook.py runs it without a kernel.
CELLS: tuple[tuple[str, str], ...] = (
    (
        "markdown",
        """# From a bias to a method

A small model ranks four passages for three questions. Does it read all slots alike? If not, what helps, on these very
data? Written by `docs/notebook.py`; SmolLM2-135M comes inside of a package of the Python index. With three questions
the figures show the way, not the truth: `fairpos audit` on your own data does.""",
    ),
    (
        "code",
        """import logging

import fairpos
from fairpos import Segment

logging.disable(logging.WARNING)
fair = fairpos.load("smollm2", device="cpu")  # or fairpos.wrap(model, tokenizer)
passages = [
    Segment(id="loom", text="Jacquard's loom was steered by punched cards."),
    Segment(id="engine", text="Charles Babbage designed the analytical engine in 1837."),
    Segment(id="program", text="Ada Lovelace wrote the first program for the engine."),
    Segment(id="sugar", text="Sugar dissolves faster in hot water than in cold."),
]
questions = {
    "Who designed the analytical engine?": "engine",
    "What steered the loom?": "loom",
    "Where does sugar dissolve faster?": "sugar",
}""",
    ),
    (
        "markdown",
        """## The bias

Every question is asked with the passages turned, so that each passage stands once in every slot. A model that reads
them alike would name each slot equally often.""",
    ),
    (
        "code",
        """turned = [passages[shift:] + passages[:shift] for shift in range(len(passages))]
picks = []
right = []
for question, gold in questions.items():
    for order in turned:
        winner = fair.rank(question, order).winner
        slot = [passage.id for passage in order].index(winner)
        picks.append(slot + 1)
        right.append(winner == gold)
counts = [picks.count(slot) for slot in range(1, len(passages) + 1)]
print("named, by slot:", counts, "- right:", sum(right), "of", len(right))""",
    ),
    (
        "code",
        """import matplotlib.pyplot as plt

figure, axes = plt.subplots(figsize=(5, 2.5), layout="constrained")
axes.bar(range(1, 5), counts)
axes.axhline(len(picks) / 4, linestyle="--", color="gray")
axes.set(xticks=range(1, 5), xlabel="slot of the passage that was named", ylabel="rankings")
plt.show()""",
    ),
    (
        "markdown",
        """## Which method?

The audit asks the plain model and some methods the same questions in the same orders. It recommends a method only
where an interval supports it; with three questions it is right to hesitate.""",
    ),
    (
        "code",
        """import pandas as pd

from fairpos.audit.audit import AuditRun
from fairpos.audit.tasks import TASKS
from fairpos.files.items import passage_item

records = [
    {
        "id": question,
        "query": question,
        "passages": [{"id": each.id, "text": each.text} for each in passages],
        "gold": gold,
    }
    for question, gold in questions.items()
]
items = [passage_item(line, record) for line, record in enumerate(records, 1)]
run = AuditRun(fair.backend, TASKS["rank"], read_attention=False)
audit = run.audit(items, ["permutation:views=4", "permutation:views=2"])
print(f"{audit.advice.headline}. {audit.advice.reason}")
pd.DataFrame(
    {
        "method": each.method,
        "accuracy": round(each.figures["accuracy"].estimate, 2),
        "same in every order": round(each.figures["consistency"].estimate, 2),
        "calls": each.cost.calls,
    }
    for each in audit.methods
)""",
    ),
    (
        "markdown",
        """## Order-free answers

The views are turns of one order that follows from the contents, so the ranking is the same whatever order comes in;
and so is an answer on which the views vote at every token.""",
    ),
    (
        "code",
        """question = "Who designed the analytical engine?"
rankings = {fair.rank(question, order, "permutation:views=4").ranking for order in turned}
answers = {
    fair.answer(question, order, "permutation:views=2", max_new_tokens=6).text
    for order in (passages, passages[::-1])
}
print(len(rankings), "ranking for", len(turned), "orders;", len(answers), "answer for 2")
fair.rank(question, passages, "permutation:views=4")  # with the slots it stood in, * where it came first""",
    ),
    (
        "markdown",
        """## Profiles: what a slot is worth

A profile measures how much of the question's attention a passage gets in each slot, whatever it says. It is an array
and a frame; `attn_rank` puts the most relevant passage into the best slot.""",
    ),
    (
        "code",
        """from fairpos.methods.attn_rank import AttnRank

measured = AttnRank().calibrate(fair.backend, items, layers="u_shape", probes=8)
profile = measured.profile[0]
print(profile.to_numpy().shape, profile.rule)
profile.to_frame().round(3)""",
    ),
)


def _shown(output: dict[str, Any]) -> dict[str, Any]:
    """An output without a text that nobody reads where a table is shown."""
    data = output.get("data", {})
    if "text/html" in data and len(data.get("text/plain", "")) > LONGEST_TEXT:
        del data["text/plain"]
    return output


def main() -> None:
    """Runs the cells and writes the notebook."""
    import nbformat
    from nbclient import NotebookClient

    make = {"markdown": nbformat.v4.new_markdown_cell, "code": nbformat.v4.new_code_cell}
    cells = [make[kind](source, id=f"cell-{place}") for place, (kind, source) in enumerate(CELLS)]
    notebook = nbformat.v4.new_notebook(cells=cells)
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    notebook.metadata["kernelspec"] = kernel
    # Progress of loading and warnings of other packages are no part of what is shown.
    NotebookClient(notebook, timeout=600, record_timing=False).execute()
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = [_shown(output) for output in cell.outputs if output.get("name") != "stderr"]
    notebook.metadata = {"kernelspec": kernel, "language_info": {"name": "python"}}
    nbformat.write(notebook, NOTEBOOK)
    sys.stdout.write(f"{NOTEBOOK.name} written\n")


if __name__ == "__main__":
    main()
