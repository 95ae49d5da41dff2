"""`fairpos audit` on the methods that reorder, with a model whose preference for slots is known."""

import json
import random

import pytest
from typer.testing import CliRunner

from fairpos import FairModel
from fairpos.backends.fake import FakeBackend
from fairpos.calibration.attention import attention_profile
from fairpos.cli import audit
from fairpos.cli.commands import app
from fairpos.files.items import Item
from fairpos.types import Request, Segment

# The model finds the answer only in the second slot of four.
BIAS = [0.0, 3.0, 0.0, 0.0]
ORDERINGS = "none,ascending,descending,edges,query_twice,attn_rank"


@pytest.fixture
def backend(monkeypatch, tmp_path):
    backend = FakeBackend(
        slot_bias=BIAS,
        # Only the passage that is right is worth anything, however it was scored by the retriever.
        quality=lambda query, segment: 2.0 if "right" in segment.text else 0.0,
        capabilities=frozenset({"generate", "score", "attention"}),
    )
    monkeypatch.setattr(audit, "open_model", lambda *_, **__: FairModel(backend))
    monkeypatch.setenv("FAIRPOS_PROFILES", str(tmp_path / "profiles"))
    return backend


@pytest.fixture
def data(tmp_path):
    draw = random.Random(0)
    records = []
    for number in range(24):
        gold = draw.randrange(4)
        passages = [
            {"id": str(i), "text": f"{'right' if i == gold else 'wrong'} {number} {i}", "score": float(i == gold)}
            for i in range(4)
        ]
        records.append({"id": number, "query": "q", "passages": passages, "gold": str(gold), "answers": ["right"]})
    path = tmp_path / "data.jsonl"
    path.write_text("\n".join(map(json.dumps, records)))
    return path


def test_the_ordering_that_fits_the_model_is_recommended(backend, data, tmp_path):
    segments = [
        tuple(Segment(id=str(i), text=f"{'right' if i == gold else 'wrong'} {gold} {i}") for i in range(4))
        for gold in range(4)
    ]
    samples = [Item(str(g), Request("answer", "q", each), str(g), (each[g].text,)) for g, each in enumerate(segments)]
    attention_profile(backend, samples).save()
    command = ["audit", "--task", "qa", "--data", data, "--methods", ORDERINGS, "-o", tmp_path / "out", "--json"]
    result = CliRunner().invoke(app, [str(word) for word in command])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    text = json.dumps(report)
    for name in ORDERINGS.split(","):
        assert f'"{name}"' in text
    assert report["advice"]["method"] == "attn_rank"


def test_without_a_profile_the_audit_names_the_command(backend, data, tmp_path):
    command = ["audit", "--task", "qa", "--data", data, "--methods", ORDERINGS, "-o", tmp_path / "out"]
    result = CliRunner().invoke(app, [str(word) for word in command])
    assert "fairpos calibrate attn_rank --model fake --data FILE -k 4" in str(result.exception)
