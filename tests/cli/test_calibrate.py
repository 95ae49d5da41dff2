"""`fairpos calibrate attn_rank`, with a model that is made up."""

import json
import random
import re

import pytest
from typer.testing import CliRunner

from fairpos import FairModel
from fairpos.backends.fake import FakeBackend
from fairpos.calibration.profile import Profile
from fairpos.cli.commands import app
from fairpos.cli.options import LocalOptions
from fairpos.errors import InvalidOption, InvalidRequest, UnsupportedBackend
from fairpos.prompts import KEY_VALUE, Template
from tests.fake_endpoint import FakeEndpoint, Text

BIAS = [0.0, 3.0, 1.0]


@pytest.fixture(autouse=True)
def _model(monkeypatch, tmp_path):
    backend = FakeBackend(slot_bias=BIAS, capabilities=frozenset({"generate", "score", "attention"}), noise=0.3)
    monkeypatch.setattr(LocalOptions, "load", lambda self, name: FairModel(backend))
    monkeypatch.setenv("FAIRPOS_PROFILES", str(tmp_path / "shared"))


@pytest.fixture
def data(tmp_path):
    draw = random.Random(0)
    path = tmp_path / "data.jsonl"
    records = []
    for number in range(30):
        gold = draw.randrange(3)
        passages = [
            {"id": str(i), "text": f"{number} {i} {draw.random()}", "score": 2.0 if i == gold else 0.0}
            for i in range(3)
        ]
        records.append(
            {"id": number, "query": "q", "passages": passages, "gold": str(gold), "answers": [passages[gold]["text"]]}
        )
    path.write_text("\n".join(map(json.dumps, records)))
    return path


def call(*arguments):
    result = CliRunner().invoke(app, ["calibrate", "attn_rank", *map(str, arguments)])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


@pytest.mark.parametrize("signal", ["attention", "accuracy", "logprob"])
def test_a_profile_is_written_and_shown(data, tmp_path, signal):
    out = tmp_path / "p.json"
    result = call("--data", data, "-k", 3, "-o", out, "--signal", signal)
    assert result.exit_code == 0
    profile = Profile.load(out)
    assert max(range(3), key=profile.values.__getitem__) == 1
    assert f"{profile.values[1]:.3f}" in result.stdout
    assert f"--methods attn_rank:profile={out}" in " ".join(result.stderr.split())


def test_json_and_the_shared_directory(data, tmp_path):
    result = call("--data", data, "-k", 3, "--json", "--layers", "0", "--per", "token", "--heads", "0")
    record = json.loads(result.stdout)
    [path] = (tmp_path / "shared").glob("fake-answer-k3-attention-*.json")
    assert json.loads(path.read_text()) == record
    assert record["rule"] == "attention of the question, layer 0 of 1, heads 0, mean over a segment's tokens"


def test_the_data_that_is_left_out_is_drawn_with_the_seed(data, tmp_path):
    for seed in (0, 1):
        call("--data", data, "-k", 3, "-o", tmp_path / f"{seed}.json", "--probes", 30, "--seed", seed)
    one, two = (Profile.load(tmp_path / f"{seed}.json") for seed in (0, 1))
    assert one.samples == two.samples == 10
    assert one.data != two.data


GOLD = re.compile(r"right one \w+")


def reads_the_middle(body, _):
    """Finds the answer in the second of three passages alone; what it thinks before says it everywhere."""
    content = body["messages"][-1]["content"]
    said = GOLD.search(content)
    at_place = sum(content.index(said[0]) > content.index(word) for word in ("passage 0", "passage 1"))
    return Text(f"<think>Is it {said[0]}?</think>{said[0] if at_place == 1 else 'No idea.'}")


@pytest.fixture
def told(tmp_path):
    path = tmp_path / "told.jsonl"
    records = [
        {
            "id": str(n),
            "query": "Which?",
            "gold": "0",
            "answers": [f"right one {n}x"],
            "passages": [{"id": str(i), "text": f"right one {n}x" if i == 0 else f"passage {i - 1}"} for i in range(3)],
        }
        for n in range(10)
    ]
    path.write_text("\n".join(map(json.dumps, records)))
    return path


