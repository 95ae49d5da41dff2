"""Files of the tools, whole: in, judged by an endpoint with a known bias, out, and counted as the tool counts them.

The judge prefers the longer answer, by its length; the answer shown first gains BIAS characters. With `swap` a pair
whose lengths differ by less is a tie, and no other.
"""

import gzip
import json
import math
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from fairpos.cli import judge as judge_command
from fairpos.cli.app import app
from fairpos.errors import FairposError
from fairpos.files.eval_log import read_eval_log
from tests.fake_endpoint import FakeEndpoint, Text

BIAS = 10
FIXTURE = Path(__file__).parents[2] / "data" / "inspect_ai" / "shuffled.eval"
INSIDE = "\u2028\u2029\u0085\x0b\x0c"
SHOWN = re.compile(r"\[Answer (\w)\]\n(.*?)\n\[End of answer \1\]", re.DOTALL)


def biased(body, _):
    """The letter of the longest answer shown, the first one BIAS longer than it is; in words and as a distribution."""
    shown = SHOWN.findall(body["messages"][-1]["content"])
    if not shown:
        return Text("A", logprobs=[("A", -0.1, {"A": -0.1, "B": -2.5})])
    lengths = {letter: len(text) + BIAS * (place == 0) for place, (letter, text) in enumerate(shown)}
    total = math.log(sum(math.exp((n - max(lengths.values())) / 5) for n in lengths.values()))
    logs = {letter: (n - max(lengths.values())) / 5 - total for letter, n in lengths.items()}
    best = max(logs, key=logs.get)
    return Text(f"[[{best}]]" if not body.get("logprobs") else best, logprobs=[(best, logs[best], logs)])


def run(*arguments):
    assert judge_command.judge  # the command is registered
    with FakeEndpoint(biased) as endpoint:
        model = ("--model", f"openai:{endpoint.url}#judge")
        result = CliRunner().invoke(app, [str(each) for each in ("judge", *arguments, *model)])
    if result.exception is not None and not isinstance(result.exception, SystemExit | FairposError):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result


def write_lines(path, *records):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes("".join(json.dumps(r, ensure_ascii=False) + "\n" for r in records).encode())


def read_lines(path):
    return [json.loads(line) for line in path.read_bytes().split(b"\n") if line]


LENGTHS = {"long": 100, "near": 95, "short": 40, "mute": 0}


@pytest.mark.parametrize("verdicts", ["text", "distribution"])
def test_arena_hard_v2_whole(tmp_path, verdicts):
    folder, out = tmp_path / "arena-hard-v2.0", tmp_path / "judgments.jsonl"
    write_lines(
        folder / "question.jsonl",
        *(
            {"uid": f"u:{i}", "category": ("coding", "creative_writing")[i % 2], "prompt": f"Do {i}.{INSIDE}Now."}
            for i in range(6)
        ),
    )
    for model, length in LENGTHS.items():
        # "(This answer is empty.)" is what the judge reads of an answer that isn't there.
        answer = {"answer": "a" * (length - 6) + INSIDE + "!" if length else None}
        messages = [{"role": "user", "content": "..."}, {"role": "assistant", "content": answer}]
        write_lines(
            folder / "model_answer" / f"{model}.jsonl",
            *({"uid": f"u:{i}", "model": model, "messages": messages} for i in range(6)),
        )
    options = ("--from", "arena_hard", "--baseline", "creative_writing=short,near", "--verdicts", verdicts)
    run(folder, "-o", tmp_path / "v.jsonl", "--export", out, *options)
    judgments = read_lines(out)
    assert len(judgments) == 6 * 3
    # The tool's rule: the model's points in both games, a tie half; A is the baseline in the first one.
    points = {"A>B": 1.0, "A=B": 0.5, "B>A": 0.0}
    found = {
        (j["model"], j["category"]): [points[j["games"][1]["score"]], 1 - points[j["games"][0]["score"]]]
        for j in judgments
    }
    assert found == {
        ("long", "coding"): [1.0, 0.0],  # 5 longer than "near": the first one shown wins
        ("short", "coding"): [0.0, 0.0],
        ("mute", "coding"): [0.0, 0.0],
        ("long", "creative_writing"): [1.0, 1.0],
        ("near", "creative_writing"): [1.0, 1.0],
        ("mute", "creative_writing"): [0.0, 0.0],
    }
    groups = {line["id"]: line["group"] for line in read_lines(tmp_path / "v.jsonl")}
    assert set(groups.values()) == {f"u:{i}" for i in range(6)}


