"""The model class of lm-evaluation-harness, beside the harness's own `hf` on the same weights; no hub, no network.

`make integration-test` runs these: the harness's packages don't go with constraints.txt.
"""

import itertools
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from fairpos.errors import InvalidComposition, InvalidOption, InvalidRequest, UnsupportedBackend
from fairpos.testing.tiny import tiny_backend

pytest.importorskip("lm_eval", reason="the extra lm-eval isn't installed")
pytestmark = pytest.mark.filterwarnings("ignore")  # of the harness and what it imports

from lm_eval import simple_evaluate  # noqa: E402
from lm_eval.api.instance import Instance  # noqa: E402
from lm_eval.models.huggingface import HFLM  # noqa: E402
from lm_eval.tasks import TaskManager  # noqa: E402

from fairpos.integrations.lm_eval import FairposLM, question_of  # noqa: E402

DOC = {"question": "Which colour is snow?", "choices": ["black", "orange", "white"], "answer": 2}
PROMPT = "Which colour is snow?\nA. black\nB. orange\nC. white\nAnswer:"
TASK = """
task: {name}
dataset_path: json
dataset_kwargs:
  data_files: {{test: {data}}}
test_split: test
output_type: {output_type}
doc_to_text: "{prompt}"
doc_to_target: answer
metric_list:
  - metric: {metric}
{more}
"""
LISTED = "{{question}}\\nA. {{choices[0]}}\\nB. {{choices[1]}}\\nC. {{choices[2]}}\\nAnswer:"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model as a folder."""
    path = tmp_path_factory.mktemp("tiny")
    backend = tiny_backend()
    backend.model.save_pretrained(path)
    backend.tokenizer.save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def plain(folder: Path) -> HFLM:
    return HFLM(pretrained=str(folder), dtype="float32", device="cpu")


def ours(folder: Path, methods: str = "none", **options: object) -> FairposLM:
    return FairposLM(pretrained=str(folder), methods=methods, device="cpu", **options)


def asked(context: str, continuations: list[str], doc: Any = DOC, name: str = "t", number: int = 0) -> list[Instance]:
    return [
        Instance("loglikelihood", doc, (context, continuation), index, (name, number, 1))
        for index, continuation in enumerate(continuations)
    ]


def listed(texts: list[str], *, labels: str = "ABC", delimiter: str = " ") -> list[Instance]:
    shown = "".join(f"{label}. {text}\n" for label, text in zip(labels, texts, strict=True))
    continuations = [delimiter + label for label in labels]
    return asked(f"Which colour is snow?\n{shown}Answer:", continuations, {**DOC, "choices": texts})


def test_without_a_method_it_is_the_harness_model(folder, plain):
    model = ours(folder)
    requests = asked(PROMPT, [" A", " B", " C"]) + asked("", [" A rose is a rose."], number=1)
    requests += asked("ends in blanks  ", ["here", "there"], number=2)
    for found, expected in zip(model.loglikelihood(requests), plain.loglikelihood(requests), strict=True):
        assert found[0] == pytest.approx(expected[0], abs=1e-4)
        assert found[1] == expected[1]
    texts = [Instance("loglikelihood_rolling", {}, (text,), 0, ("t", 0, 1)) for text in (PROMPT, "x", "a b " * 400)]
    assert model.loglikelihood_rolling(texts) == pytest.approx(plain.loglikelihood_rolling(texts), abs=1e-4)
    wanted = {"until": ["\n\n"], "max_gen_toks": 12, "do_sample": False}
    prompts = [Instance("generate_until", {}, (text, wanted), 0, ("t", 0, 1)) for text in (PROMPT, "Once")]
    assert model.generate_until(prompts) == plain.generate_until(prompts)


@pytest.mark.parametrize("delimiter", [" ", "", "\n"])
def test_the_prompt_in_segments_is_the_prompt_of_the_harness(folder, plain, delimiter):
    """The way through segments, with no method in it: the same tokens, so the same likelihoods."""
    requests = listed(["black", "orange", "white"], delimiter=delimiter)
    model = ours(folder)
    found = model._answers_of(question_of(requests))
    expected = plain.loglikelihood(requests)
    assert [each[0] for each in found] == pytest.approx([each[0] for each in expected], abs=1e-4)
    assert [each[1] for each in found] == [each[1] for each in expected]


def test_options_that_are_scored_themselves(folder, plain):
    texts = ["black", "dark orange", "white"]
    requests = asked("Snow is\n- black\n- dark orange\n- white\nAnswer:", [f" {text}" for text in texts])
    found = ours(folder)._answers_of(question_of(requests))
    assert [each[0] for each in found] == pytest.approx([each[0] for each in plain.loglikelihood(requests)], abs=1e-4)


@pytest.mark.parametrize("methods", ["permutation:views=3", "swap:verdict=mean+cross_labels", "pine", "set_based"])
def test_every_order_of_the_options_gives_the_same_numbers(folder, methods):
    model = ours(folder, methods)
    found = []
    for texts in itertools.permutations(["black", "dark orange", "white"]):
        answers = model.loglikelihood(listed(list(texts)))
        found.append(dict(zip(texts, answers, strict=True)))
    assert all(each == found[0] for each in found)
    plain = [
        ours(folder).loglikelihood(listed(list(texts)))[0]
        for texts in (["black", "white", "red"], ["red", "white", "black"])
    ]
    assert plain[0] != plain[1]


def test_two_views_are_the_mean_of_the_two_orders(folder, plain):
    there = dict(zip("xy", plain.loglikelihood(listed(["x", "y"], labels="AB")), strict=True))
    back = dict(zip("yx", plain.loglikelihood(listed(["y", "x"], labels="AB")), strict=True))
    found = ours(folder, "permutation:views=2").loglikelihood(listed(["x", "y"], labels="AB"))
    assert found[0][0] == pytest.approx((there["x"][0] + back["x"][0]) / 2, abs=1e-4)
    assert found[1][0] == pytest.approx((there["y"][0] + back["y"][0]) / 2, abs=1e-4)


@pytest.mark.parametrize(
    "requests",
    [
        listed(["black", "white"], labels="12"),
        asked("Snow?\n(A) black\n(B) white\nAnswer:", [" (A)", " (B)"]),
        asked("Snow?\n1) black\n2) white\nAnswer:", [" 1)", " 2)"]),
    ],
)
def test_labels_of_a_task_s_own(folder, plain, requests):
    found = ours(folder)._answers_of(question_of(requests))
    assert [each[0] for each in found] == pytest.approx([each[0] for each in plain.loglikelihood(requests)], abs=1e-4)


def test_examples_and_a_continuation_s_own_likelihood_stay_as_they_are(folder, plain):
    """acc_mutual_info asks for continuations after an empty prompt; repeats ask for the same ones again."""
    requests = listed(["black", "orange", "white"])
    alone = [Instance("loglikelihood", DOC, ("", f" {label}"), 3 + i, ("t", 0, 1)) for i, label in enumerate("ABC")]
    model = ours(folder, "permutation:views=3")
    found = model.loglikelihood([*requests, *alone, *requests])
    assert found[3:6] == plain.loglikelihood(alone)
    assert found[:3] == found[6:] == model.loglikelihood(requests)


@pytest.mark.parametrize(
    ("requests", "said"),
    [
        (asked("Which colour is snow?\nAnswer:", [" black", " orange", " white"]), "doesn't list the options"),
        (asked("Which colour is snow?\nAnswer:", [" A", " B", " C"]), "doesn't list the options"),
        (asked(PROMPT, [" A", " B"]), "doesn't list the options"),  # C stands there, too
        (asked(PROMPT, [" A", " B", " C"], {"question": "?"}), "doesn't list the options"),  # whose are they?
        (asked(PROMPT, [" A", " B", " C"])[1:], "without the others"),
        (asked(PROMPT, [" A"]), "one continuation"),
        (asked(PROMPT, [" A", " A", " C"]), "must differ"),
        (asked(PROMPT, [" A", "B", " C"]), "in one frame"),
        ([*asked("red", [" x"]), Instance("loglikelihood", DOC, ("blue", " x"), 1, ("t", 0, 1))], "prompt of its own"),
    ],
)
def test_what_lists_no_options_is_refused_with_the_reason(folder, requests, said):
    with pytest.raises(InvalidRequest, match=said):
        ours(folder, "permutation:views=2").loglikelihood(requests)


def test_what_has_no_options_is_refused(folder):
    model = ours(folder, "permutation:views=2")
    with pytest.raises(InvalidRequest, match="methods=none"):
        model.loglikelihood_rolling([Instance("loglikelihood_rolling", {}, ("x",), 0, ("t", 0, 1))])
    with pytest.raises(InvalidRequest, match="methods=none"):
        model.generate_until([Instance("generate_until", {}, ("x", {}), 0, ("t", 0, 1))])


def test_a_method_that_blanks_the_options_can_t_score_them(folder):
    requests = asked("Snow is\n- black\n- white\nAnswer:", [" black", " white"])
    with pytest.raises(InvalidComposition, match="without the options"):
        ours(folder, "contextual").loglikelihood(requests)


@pytest.mark.parametrize(
    ("options", "error", "said"),
    [
        ({"methods": "permutation:views=2", "design": "latin"}, InvalidOption, "JSON"),
        ({"parallelize": True}, InvalidOption, "parallelize"),
        ({"methods": "windows"}, InvalidComposition, "windows"),
        ({"methods": "permutation:views=0"}, InvalidOption, "views"),
    ],
)
def test_options_are_checked_before_anything_runs(folder, options, error, said):
    with pytest.raises(error, match=said):
        FairposLM(pretrained=str(folder), device="cpu", **options)


def test_an_endpoint_is_refused():
    with pytest.raises((UnsupportedBackend, InvalidOption), match="local model"):
        FairposLM(pretrained="openai:http://127.0.0.1:9/v1#m")


def write_task(folder: Path, name: str, prompt: str = LISTED, metric: str = "acc", **more: str) -> None:
    data = folder / "colours.jsonl"
    docs = [DOC, {"question": "Which colour is grass?", "choices": ["green", "red", "blue"], "answer": 0}]
    data.write_text("".join(json.dumps(doc) + "\n" for doc in docs), encoding="utf-8")
    kind = more.pop("output_type", "multiple_choice")
    lines = "\n".join(f"{key}: {value}" for key, value in more.items())
    text = TASK.format(name=name, data=data, prompt=prompt, output_type=kind, metric=metric, more=lines)
    (folder / f"{name}.yaml").write_text(text, encoding="utf-8")


def test_a_task_of_the_harness_runs_under_a_method(folder, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    write_task(tmp_path, "letters", doc_to_choice='["A", "B", "C"]')
    write_task(tmp_path, "texts", doc_to_choice="choices")
    model = ours(folder, "permutation:views=3")
    tasks = TaskManager(include_path=str(tmp_path), include_defaults=False)
    found = simple_evaluate(model=model, tasks=["letters", "texts"], task_manager=tasks, bootstrap_iters=0)
    assert found["results"].keys() == {"letters", "texts"}
    likelihoods = [response[0][0] for sample in found["samples"]["letters"] for response in sample["resps"]]
    assert len(set(likelihoods)) == 6
    unlisted = {"prompt": "{{question}}\\nAnswer:", "doc_to_choice": "choices"}
    write_task(tmp_path, "unlisted", **unlisted)
    tasks = TaskManager(include_path=str(tmp_path), include_defaults=False)
    with pytest.raises(InvalidRequest, match="task 'unlisted', document 0"):
        simple_evaluate(model=model, tasks=["unlisted"], task_manager=tasks, bootstrap_iters=0)


def test_a_response_cache_of_other_methods_is_refused(folder, tmp_path, monkeypatch):
    """The harness's cache keys hold the prompt alone: it would give one method's numbers to another."""
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    write_task(tmp_path, "letters", doc_to_choice='["A", "B", "C"]')
    tasks = TaskManager(include_path=str(tmp_path), include_defaults=False)
    said = {"tasks": ["letters"], "task_manager": tasks, "bootstrap_iters": 0, "use_cache": str(tmp_path / "kept")}
    first = simple_evaluate(model=ours(folder, "permutation:views=3"), **said)
    again = simple_evaluate(model=ours(folder, "permutation:views=3"), **said)
    assert first["results"] == again["results"]
    with pytest.raises(InvalidOption, match="name another --use_cache"):
        simple_evaluate(model=ours(folder), **said)


def test_on_the_command_line(folder, tmp_path):
    write_task(tmp_path, "letters", doc_to_choice='["A", "B", "C"]')
    command = [sys.executable, "-m", "fairpos.integrations.lm_eval", "--model", "fairpos", "--tasks", "letters"]
    command += ["--include_path", str(tmp_path), "--output_path", str(tmp_path / "out")]
    environment = os.environ | {"HF_DATASETS_CACHE": str(tmp_path / "cache"), "HF_HUB_OFFLINE": "1"}

    def run(arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*command, "--model_args", arguments], env=environment, capture_output=True, text=True, check=False
        )

    done = run(f"pretrained={folder},methods=permutation:views=2")
    assert done.returncode == 0, done.stderr
    assert "|letters" in done.stdout
    [results] = (tmp_path / "out").rglob("results_*.json")
    assert "acc,none" in json.loads(results.read_text(encoding="utf-8"))["results"]["letters"]
    wrong = run(f"pretrained={folder},methods=permutatoin")
    assert wrong.returncode == 2
    assert wrong.stderr.splitlines()[-1].startswith("error: ")