def test_an_endpoint_is_called_with_the_options_of_the_other_commands(told, tmp_path):
    out = tmp_path / "p.json"
    options = ["--header", "X-Team: a", "--body", '{"seed": 7}', "--system", "Be brief.", "--max-new-tokens", 9]
    options += ["--signal", "accuracy", "--width", "0.5", "--cache", tmp_path / "c.sqlite", "--rpm", 60_000]
    with FakeEndpoint(reads_the_middle) as endpoint:
        model = ["-m", f"openai:{endpoint.url}#m"]
        result = call("--data", told, "-k", 3, "-o", out, *options, *model)
        assert endpoint.total == 24  # eight samples are enough for that width
        again = call("--data", told, "-k", 3, "-o", tmp_path / "q.json", *options, *model)
        assert endpoint.total == 24
    assert result.exit_code == again.exit_code == 0
    body, headers = endpoint.bodies[0], endpoint.headers[0]
    assert (headers["x-team"], body["seed"], body["max_tokens"]) == ("a", 7, 9)
    assert body["messages"][0] == {"role": "system", "content": "Be brief."}
    profile = Profile.load(out)
    # What was thought is no answer: it would have been right in every slot.
    assert profile.values == (0.0, 1.0, 0.0)
    assert profile.rule.endswith("; after a system prompt")


def test_a_dry_run_says_what_a_profile_would_cost_at_most(told, tmp_path):
    options = ["-m", "openai:http://localhost:1/v1#m", "--dry-run", "--price", "1,2"]
    for signal in ("accuracy", "logprob"):
        result = call("--data", told, "-k", 3, "-o", tmp_path / "p.json", "--signal", signal, "--budget", 20, *options)
        assert "It would be 18 calls" in result.stderr  # six samples in three slots each
        assert "by the price given" in result.stderr
    assert not list(tmp_path.glob("p.json*"))
    with pytest.raises(InvalidOption, match="attention is read in a local model"):
        call("--data", told, "-k", 3, *options)
    with pytest.raises(InvalidOption, match="--header can be used with an endpoint only"):
        call("--data", told, "-k", 3, "--header", "a: b")


def test_pairs_get_the_plain_prompt(tmp_path):
    pairs = [[f"key{i}", f"value{i}"] for i in range(30)]
    (tmp_path / "kv.jsonl").write_text(json.dumps({"id": "1", "pairs": pairs}))
    call("--data", tmp_path / "kv.jsonl", "-k", 3, "-o", tmp_path / "p.json", "--layers", "all")
    assert Profile.load(tmp_path / "p.json").setting.template == KEY_VALUE.fingerprint


def test_a_template_from_a_file(data, tmp_path):
    own = {"instruction": "a ", "segment": "{text} ", "question": "{query}", "chat": False}
    (tmp_path / "t.json").write_text(json.dumps(own))
    call("--data", data, "-k", 3, "-o", tmp_path / "p.json", "--template", tmp_path / "t.json")
    assert Profile.load(tmp_path / "p.json").setting.template == Template(**own).fingerprint
    (tmp_path / "t.json").write_text(json.dumps({"instruction": "a"}))
    with pytest.raises(InvalidOption, match="must have instruction, segment and question"):
        call("--data", data, "-k", 3, "--template", tmp_path / "t.json")


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        (("--signal", "sound"), InvalidOption, "--signal must be one of attention, accuracy, logprob, got 'sound'"),
        (("--task", "sing"), InvalidOption, "--task must be one of answer, rank, judge, choose, got 'sing'"),
        (("--per", "word"), InvalidOption, "--per must be segment or token"),
        (("--heads", "a"), InvalidOption, "--heads must be numbers"),
        (("--layers", "9"), InvalidOption, "layers must be within 0-0, got '9'"),
        (("--template", "nowhere.json"), InvalidOption, "can't read the template nowhere.json"),
        (("-k", "4"), InvalidRequest, "data.jsonl: none of the 30 records has 4 segments"),
    ],
)
def test_what_is_refused(data, arguments, error, words):
    with pytest.raises(error, match=words):
        call("--data", data, "-k", 3, *arguments)


@pytest.mark.parametrize("layers", ["deep", "9-2"])
def test_layers_that_no_model_has_are_refused_before_the_model_is_loaded(data, monkeypatch, layers):
    monkeypatch.setattr(LocalOptions, "load", lambda *_, **__: pytest.fail("the model was loaded"))
    with pytest.raises(InvalidOption, match=f"got '{layers}'"):
        call("--data", data, "-k", 3, "--layers", layers)


def test_an_endpoint_has_no_attention(data, monkeypatch):
    monkeypatch.setattr(LocalOptions, "load", lambda self, name: FairModel(FakeBackend()))
    with pytest.raises(UnsupportedBackend, match="reading attention needs a local model"):
        call("--data", data, "-k", 3)
