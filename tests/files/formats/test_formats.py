"""Other tools' files, in their field names: read, judged, written."""

import csv
import io
import json
import zipfile

import pytest

from fairpos.backends.fake import FakeBackend, by_length
from fairpos.errors import InvalidRequest, UnknownName
from fairpos.files.formats.base import FORMATS, Source, content_text
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
        game = outs["best"]["games"][0]
        first = game["user_prompt"] if folder == old else game["prompt"][0]["content"]
        assert first.index("medium text") < first.index("the longest")
    assert outs["best"]["category"] == "hard_prompt"
    # As the second release writes a judgment: the whole reply of its client stands under "judgment".
    assert sorted(outs["best"]) == ["baseline", "category", "games", "judge", "model", "uid"]
    assert [sorted(game) for game in outs["best"]["games"]] == [["judgment", "prompt", "score"]] * 2
    assert list(game["judgment"]) == ["answer"]
    assert [message["role"] for message in game["prompt"]] == ["user"]
    biased = judged("arena_hard", new, baseline="base", backend=FakeBackend(slot_bias=[9.0]))[0][0][1]
    assert [game["score"] for game in biased["games"]] == ["A>B", "A>B"]
    with pytest.raises(InvalidRequest, match=r"no answers of the baseline 'o3-mini-2025-01-31'.*--baseline"):
        FORMATS.find("arena_hard").read(Source(new, None))
    with pytest.raises(InvalidRequest, match="category '' has no baseline"):
        FORMATS.find("arena_hard").read(Source(old, None))


def test_arena_hard_has_a_baseline_for_each_category(tmp_path):
    jsonl(
        tmp_path / "question.jsonl",
        {"uid": "h", "category": "hard_prompt", "prompt": "Prove it."},
        {"uid": "c", "category": "creative_writing", "prompt": "A poem, please."},
    )
    for model in ("o3-mini-2025-01-31", "gemini-2.0-flash-001", "mine"):
        answers = [{"uid": uid, "model": model, "messages": [{"content": {"answer": model + uid}}]} for uid in "hc"]
        jsonl(tmp_path / "model_answer" / f"{model}.jsonl", *answers)
    published, _ = judged("arena_hard", tmp_path)
    pairs = {(out["uid"], out["model"], out["baseline"]) for _, out in published}
    assert pairs == {
        ("h", "mine", "o3-mini-2025-01-31"),
        ("h", "gemini-2.0-flash-001", "o3-mini-2025-01-31"),
        ("c", "mine", "gemini-2.0-flash-001"),
        ("c", "o3-mini-2025-01-31", "gemini-2.0-flash-001"),
    }
    named, _ = judged("arena_hard", tmp_path, baseline="creative_writing=o3-mini-2025-01-31,mine")
    baselines = {out["uid"]: out["baseline"] for _, out in named}
    assert baselines == {"c": "o3-mini-2025-01-31", "h": "mine"}


def test_an_answer_that_is_empty_is_judged_as_such(tmp_path):
    nothing = {"role": "assistant", "content": {"answer": None}}
    jsonl(tmp_path / "arena" / "question.jsonl", {"uid": "q", "prompt": "Say."})
    for model, message in (("base", {"content": {"answer": "some"}}), ("mute", nothing)):
        jsonl(tmp_path / "arena" / "model_answer" / f"{model}.jsonl", {"uid": "q", "messages": [message]})
    mt_bench(tmp_path / "chat")
    jsonl(
        tmp_path / "chat" / "model_answer" / "beta.jsonl",
        *({"question_id": q, "choices": [{"turns": ["", None]}]} for q in (81, 82)),
    )
    (tmp_path / "alpaca.json").write_text(json.dumps([{"instruction": "i", "output_1": "x", "output_2": None}]))
    for name, path, baseline, count in (
        ("arena_hard", tmp_path / "arena", "base", 1),
        ("fastchat", tmp_path / "chat", None, 4),
        ("alpaca_eval", tmp_path / "alpaca.json", None, 1),
    ):
        items, bad = read_items(FORMATS.find(name).read(Source(path, baseline)), lambda n, r: [judge_item(n, r)])
        assert (len(items), bad) == (count, []), name
        assert all("(This answer is empty.)" in item.request.segments[1].text for item in items), name


