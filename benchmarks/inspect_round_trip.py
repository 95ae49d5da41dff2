"""Logs that inspect_ai writes, judged by fairpos and read back by inspect_ai: python -m benchmarks.inspect_round_trip

The newest inspect_ai goes into a temporary environment (pip). There it evaluates a small multiple-choice task with
shuffled choices, two epochs, content parts, an attachment and U+2028, into an `.eval` and a `.json` log; here the
choices are judged by a made-up judge that prefers the longest; there its own reader reads what came out.

    --fixture   keep the `.eval` log as the fixture of the tests
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

FIXTURE = Path(__file__).parents[1] / "tests" / "data" / "inspect_ai" / "shuffled.eval"
LONG = "Which of these is the longest word?\u2028" + "Read them all before you say so. " * 20


def write_logs(folder: Path) -> None:
    """In the temporary environment: evaluates the task into a log of each kind."""
    from inspect_ai import Task
    from inspect_ai import eval as evaluate
    from inspect_ai.dataset import MemoryDataset, Sample
    from inspect_ai.model import ChatMessageSystem, ChatMessageUser, ContentText, ModelOutput, ModelUsage, get_model
    from inspect_ai.scorer import choice
    from inspect_ai.solver import multiple_choice

    def outputs():
        while True:
            output = ModelOutput.from_content("mockllm/model", "ANSWER: A")
            output.usage = ModelUsage(input_tokens=3, output_tokens=2, total_tokens=5)  # or it wants a tokenizer
            yield output

    parts = [ContentText(text="Which word is"), ContentText(text="the longest?")]
    data = MemoryDataset(
        [
            Sample(id="long", input=LONG, choices=["ox", "elephant", "cat"], target="B", metadata={"level": 1}),
            Sample(
                id=2,
                input=[ChatMessageSystem(content="Be good."), ChatMessageUser(content=parts)],
                choices=["apple", "fig"],
                target="A",
            ),
            Sample(id="wrong", input="Which is the shortest?", choices=["a", "bbb", "cc"], target="A"),
            Sample(id="two", input="Which are even?", choices=["2", "33", "4"], target=["A", "C"]),
        ],
        name="words",
    )
    data.shuffle_choices(seed=3)
    for kind in ("eval", "json"):
        task = Task(dataset=data, solver=multiple_choice(shuffle=True), scorer=choice(), epochs=2)
        model = get_model("mockllm/model", custom_outputs=outputs())
        [log] = evaluate(task, model=model, log_dir=str(folder / kind), log_format=kind, display="none")
        assert log.status == "success", log.error


def read_log(path: Path) -> None:
    """In the temporary environment: what inspect_ai's reader finds, as JSON on the standard output."""
    from inspect_ai.log import read_eval_log, read_eval_log_sample_summaries

    log = read_eval_log(str(path))
    found = [
        {
            "id": sample.id,
            "epoch": sample.epoch,
            "scores": sorted(sample.scores),
            "value": sample.scores["fairpos"].value,
            "answer": sample.scores["fairpos"].answer,
            "longest": "ABC"[max(range(len(sample.choices)), key=lambda i: len(sample.choices[i]))],
            "target": sample.target,
        }
        for sample in log.samples
    ]
    summaries = [sorted(s.scores) for s in read_eval_log_sample_summaries(str(path))] if path.suffix == ".eval" else []
    results = {score.name: {k: m.value for k, m in score.metrics.items()} for score in log.results.scores}
    print(json.dumps({"samples": found, "summaries": summaries, "results": results}))


def judge_log(log: Path, out: Path) -> None:
    """Judges a log's choices by their length."""
    from fairpos.backends.fake import FakeBackend, by_length
    from fairpos.files.formats.base import FORMATS, Source
    from fairpos.files.items import judge_item, read_items
    from fairpos.judging.judge import Judge
    from fairpos.methods.catalogue import parse

    form, source = FORMATS["inspect_ai"], Source(log)
    items, bad = read_items(form.read(source), lambda line, record: [judge_item(line, record)])
    assert bad == [], bad
    judge = Judge(FakeBackend(quality=by_length), parse("swap"), "swap")
    form.save(out, [form.write(item, verdict, {}) for item, verdict in judge.verdicts_on(items, batch=8)], source)


def check(found: dict) -> None:
    """Every epoch of every sample has the score, beside the log's own; it says who is longest."""
    assert len(found["samples"]) == 8
    for sample in found["samples"]:
        assert sample["scores"] == ["choice", "fairpos"], sample
        assert sample["answer"] == sample["longest"], sample
        if isinstance(sample["target"], str):
            assert sample["value"] == ("C" if sample["longest"] == sample["target"] else "I"), sample
    assert all(scores == ["choice", "fairpos"] for scores in found["summaries"])
    assert found["results"]["fairpos"] == {"accuracy": 2 / 3}, found["results"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fixture", action="store_true")
    parser.add_argument("--write", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--read", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--python", type=Path, help="of an environment that has inspect_ai already")
    options = parser.parse_args()
    if options.write or options.read:
        write_logs(options.write) if options.write else read_log(options.read)
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        python = options.python or folder / "env" / "bin" / "python"
        if options.python is None:
            subprocess.run([sys.executable, "-m", "venv", folder / "env"], check=True)
            subprocess.run([python, "-m", "pip", "install", "--quiet", "inspect_ai"], check=True)
        subprocess.run([python, __file__, "--write", folder], check=True, stdout=subprocess.DEVNULL)
        [archive], [log] = (folder / "eval").glob("*.eval"), (folder / "json").glob("*.json")
        for made in (archive, log):
            for out in (folder / "judged.eval", folder / "judged.json"):
                judge_log(made, out)
                read = subprocess.run([python, __file__, "--read", out], check=True, capture_output=True, text=True)
                check(json.loads(read.stdout))
                print(f"{made.suffix} in, {out.suffix} out: 8 samples read back, every score as it was given")
        if options.fixture:
            FIXTURE.parent.mkdir(parents=True, exist_ok=True)
            FIXTURE.write_bytes(archive.read_bytes())
        subprocess.run([python, "-m", "pip", "show", "inspect_ai"], check=True)


if __name__ == "__main__":
    main()
