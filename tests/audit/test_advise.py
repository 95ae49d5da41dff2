"""`fairpos advise` on planted situations: it recommends what helps, or nothing."""

import json
import random

import pytest
from typer.testing import CliRunner

from fairpos import FairModel
from fairpos.audit.statistics import Cost
from fairpos.audit.tasks import guess_task
from fairpos.backends.dry_run import Price
from fairpos.backends.fake import FakeBackend
from fairpos.cli import advise
from fairpos.cli.commands import app
from fairpos.errors import InvalidOption, InvalidRequest


def quality(query, segment):
    """What is worth most says so; texts are never equal."""
    return float(segment.text.split()[0])


@pytest.fixture
def pairs(tmp_path):
    """90 pairs in which the better answer is one nat ahead, more or less."""
    draw = random.Random(1)
    path = tmp_path / "pairs.jsonl"
    with path.open("w") as file:
        for i in range(90):
            gold = draw.choice("AB")
            worth = {id: draw.gauss(1.0 if id == gold else 0.0, 0.7) for id in "AB"}
            answers = [{"id": id, "text": f"{worth[id]:.4f} of {i}"} for id in "AB"]
            file.write(json.dumps({"id": i, "instruction": f"q{i}", "answers": answers, "gold": gold}) + "\n")
    return path


@pytest.fixture
def passages(tmp_path):
    """40 questions whose passages have a retriever's scores, the right one the best."""
    draw = random.Random(2)
    path = tmp_path / "passages.jsonl"
    with path.open("w") as file:
        for i in range(40):
            gold = draw.randrange(4)
            texts = [f"{1.0 if j == gold else draw.random() * 0.2:.4f} of {i} {j}" for j in range(4)]
            shown = [{"id": str(j), "text": text, "score": float(j == gold)} for j, text in enumerate(texts)]
            record = {"id": i, "query": f"q{i}", "passages": shown, "gold": str(gold), "answers": [texts[gold]]}
            file.write(json.dumps(record) + "\n")
    return path


@pytest.fixture
def advised(monkeypatch):
    def run(backend, data, *more):
        monkeypatch.setattr(advise, "open_model", lambda name, **_: FairModel(backend))
        result = CliRunner().invoke(app, ["advise", "--data", str(data), *map(str, more)])
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        assert result.exit_code == 0
        return result

    return run


def recipe(result):
    return json.loads(result.stdout)


def test_position_bias_only(advised, pairs):
    found = recipe(advised(FakeBackend(quality=quality, slot_bias=[1.2]), pairs, "--json"))
    assert found["method"] == "swap:verdict=mean"
    assert found["bias"].startswith("There is a bias of position (")
    assert "turns the order alone" in found["reason"] or "cheapest" in found["reason"]


def test_label_bias_only(advised, pairs):
    found = recipe(advised(FakeBackend(quality=quality, label_bias={"A": 1.2}), pairs, "--json"))
    assert found["method"] == "cross_labels"
    assert found["bias"].startswith("There is a bias of label (")


def test_no_bias(advised, pairs):
    found = recipe(advised(FakeBackend(quality=quality), pairs, "--json"))
    assert (found["method"], found["verdict"]) == ("none", "leave the order alone")


@pytest.mark.parametrize("slot_bias", [[], [1.2], [50.0]])
def test_a_judge_at_chance(advised, pairs, slot_bias):
    guessing = FakeBackend(quality=lambda query, segment: 0.0, noise=1.0, slot_bias=slot_bias)
    found = recipe(advised(guessing, pairs, "--json"))
    assert (found["method"], found["verdict"]) == ("none", "undecided")
    assert "can't be told from guessing" in found["reason"]


def test_a_method_that_hurts(advised, passages):
    """The model sees what stands last, and the retriever's best first is the worst that can be done."""
    last = FakeBackend(quality=quality, slot_bias=[-2.0, 0.0, 0.0, 2.0])
    found = recipe(advised(last, passages, "--json"))
    assert "descending" in found["hurting"]
    assert found["method"] not in found["hurting"]
    assert found["method"] == "ascending"
    text = advised(last, passages).stdout
    assert "These lower accuracy on your data: " in text.replace("\n", " ")


def test_where_all_that_is_tried_hurts_nothing_is_recommended(advised, passages):
    last = FakeBackend(quality=quality, slot_bias=[-2.0, 0.0, 0.0, 2.0])
    found = recipe(advised(last, passages, "--json", "--methods", "descending"))
    assert (found["method"], found["hurting"]) == ("none", ["descending"])


def test_it_ends_with_lines_that_work(advised, pairs):
    result = advised(
        FakeBackend(quality=quality, slot_bias=[1.2], name="openai:http://h/v1#gpt"), pairs, "--price", "1,2"
    )
    text = result.stdout
    code = 'fair.judge(instruction, answers, methods="swap:verdict=mean")'
    assert code in text
    assert 'FAIRPOS_JUDGE_METHODS="swap:verdict=mean"' in text
    assert '"model": "gpt"' in text
    compile(text[text.index("import requests") :], "snippet", "exec")
    assert "money" in text
    fair = FairModel(FakeBackend())
    assert eval(code, {"fair": fair, "instruction": "q", "answers": ["a", "b"]}).status == "ok"
    assert "not tried: pine: method 'pine' needs a backend that can" in result.stderr.replace("\n", " ")


def test_the_lines_of_the_other_tasks(advised, passages):
    text = advised(FakeBackend(quality=quality, slot_bias=[-2.0, 0.0, 0.0, 2.0]), passages).stdout
    assert 'fair.answer(question, passages, methods="ascending")' in text
    assert 'FAIRPOS_METHODS="ascending"' in text
    compile(text[text.index("from langchain_openai") :], "snippet", "exec")
    text = advised(FakeBackend(quality=quality), passages, "--task", "rank").stdout
    assert "Nothing is to be changed" in text
    assert 'fair.rank(query, passages, methods="none", ranker="first_token")' in text
    assert 'FAIRPOS_RERANK_METHODS="none"' in text


def test_prices():
    assert Price.parse("0.5,2").of(Cost(1, 1_000_000, 500_000, 0)) == 1.5
    for wrong in ("1", "a,b", "-1,2", "inf,1", ""):
        with pytest.raises(InvalidOption, match="a price is like"):
            Price.parse(wrong)


@pytest.mark.parametrize(
    ("record", "task"),
    [
        ({"id": 1, "instruction": "q", "answers": []}, "judge"),
        ({"id": 1, "instruction": "q", "response_a": "a", "response_b": "b"}, "judge"),
        ({"id": 1, "question": "q", "options": []}, "choice"),
        ({"id": 1, "pairs": []}, "kv"),
        ({"id": 1, "query": "q", "passages": [], "gold": "a"}, "rank"),
        ({"id": 1, "query": "q", "passages": [], "answers": ["a"]}, "qa"),
        ({"group": 1, "passages": [], "questions": [{"answers": ["a"]}]}, "qa"),
    ],
)
def test_the_task_is_seen_from_the_first_record(tmp_path, record, task):
    path = tmp_path / "x.jsonl"
    path.write_text(json.dumps(record))
    assert guess_task(path).name == task
    path.write_text('{"id": 1, "text": "a"}')
    with pytest.raises(InvalidRequest, match="its first record has id, text; name it with --task"):
        guess_task(path)