def test_two_files_of_alpaca_outputs(tmp_path):
    mine, reference = tmp_path / "mine.json", tmp_path / "reference.json"
    mine.write_text(
        json.dumps(
            [
                {"instruction": "one", "output": "the longer", "generator": "m", "dataset": "d"},
                {"instruction": "two", "output": "x", "generator": "m"},
                {"instruction": "three", "output": "x", "generator": "m"},
            ]
        )
    )
    reference.write_text(
        json.dumps([{"instruction": i, "output": "medium", "generator": "gpt4"} for i in ("two", "one")])
    )
    pairs, bad = judged("alpaca_eval", mine, "swap", baseline=str(reference))
    outs = [out for _, out in pairs]
    assert [(out["instruction"], out["output_1"], out["output_2"]) for out in outs] == [
        ("one", "medium", "the longer"),
        ("two", "medium", "x"),
    ]
    assert [(out["generator_1"], out["generator_2"], out["preference"]) for out in outs] == [
        ("gpt4", "m", pytest.approx(2, abs=0.05)),
        ("gpt4", "m", pytest.approx(1, abs=0.05)),
    ]
    assert outs[0]["dataset"] == "d"
    assert [(each.line, each.reason) for each in bad] == [(3, "reference.json has no output for its instruction")]


def test_alpaca_outputs_meet_by_instruction_and_input_and_in_turn(tmp_path):
    def outputs(name, *texts):
        asked = (("add", "1 2"), ("add", "3 4"), ("say", ""), ("say", ""))
        path = tmp_path / f"{name}.json"
        records = [
            {"instruction": do, "input": to, "output": text, "generator": name}
            for (do, to), text in zip(asked, texts, strict=True)
        ]
        path.write_text(json.dumps(records if name == "m" else [records[1], records[0], *records[2:]]))
        return path

    mine, reference = outputs("m", "3", "7", "a", "b"), outputs("r", "three", "seven", "c", "d")
    pairs, bad = judged("alpaca_eval", mine, "none", baseline=str(reference))
    assert bad == []
    assert [(out["output_1"], out["output_2"]) for _, out in pairs] == [
        ("three", "3"),
        ("seven", "7"),
        ("c", "a"),
        ("d", "b"),
    ]


def test_a_pair_judgment_file_of_fastchat_is_judged_anew(tmp_path):
    one = (
        "[User Question]\nWhy?\n\n[The Start of Assistant A's Answer]\nBecause\u2028it is.\n"
        "[The End of Assistant A's Answer]\n\n[The Start of Assistant B's Answer]\n\n[The End of Assistant B's Answer]"
    )
    reference = (
        "<|The Start of Reference Answer|>\n\n### User:\nWhy?\n\n### Reference answer:\nOne.\n\n"
        "### User:\nAnd then?\n\n### Reference answer:\nTwo.\n\n<|The End of Reference Answer|>\n\n\n"
    )
    two = "".join(
        f"<|The Start of Assistant {slot}'s Conversation with User|>\n\n### User:\nWhy?\n\n### Assistant {slot}:\n"
        f"{said}\n\n### User:\nAnd then?\n\n### Assistant {slot}:\n{said} {said}\n\n"
        f"<|The End of Assistant {slot}'s Conversation with User|>\n\n\n"
        for slot, said in (("A", "No."), ("B", "Yes, yes."))
    )
    same = {
        "model_1": "alpha",
        "model_2": "beta",
        "g1_winner": "tie",
        "g2_winner": "tie",
        "judge": ["gpt-4", "pair-v2"],
    }
    path = tmp_path / "gpt-4_pair.jsonl"
    jsonl(
        path,
        {"question_id": 81, "turn": 1, "g1_user_prompt": one, **same},
        {"question_id": 81, "turn": 2, "g1_user_prompt": two, **same},
        {"question_id": 101, "turn": 2, "g1_user_prompt": reference + two, **same},
        {"question_id": 82, "turn": 1, "g1_user_prompt": "something else", **same},
    )
    pairs, bad = judged("fastchat", path)
    assert [each.line for each in bad] == [4]
    last = "And then?\n\n(The last question of the conversation shown.)"
    assert [record["instruction"] for record, _ in pairs] == ["Why?", last, last]
    assert [record.get("reference") for record, _ in pairs] == [None, None, "Two."]
    # As from a folder of answers: nothing in a conversation says which slot it was shown in.
    assert [answer["text"] for answer in pairs[1][0]["answers"]] == [
        f"User: Why?\n\nAssistant: {said}\n\nUser: And then?\n\nAssistant: {said} {said}"
        for said in ("No.", "Yes, yes.")
    ]
    assert [answer["text"] for answer in pairs[0][0]["answers"]] == ["Because\u2028it is.", ""]
    assert [(out["question_id"], out["turn"], out["winner"]) for _, out in pairs] == [
        (81, 1, "model_2"),  # "(This answer is empty.)" is longer
        (81, 2, "model_2"),
        (101, 2, "model_2"),
    ]


