"""The provider and the scorers of inspect_ai, run by inspect_ai itself on models of known bias and on a tiny one.

`make integration-test` runs these: inspect_ai's packages don't go with constraints.txt.
"""

import itertools
import os
import random
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fairpos.errors import FairposError
from fairpos.files.formats.base import Source
from fairpos.testing.tiny import tiny_backend
from tests.fake_endpoint import Body, FakeEndpoint, Reply, Text

pytest.importorskip("inspect_ai", reason="the extra inspect-ai isn't installed")
pytestmark = pytest.mark.filterwarnings("ignore")  # of inspect_ai and what it imports

import inspect_ai  # noqa: E402
from inspect_ai import Task  # noqa: E402
from inspect_ai.dataset import Sample  # noqa: E402
from inspect_ai.log import EvalLog, read_eval_log  # noqa: E402
from inspect_ai.model import GenerateConfig, ModelOutput, ModelUsage, get_model  # noqa: E402
from inspect_ai.scorer import choice, includes  # noqa: E402
from inspect_ai.solver import multiple_choice  # noqa: E402

from fairpos.integrations.inspect_ai import order_free_choice, order_free_judge  # noqa: E402

COLOURS = ["black", "orange", "white"]
SNOW = Sample(input="Which colour is snow?", choices=COLOURS, target="C", id="snow")
SHOWN = re.compile(r"^(?:\[Answer )?([A-Z])[.\])]\s*(.+)$", re.M)
Picks = Callable[[list[tuple[str, str]]], str]


