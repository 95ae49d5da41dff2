"""Other tools' files, in their field names: read, judged, written."""

import json

import pytest

from fairpos.backends.fake import FakeBackend, by_length
from fairpos.errors import InvalidRequest, UnknownName
from fairpos.files.formats.base import FORMATS, Source
from fairpos.files.items import judge_item, read_items
from fairpos.judging.judge import Judge
from fairpos.judging.verdict import prompts_of
from fairpos.methods.catalogue import parse


def judged(name, path, methods="swap", baseline=None, backend=None):
    """(our record, exported record) of every record."""
    form = FORMATS.find(name)
    items, bad = read_items(form.read(Source(path, baseline)), lambda line, record: [judge_item(line, record)])
    judge = Judge(backend or FakeBackend(quality=by_length), parse(methods), methods)
    pairs = [
        (item.record, form.write(item, verdict, prompts_of(item, verdict, None)))
        for item, verdict in judge.verdicts_on(items, batch=8)
    ]
    return pairs, bad


def jsonl(path, *records):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join((r if isinstance(r, str) else json.dumps(r)) + "\n" for r in records))


def mt_bench(folder):
    jsonl(
        folder / "question.jsonl",
        {"question_id": 81, "category": "math", "turns": ["One?", "Two?"]},
        {"question_id": 82, "category": "math", "turns": ["Three?", "Four?"]},
    )
    for model, text in (("alpha", "short"), ("beta", "a longer one")):
        jsonl(
            folder / "model_answer" / f"{model}.jsonl",
            {"question_id": 81, "model_id": model, "choices": [{"index": 0, "turns": [text, text]}]},
            {"question_id": 82, "model_id": model, "choices": [{"index": 0, "turns": [text, text]}]},
        )
    jsonl(
        folder / "reference_answer" / "gpt-4.jsonl",
        {"question_id": 81, "choices": [{"turns": ["the reference", "r2"]}]},
    )


def test_fastchat(tmp_path):
    mt_bench(tmp_path)
    pairs, bad = judged("fastchat", tmp_path)
    assert bad == []
    assert [record["id"] for record, _ in pairs] == [f"{q}:alpha:beta:{t}" for q in (81, 82) for t in (1, 2)]
    record, out = pairs[0]
    assert record["reference"] == "the reference"
    assert {k: out[k] for k in ("question_id", "model_1", "model_2", "g1_winner", "g2_winner", "turn")} == {
        "question_id": 81,
        "model_1": "alpha",
        "model_2": "beta",
        "g1_winner": "model_2",
        "g2_winner": "model_2",
        "turn": 1,
    }
    assert out["winner"] == "model_2"
    assert out["judge"] == ["fake", "fairpos-swap"]
    assert out["g1_user_prompt"].index("short") < out["g1_user_prompt"].index("a longer one")
    assert isinstance(out["tstamp"], float)
    second = pairs[1][0]
    assert second["answers"][0]["text"] == "User: One?\n\nAssistant: short\n\nUser: Two?\n\nAssistant: short"


def test_fastchat_games_show_the_disagreement_that_makes_a_tie(tmp_path):
    mt_bench(tmp_path)
    always_first = FakeBackend(slot_bias=[99.0])
    out = judged("fastchat", tmp_path, backend=always_first)[0][0][1]
    assert (out["g1_winner"], out["g2_winner"], out["winner"]) == ("model_1", "model_2", "tie")
    # A mean over orders isn't made of the two games, so both carry the verdict.
    biased = FakeBackend(quality=by_length, slot_bias=[9.0])
    out = judged("fastchat", tmp_path, "swap:verdict=mean", backend=biased)[0][0][1]
    assert (out["g1_winner"], out["g2_winner"], out["winner"]) == ("model_2", "model_2", "model_2")


def test_fastchat_problems_are_named(tmp_path):
    mt_bench(tmp_path)
    with (tmp_path / "model_answer" / "beta.jsonl").open("a") as file:
        file.write('{"question_id": 83, "choices": []}\nnot json\n')
    with (tmp_path / "question.jsonl").open("a") as file:
        file.write('{"question_id": 84, "turns": ["no one answered"]}\n')
    pairs, bad = judged("fastchat", tmp_path)
    assert len(pairs) == 4
    assert [(each.line, each.reason.split(":")[0]) for each in bad] == [
        (3, "in beta.jsonl"),
        (3, "question 84 has no answer of alpha, beta"),
        (4, "in beta.jsonl"),
    ]
    with pytest.raises(InvalidRequest, match="there are: alpha, beta"):
        FORMATS.find("fastchat").read(Source(tmp_path, "gamma"))
    with pytest.raises(InvalidRequest, match="a folder with"):
        FORMATS.find("fastchat").read(Source(tmp_path / "question.jsonl", None))