def test_judgebench(tmp_path):
    path = tmp_path / "pairs.jsonl"
    pair = {"source": "mmlu", "question": "Which?", "response_A": "longer", "response_B": "x", "label": "A>B"}
    jsonl(path, {"pair_id": "p1", **pair}, {"pair_id": "p2", **pair, "label": "B>A"}, {"pair_id": "p3", "label": "A>B"})
    pairs, bad = judged("judgebench", path)
    assert [each.line for each in bad] == [3]
    outs = [out for _, out in pairs]
    assert [sorted(j["judgment"]) for j in outs[0]["judgments"]] == [["judge_model", "prompt", "response"]] * 2
    assert "longer" in outs[0]["judgments"][1]["judgment"]["prompt"]
    # The second judgment is of the pair turned round.
    assert [[j["decision"] for j in out["judgments"]] for out in outs] == [["A>B", "B>A"]] * 2
    always_first = judged("judgebench", path, backend=FakeBackend(slot_bias=[99.0]))[0][0][1]
    assert [j["decision"] for j in always_first["judgments"]] == ["A>B", "A>B"]
    assert [record["gold"] for record, _ in pairs] == ["A", "B"]
    assert share_right_in_judgebench(outs) == 0.5
    assert share_right_in_judgebench([always_first]) == 0.0


def share_right_in_judgebench(pairs):
    """The tool's rule: a game for the label counts +1, one for the other answer -1; above 0 is right."""
    turned = {"A>B": "B>A", "B>A": "A>B", "A=B": "A=B"}

    def points(decision, label):
        return 1 if decision == label else -1 if decision == turned[label] else 0

    totals = []
    for pair in pairs:
        one, two = (game["decision"] if game else None for game in pair["judgments"])
        totals.append(points(one, pair["label"]) + points(turned.get(two), pair["label"]))
    return sum(total > 0 for total in totals) / len(totals)


def test_both_releases_of_reward_bench(tmp_path):
    path = tmp_path / "data.jsonl"
    first = [
        {"id": i, "subset": "chat", "prompt": "q", "chosen": "c" * 9, "rejected": "r", "chosen_model": "m"}
        for i in range(40)
    ]
    second = {"id": "0", "subset": "Factuality", "prompt": "q", "chosen": ["right answer"], "rejected": ["a", "b", "c"]}
    ties = {"id": "1", "subset": "Ties", "prompt": "q", "chosen": ["red one", "blue one"], "rejected": ["dog"]}
    jsonl(path, *first, second, ties, {"id": "2", "prompt": "q", "chosen": "x"})
    pairs, bad = judged("reward_bench", path)
    assert [(each.line, each.reason) for each in bad] == [(43, "no field 'rejected'")]
    assert [out["results"] for _, out in pairs] == [1.0] * 42
    assert len(pairs[40][0]["answers"]) == 4
    # The tool's figure for Ties takes the scores, the chosen answers' first.
    scores = pairs[41][1]["scores"]
    assert len(scores) == 3
    assert min(scores[:2]) > scores[2]
    # A tie counts what a draw of lots among the answers would.
    drawn = [out for _, out in judged("reward_bench", path, backend=FakeBackend(slot_bias=[99.0]))[0]]
    assert (drawn[0]["results"], drawn[40]["results"]) == (0.5, 0.25)
    # The chosen answer isn't always shown first: a judge that goes by the slot is right half of the time.
    slots = judged("reward_bench", path, "none", backend=FakeBackend(slot_bias=[99.0]))[0]
    assert 10 <= sum(out["results"] for _, out in slots[:40]) <= 30