@pytest.fixture(scope="module")
def name(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The provider's name of the tiny model, saved as a folder."""
    path = tmp_path_factory.mktemp("tiny")
    backend = tiny_backend()
    backend.model.save_pretrained(path)
    backend.tokenizer.save_pretrained(path)
    return f"fairpos/{path}"


def said(text: str) -> ModelOutput:
    """What the mock says; without a usage of its own it would fetch a tokenizer to count with."""
    output = ModelOutput.from_content("mockllm/model", text)
    output.usage = ModelUsage(input_tokens=7, output_tokens=3, total_tokens=10)
    return output


def judge(pick: Picks) -> Any:
    """A model of inspect_ai that picks among (label, text) in the order shown, and says so in words."""

    def answer(messages: list[Any], *_: object) -> ModelOutput:
        shown = SHOWN.findall(messages[-1].text)
        return said(f"Well. [[{pick(shown)}]]")

    return get_model("mockllm/model", custom_outputs=answer)


def run(task: Task, model: Any, folder: Path, **options: object) -> EvalLog:
    [log] = inspect_ai.eval(task, model=model, log_dir=str(folder), display="none", **options)
    return read_eval_log(log.location)


def metrics_of(log: EvalLog) -> dict[str, float]:
    assert log.status == "success", log.error
    assert log.results is not None
    return {name: metric.value for score in log.results.scores for name, metric in score.metrics.items()}


def scores_of(log: EvalLog) -> list[Any]:
    return [score for sample in log.samples or [] for score in (sample.scores or {}).values()]


def the_right_one(shown: list[tuple[str, str]]) -> str:
    return next(label for label, text in shown if text == "white")


@pytest.mark.parametrize(
    ("pick", "accuracy", "position", "label"),
    [
        (the_right_one, 1.0, 0.0, 0.0),
        (lambda shown: shown[0][0], 0.0, 1.0, 0.0),
        (lambda shown: shown[-1][0], 0.0, 1.0, 0.0),
        (lambda shown: "B", 0.0, 0.0, 1.0),
    ],
)
def test_the_scorer_tells_position_from_label(pick, accuracy, position, label, tmp_path):
    log = run(Task(dataset=[SNOW], solver=[], scorer=order_free_choice()), judge(pick), tmp_path)
    found = metrics_of(log)
    assert found["accuracy"] == accuracy
    assert found["position_effect"] == pytest.approx(position)
    assert found["label_effect"] == pytest.approx(label)
    [score] = scores_of(log)
    assert score.metadata["views"] == 9
    assert score.metadata["position_effect"] == pytest.approx(position)
    assert score.answer == ("C" if accuracy else None)  # what goes by slot or label alone has said nothing


def test_metrics_count_every_epoch_and_samples_of_any_size(tmp_path):
    """A mean over samples: first always wins in the pair (+1/2, -1/2), the right one in the three (0, 0, 0)."""
    pair = Sample(input="Which colour is snow?", choices=["black", "blue"], target="A", id="pair")

    def pick(shown: list[tuple[str, str]]) -> str:
        return shown[0][0] if len(shown) == 2 else the_right_one(shown)

    task = Task(dataset=[SNOW, pair], solver=[], scorer=order_free_choice())
    found = metrics_of(run(task, judge(pick), tmp_path, epochs=2))
    assert found["position_effect"] == pytest.approx(0.5)
    assert found["label_effect"] == pytest.approx(0.0)
    assert found["accuracy"] == pytest.approx(0.5)


def test_a_pair_is_judged(tmp_path):
    sample = Sample(input="Name a colour.", choices=["grey", "white"], target="B")
    log = run(Task(dataset=[sample], solver=[], scorer=order_free_judge()), judge(the_right_one), tmp_path)
    assert metrics_of(log)["accuracy"] == 1.0
    [score] = scores_of(log)
    assert (score.value, score.answer, score.metadata["views"]) == ("C", "B", 4)


@pytest.mark.parametrize(("reference", "value"), [("grey", "C"), ("white", "P")])
def test_an_answer_is_judged_against_the_target(reference, value, tmp_path):
    """The evaluated model says "white"; two equal answers are a tie, which is partial."""
    evaluated = get_model("mockllm/model", custom_outputs=[said("white")])
    task = Task(
        dataset=[Sample(input="Name a colour.", target=reference)], scorer=order_free_judge(model=judge(the_right_one))
    )
    [score] = scores_of(run(task, evaluated, tmp_path))
    assert score.value == value


def test_no_verdict_is_no_answer(tmp_path):
    silent = get_model("mockllm/model", custom_outputs=lambda *_: said("I like all of them."))
    [score] = scores_of(run(Task(dataset=[SNOW], solver=[], scorer=order_free_choice()), silent, tmp_path))
    assert (score.value, score.answer, score.reason) == ("N", None, "grader_failed")
    assert "9 of 9 views gave no verdict" in score.explanation


def test_choices_that_a_solver_shuffled_have_the_target_s_letters(tmp_path):
    task = Task(dataset=[SNOW], solver=multiple_choice(shuffle=random.Random(1)), scorer=order_free_choice())
    [score] = scores_of(run(task, judge(the_right_one), tmp_path))
    assert (score.value, score.answer) == ("C", "C")


def test_the_scorer_asks_the_provider_s_model_for_its_distribution(name, tmp_path):
    found = []
    for order in itertools.permutations(range(3)):
        sample = Sample(input=SNOW.input, choices=[COLOURS[i] for i in order], target="A")
        [score] = scores_of(run(Task(dataset=[sample], solver=[], scorer=order_free_choice()), name, tmp_path))
        by_text = {COLOURS[i]: score.metadata["scores"]["ABC"[place]] for place, i in enumerate(order)}
        found.append((by_text, score.metadata["slots"], score.metadata["labels"]))
    assert all(each == found[0] for each in found)


def test_the_provider_writes_text(name, tmp_path):
    task = Task(dataset=[Sample(input="Hello", target="x")], scorer=includes())
    log = run(task, name, tmp_path, max_tokens=5)
    assert log.status == "success", log.error
    [sample] = log.samples or []
    fair = tiny_backend()
    assert sample.output.usage.output_tokens <= 5
    assert sample.output.stop_reason == "max_tokens"
    assert sample.output.completion
    assert sample.output.completion == run(task, name, tmp_path, max_tokens=5).samples[0].output.completion
    assert sample.output.metadata["fairpos"]["methods"] == "none"
    assert fair.name == "tiny"


def test_with_methods_the_provider_names_the_same_choice_in_every_order(name, tmp_path):
    named = set()
    for order in itertools.permutations(range(3)):
        sample = Sample(input=SNOW.input, choices=[COLOURS[i] for i in order], target="A")
        task = Task(dataset=[sample], solver=multiple_choice(), scorer=choice())
        log = run(task, name, tmp_path, model_args={"methods": "permutation:views=3"})
        assert log.status == "success", log.error
        [found] = log.samples or []
        letter = re.fullmatch(r"ANSWER: ([ABC])", found.output.completion)
        assert letter is not None, found.output.completion
        named.add(COLOURS[order["ABC".index(letter[1])]])
        assert len(found.output.metadata["fairpos"]["views"]) == 3
    assert len(named) == 1


@pytest.mark.parametrize("methods", ["none", "permutation:views=3"])
def test_the_provider_in_front_of_an_endpoint(methods, tmp_path):
    """Whose verdicts are in words: the right one, in every order."""

    def answer(body: Body, nth: int) -> Reply:
        shown = SHOWN.findall(body["messages"][-1]["content"])
        right = next((label for label, text in shown if text == "white"), "A")
        return Text(f"ANSWER: {right}" if methods == "none" else f"[[{right}]]")

    with FakeEndpoint(answer) as endpoint:
        task = Task(dataset=[SNOW], solver=multiple_choice(), scorer=choice())
        log = run(task, f"fairpos/openai:{endpoint.url}#m", tmp_path, model_args={"methods": methods})
    assert metrics_of(log)["accuracy"] == 1.0
    assert (log.samples or [])[0].output.completion == "ANSWER: C"


@pytest.mark.parametrize(
    ("task", "options", "reason"),
    [
        (Task(dataset=[Sample(input="Hello", target="x")]), {"methods": "permutation:views=2"}, "lists the sample's"),
        (Task(dataset=[SNOW]), {"methods": "permutation:views=2"}, "lists the sample's"),
        (Task(dataset=[SNOW], config=GenerateConfig(top_k=5)), {}, "top_k"),
        (Task(dataset=[SNOW], config=GenerateConfig(temperature=1.0)), {}, "seed"),
        (Task(dataset=[Sample(input="Hello", target="x")], scorer=order_free_choice()), {}, "at least 2"),
        (Task(dataset=[Sample(input="q", choices=COLOURS, target="D")], scorer=order_free_choice()), {}, "target must"),
    ],
)
def test_what_can_t_be_kept_ends_the_run_with_the_reason(name, task, options, reason, tmp_path):
    log = run(task, name, tmp_path, model_args=options, max_tokens=3)
    assert log.status == "error"
    assert reason in log.error.message


@pytest.mark.parametrize("options", [{"methods": "permutatoin"}, {"method": "pine"}, {"methods": "windows"}])
def test_model_arguments_are_checked_at_once(name, options):
    with pytest.raises(FairposError):
        get_model(name, memoize=False, **options)


def test_our_reader_reads_the_log(name, tmp_path):
    from fairpos.files.formats.inspect_ai import read_samples

    log = run(Task(dataset=[SNOW], solver=[], scorer=order_free_choice()), name, tmp_path)
    records = read_samples(Source(Path(log.location.removeprefix("file://")))).records
    assert [record["gold"] for _, record in records] == ["C"]


def test_on_the_command_line_by_entry_point(name, tmp_path):
    (tmp_path / "task.py").write_text(
        "from inspect_ai import Task, task\n"
        "from inspect_ai.dataset import Sample\n"
        "from fairpos.integrations.inspect_ai import order_free_choice\n\n\n"
        "@task\n"
        "def snow():\n"
        '    sample = Sample(input="Which colour is snow?", choices=["black", "white"], target="B")\n'
        "    return Task(dataset=[sample], solver=[], scorer=order_free_choice())\n",
        encoding="utf-8",
    )
    command = [sys.executable, "-m", "inspect_ai", "eval", "task.py", "--model", name, "--display", "plain"]
    done = subprocess.run(
        [*command, "-M", "methods=none", "--log-dir", "logs"],
        cwd=tmp_path,
        env=os.environ | {"NO_COLOR": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    [log] = (tmp_path / "logs").glob("*.eval")
    assert "position_effect" in metrics_of(read_eval_log(str(log)))