def test_arena_hard_of_both_releases(tmp_path):
    old, new = tmp_path / "old", tmp_path / "new"
    jsonl(old / "question.jsonl", {"question_id": "q1", "turns": [{"content": "Say."}]})
    jsonl(new / "question.jsonl", {"uid": "q1", "category": "hard_prompt", "prompt": "Say."})
    for model, text in (("base", "medium text"), ("best", "the longest text of all"), ("worst", "tiny")):
        jsonl(
            old / "model_answer" / f"{model}.jsonl",
            {"question_id": "q1", "model_id": model, "choices": [{"index": 0, "turns": [{"content": text}]}]},
        )
        answer = {"role": "assistant", "content": {"answer": text}}
        jsonl(
            new / "model_answer" / f"{model}.jsonl",
            {"uid": "q1", "model": model, "messages": [{"role": "user", "content": "Say."}, answer]},
        )
    for folder, key in ((old, "question_id"), (new, "uid")):
        pairs, bad = judged("arena_hard", folder, baseline="base")
        assert bad == []
        outs = {out["model"]: out for _, out in pairs}
        assert set(outs) == {"best", "worst"}
        # Game 1 shows the baseline first, game 2 the model.
        assert [game["score"] for game in outs["best"]["games"]] == ["B>A", "A>B"]
        assert [game["score"] for game in outs["worst"]["games"]] == ["A>B", "B>A"]
        assert outs["best"][key] == "q1"
        first = outs["best"]["games"][0]["user_prompt"]
        assert first.index("medium text") < first.index("the longest")
    assert outs["best"]["category"] == "hard_prompt"
    biased = judged("arena_hard", new, baseline="base", backend=FakeBackend(slot_bias=[9.0]))[0][0][1]
    assert [game["score"] for game in biased["games"]] == ["A>B", "A>B"]
    with pytest.raises(InvalidRequest, match="--baseline"):
        FORMATS.find("arena_hard").read(Source(new, None))


@pytest.mark.parametrize("as_array", [True, False])
def test_alpaca_eval(tmp_path, as_array):
    records = [
        {"instruction": "i", "output_1": "long text", "output_2": "x", "generator_1": "m", "generator_2": "n"},
        {"instruction": "i", "output_1": "x", "output_2": "", "dataset": "d"},
        {"instruction": "i", "output_1": "y", "output_2": "longest text", "dataset": "d", "preference": 1},
    ]
    path = tmp_path / "pairs.json"
    path.write_text(json.dumps(records) if as_array else "\n".join(map(json.dumps, records)))
    pairs, bad = judged("alpaca_eval", path, "none")
    assert [each.line for each in bad] == [2]
    outs = [out for _, out in pairs]
    assert outs[0]["generator_1"] == "m"
    assert outs[0]["preference"] == pytest.approx(1 + 1 / (1 + 2.718281828**8))
    assert 1.99 < outs[1]["preference"] <= 2
    assert outs[1]["dataset"] == "d"
    assert outs[1]["annotator"] == "fake fairpos-none"
    tie = judged("alpaca_eval", path, "swap", backend=FakeBackend(slot_bias=[9.0]))[0][0][1]
    assert tie["preference"] == 1.5
    assert pairs[0][0]["answers"][0]["model"] == "m"


def test_inspect_ai(tmp_path):
    path = tmp_path / "samples.jsonl"
    chat = [{"role": "system", "content": "s"}, {"role": "user", "content": "Which?"}]
    jsonl(
        path,
        {"id": 1, "input": "Which is longer?", "choices": ["aa", "aaaa", "a"], "target": "B", "metadata": {"k": 1}},
        {"input": chat, "choices": ["aa", "a"], "target": ["B"]},
        {"input": "q", "choices": ["only"], "target": "A"},
        {"input": "q", "choices": ["a", "aa"], "target": "free text"},
    )
    pairs, bad = judged("inspect_ai", path)
    assert [each.line for each in bad] == [3]
    outs = [out for _, out in pairs]
    assert [out["scores"]["fairpos"]["value"] for out in outs] == ["C", "I", "B"]
    assert outs[0]["scores"]["fairpos"]["answer"] == "B"
    assert outs[0]["metadata"] == {"k": 1}
    assert outs[1]["input"] == chat
    assert pairs[1][0]["instruction"] == "Which?"


def test_an_unknown_format():
    with pytest.raises(UnknownName, match="Did you mean 'fastchat'"):
        FORMATS.find("fastchta")
