"""The order of few-shot examples: a planted preference for the last label is found, and a vote over orders mends it."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from fairpos import FairModel
from fairpos.audit.runs import Plan, run_trials
from fairpos.audit.statistics import figures_of
from fairpos.audit.tasks import TASKS, guess_task, read_items
from fairpos.backends.base import Reply
from fairpos.cli.commands import app
from fairpos.errors import InvalidRequest
from fairpos.files.examples import label_of, shots_item
from fairpos.prompts import FEW_SHOT, render
from fairpos.testing.subjects import ToldBackend
from fairpos.types import Usage

SHOTS = TASKS["shots"]


def record(number, right="good", labels=("good", "bad", "bad", "good")):
    examples = [{"input": f"text {number} {i}", "label": label} for i, label in enumerate(labels)]
    return {"id": f"i{number}", "query": f"new text {number}", "examples": examples, "label": right}


def items(count, **options):
    return [shots_item(n, record(n, right=("good", "bad")[n % 2], **options)) for n in range(count)]


def says(place):
    """A model that repeats the label of the example in one place."""
    return ToldBackend(
        lambda call: Reply(text=f" {label_of(call.prompt.request.segments[place])}.\n", usage=Usage(calls=1))
    )


def test_the_prompt_goes_on_as_the_examples_do():
    prompt = render(shots_item(1, record(1, labels=("good", "bad"))).request, FEW_SHOT)
    assert prompt.text + "\n" + prompt.answer_start == (
        "Label the last input as the examples are labelled.\n\n"
        "Input: text 1 0\nLabel: good\n\nInput: text 1 1\nLabel: bad\n\nInput: new text 1\nLabel:"
    )


def test_a_model_that_follows_the_last_example_is_found_out():
    found = items(20, labels=("good", "bad", "fine"))
    trials = run_trials(says(-1), SHOTS, found, ["none"])
    figures = figures_of("none", trials, found, resamples=200)
    assert [round(by.estimate, 2) for by in figures.by_position] == [0.0, 0.0, 1.0]
    assert figures.figures["consistency"].estimate < 0.5


def test_a_model_that_reads_the_input_is_not():
    def reply(call):
        odd = int(call.prompt.request.query.split()[-1]) % 2
        return Reply(text=f" {('good', 'bad')[odd]}", usage=Usage(calls=1))

    found = items(20)
    figures = figures_of("none", run_trials(ToldBackend(reply), SHOTS, found, ["none"]), found, resamples=200)
    assert figures.figures["accuracy"].estimate == 1.0
    assert figures.figures["consistency"].estimate == 1.0


def test_what_was_said_is_compared_as_a_label():
    labels = ("very good", "very", "bad")
    item = shots_item(1, record(1, right="very good", labels=labels))

    def scored(text):
        [trial, *_] = run_trials(ToldBackend(lambda call: Reply(text=text)), SHOTS, [item], ["none"])
        return trial.score

    assert scored(" Very good, I think") == 1.0
    assert scored("very bad") == 0.0  # "very" is a label too
    assert scored("goodness") == 0.0
    assert scored("very goodness") == 0.0


def test_records_that_cannot_be_used_say_why(tmp_path):
    good = record(1)
    for change, message in (
        ({"examples": [good["examples"][0]]}, "at least 2 examples"),
        ({"examples": "none"}, "examples must be a list of objects"),
        ({"examples": [{"input": "x", "label": "a\nb"}] * 2}, "one line of text"),
        ({"examples": [{"id": "1", "input": "x", "label": "a"}] * 2}, "appears twice"),
        ({"examples": [{"input": "x"}] * 2}, "label"),
        ({"label": 3}, "label must be a text, or labels a list of texts"),
        ({"labels": []}, "labels a list of texts"),
    ):
        with pytest.raises(InvalidRequest, match=message):
            shots_item(1, {**good, **change})
    unlabelled = {key: value for key, value in good.items() if key != "label"}
    assert shots_item(1, unlabelled).gold is None
    path = tmp_path / "shots.jsonl"
    path.write_text(json.dumps(good))
    assert guess_task(path) is SHOTS
    [cut], _ = read_items(SHOTS, path, segments=3)
    assert len(cut.request.segments) == 3


def test_methods_take_examples_as_they_are():
    [item] = items(1)
    fair = FairModel(says(-1))
    output = fair.answer("text 0 2", item.request.segments, methods="descending", template=FEW_SHOT)
    assert output.views[0].order[0] == "3"  # whose input is the query's
    trials = run_trials(says(0), SHOTS, [item], ["permutation:views=4"], Plan())
    assert len({trial.picked for trial in trials}) == 1  # four orders vote: the same label whatever came in


def test_on_the_command_line(tmp_path):
    data = tmp_path / "shots.jsonl"
    data.write_text("\n".join(json.dumps(record(n)) for n in range(2)))
    result = CliRunner().invoke(
        app,
        [
            "audit",
            "--task",
            "shots",
            "--data",
            str(data),
            "--model",
            "openai:http://127.0.0.1:9/v1#m",
            "--dry-run",
            "-o",
            str(tmp_path / "out"),
        ],
    )
    assert result.exit_code == 0, result.output
    assert not Path(tmp_path / "out").exists()