def test_a_table_in_and_out(tmp_path):
    path, out = tmp_path / "pairs.csv", tmp_path / "out.csv"
    path.write_text('id,prompt,response_a,response_b\n1,"Why,\u2028so?","long, ""quoted"" text",short\n2,q,,y\n3,q\n')
    form = FORMATS.find("csv")
    source = Source(path, fields={"instruction": "prompt"})
    items, bad = read_items(form.read(source), lambda line, record: [judge_item(line, record)])
    assert [(each.line, each.reason) for each in bad] == [(4, "has 2 cells, the header has 4")]
    assert items[0].request.query == "Why,\u2028so?"
    assert items[0].request.segments[0].text == 'long, "quoted" text'
    assert items[1].request.segments[0].text == "(This answer is empty.)"
    judge = Judge(FakeBackend(quality=by_length), parse("swap"), "swap")
    form.save(out, [form.write(item, verdict, {}) for item, verdict in judge.verdicts_on(items, batch=8)], source)
    rows = list(csv.DictReader(io.StringIO(out.read_text())))
    assert [(row["id"], row["winner"], row["status"]) for row in rows] == [("1", "A", "ok"), ("2", "A", "ok")]


def test_content_parts_of_which_only_text_can_be_judged():
    assert content_text([{"type": "reasoning", "reasoning": "hm"}, {"type": "text", "text": "a"}], "input") == "a"
    assert content_text(None, "input") == ""
    with pytest.raises(InvalidRequest, match="input has a part of type 'image'"):
        content_text([{"type": "image", "image": "data:..."}], "input")


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
    assert bad == []
    outs = [out for _, out in pairs]
    assert outs[0]["generator_1"] == "m"
    assert outs[0]["preference"] == pytest.approx(1 + 1 / (1 + 2.718281828**8))
    assert 1.99 < outs[2]["preference"] <= 2
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
        {"input": "q", "choices": ["a", "aa", "aaa"]},
    )
    pairs, bad = judged("inspect_ai", path)
    assert [each.line for each in bad] == [3]
    outs = [out for _, out in pairs]
    # Without a target a choice is no mark: a bare "C" would be read as "correct".
    assert [out["scores"]["fairpos"]["value"] for out in outs] == ["C", "I", "choice B", "choice C"]
    assert outs[0]["scores"]["fairpos"]["answer"] == "B"
    assert outs[0]["metadata"] == {"k": 1}
    assert outs[1]["input"] == chat
    assert pairs[1][0]["instruction"] == "Which?"


def test_an_unknown_format():
    with pytest.raises(UnknownName, match="Did you mean 'fastchat'"):
        FORMATS.find("fastchta")


@pytest.mark.parametrize("samples", [3, [1], [{"id": 1}, None]])
def test_a_log_of_inspect_ai_whose_samples_are_none_is_refused(tmp_path, samples):
    path = tmp_path / "log.json"
    path.write_text(json.dumps({"eval": {}, "samples": samples}))
    with pytest.raises(InvalidRequest, match=r"the samples of .*log.json must be a list of objects"):
        FORMATS.find("inspect_ai").read(Source(path, None))
    packed = tmp_path / "log.eval"
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("samples/1_epoch_1.json", "3")
    with pytest.raises(InvalidRequest, match=r"the samples of .*log.eval must be a list of objects"):
        FORMATS.find("inspect_ai").read(Source(packed, None))