def test_fastchat_pairs_whole(tmp_path):
    folder, out = tmp_path / "mt_bench", tmp_path / "gpt-4_pair.jsonl.gz"
    write_lines(folder / "question.jsonl", *({"question_id": 81 + i, "turns": [f"One{INSIDE}?"]} for i in range(4)))
    for model, length in LENGTHS.items():
        answers = ({"question_id": 81 + i, "choices": [{"index": 0, "turns": ["x" * length]}]} for i in range(4))
        write_lines(folder / "model_answer" / f"{model}.jsonl", *answers)
    run(folder, "-o", tmp_path / "v.jsonl.gz", "--export", out, "--from", "fastchat", "--verdicts", "text")
    rows = [json.loads(line) for line in gzip.decompress(out.read_bytes()).decode().split("\n") if line]
    assert len(rows) == 4 * 6
    # The tool's rule: a win is a win in both games, all else is a tie, which counts half.
    wins, played = dict.fromkeys(LENGTHS, 0.0), dict.fromkeys(LENGTHS, 0)
    for row in rows:
        tie = row["g1_winner"] == "tie" or row["g1_winner"] != row["g2_winner"]
        for name in ("model_1", "model_2"):
            wins[row[name]] += 0.5 if tie else float(row["g1_winner"] == name)
            played[row[name]] += 1
    assert {model: wins[model] / played[model] for model in LENGTHS} == {
        "long": 2.5 / 3,
        "near": 2.5 / 3,
        "short": 1 / 3,
        "mute": 0.0,
    }


def test_alpaca_eval_whole(tmp_path):
    mine, reference, out = (tmp_path / f"{name}.json" for name in ("mine", "reference", "annotations"))
    for path, lengths in ((mine, (60, 40, 45, 0)), (reference, (30, 70, 44, 50))):
        outputs = [
            {"instruction": f"Do {i}.{INSIDE}", "output": "y" * n, "generator": path.stem, "dataset": "d"}
            for i, n in enumerate(lengths)
        ]
        path.write_text(json.dumps(outputs, ensure_ascii=False), encoding="utf-8")
    options = ("--from", "alpaca_eval", "--baseline", reference, "--verdicts", "text")
    run(mine, "-o", tmp_path / "v.jsonl", "--export", out, *options)
    annotations = json.loads(out.read_text())
    # The tool's rule: 1 the reference, 2 the model, 1.5 a draw; the win rate is the mean of what is above 1.
    assert [row["preference"] for row in annotations] == [2.0, 1.0, 1.5, 1.0]
    assert sum(row["preference"] - 1 for row in annotations) / 4 * 100 == 37.5
    again = tmp_path / "again.json"
    run(out, "-o", tmp_path / "w.jsonl", "--export", again, "--from", "alpaca_eval", "--verdicts", "text")
    assert [row["preference"] for row in json.loads(again.read_text())] == [2.0, 1.0, 1.5, 1.0]


@pytest.mark.parametrize("kind", [".eval", ".json"])
def test_a_log_of_inspect_ai_whole(tmp_path, kind):
    # Written by inspect_ai itself (`python -m benchmarks.inspect_round_trip`, where its own reader reads the result):
    # choices shuffled, two epochs, content parts, a text that stands apart as an attachment.
    out = tmp_path / f"judged{kind}"
    options = ("--from", "inspect_ai", "--verdicts", "text")
    run(FIXTURE, "-o", tmp_path / "v.jsonl", "--export", out, *options)
    before, after = read_eval_log(FIXTURE), read_eval_log(out)
    assert len(read_lines(tmp_path / "v.jsonl")) == 4
    assert [(s["id"], s["epoch"]) for s in after.samples] == [(s["id"], s["epoch"]) for s in before.samples]
    for sample in after.samples:
        assert sorted(sample["scores"]) == ["choice", "fairpos"]
        assert sample["scores"]["fairpos"]["answer"] is None  # no word is 10 letters longer than another: all are ties
    assert {s["id"]: s["scores"]["fairpos"]["value"] for s in after.samples} == {
        **dict.fromkeys(("long", 2, "wrong"), "I"),
        "two": "tie",
    }
    assert after.header["results"]["scores"][-1]["metrics"]["accuracy"]["value"] == 0.0
    assert {name: value for name, value in after.header.items() if name != "results"} == {
        name: value for name, value in before.header.items() if name != "results"
    }


def test_the_first_lines_of_a_prompt_are_whole(tmp_path):
    pairs = tmp_path / "pairs.jsonl"
    write_lines(pairs, {"id": "1", "prompt": f"a{INSIDE}b", "x": {"y": ["z" * 30, "z"]}})
    fields = ("--field", "instruction=prompt", "--field", "response_a=x.y.0", "--field", "response_b=x.y.1")
    run(pairs, "-o", tmp_path / "v.csv.jsonl", *fields, "--export", tmp_path / "v.csv", "--to", "csv")
    assert "1,A,ok" in (tmp_path / "v.csv").read_text()
