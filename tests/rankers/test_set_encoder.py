"""Set-Encoder: the published code's scores, those of brute force, the same bits for every order, cuts that are said."""

import itertools
import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from fairpos import FairModel, Segment
from fairpos.backends.fake import FakeBackend
from fairpos.errors import InvalidOption, MissingDependency, ModelUnavailable
from fairpos.models.set_encoder import SetEncoder, load_set_encoder
from fairpos.passages import as_segments
from fairpos.rankers.base import find_ranker
from fairpos.relevance.base import find_relevance
from fairpos.types import Request, Usage
from tests.reference import set_encoder as reference
from tests.set_encoder_checkpoint import PASSAGES, QUERY, write_checkpoint

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "set_encoder.json").read_text())


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_checkpoint(tmp_path_factory.mktemp("set-encoder"))


def ranked(folder, passages, query=QUERY):
    return FairModel(FakeBackend()).rank(query, passages, ranker=f"set_encoder:model={folder}")


@pytest.mark.parametrize("case", GOLDEN)
def test_the_published_code_gives_these_scores(case, tmp_path):
    kind, place, count = case.split()
    encoder = load_set_encoder(str(write_checkpoint(tmp_path, kind, extra=place == "INT")))
    found = encoder.read(QUERY, PASSAGES[: int(count)])
    assert found.scores == pytest.approx(GOLDEN[case], abs=1e-5)


@pytest.mark.parametrize("kind", ["bert", "electra"])
@pytest.mark.parametrize("extra", [True, False])
@pytest.mark.parametrize("passages", [PASSAGES, PASSAGES[:1], [*PASSAGES, *PASSAGES[:2]]])
def test_against_brute_force(kind, extra, passages, tmp_path):
    folder = write_checkpoint(tmp_path, kind, extra=extra)
    loaded = load_set_encoder(str(folder))
    encoder = SetEncoder(loaded.network.double(), loaded.tokenizer)
    tokenizer = loaded.tokenizer
    head = [*(["[CLS]", "[INT]"] if extra else ["[CLS]"]), *tokenizer.tokenize(QUERY), "[SEP]"]
    rows = [[*head, *tokenizer.tokenize(passage)[:12], "[SEP]"] for passage in passages]
    ids = [tokenizer.convert_tokens_to_ids(row) for row in rows]
    expected = reference.scores(load_file(folder / "model.safetensors"), 2, ids, [len(head)] * len(ids), int(extra))
    assert encoder.read(QUERY, passages).scores == pytest.approx(expected.tolist(), abs=1e-9)


def test_every_order_gives_the_same_bits_alone_and_beside_other_questions(folder):
    segments = as_segments(PASSAGES)
    model, spec = FairModel(FakeBackend()), f"set_encoder:model={folder}"
    requests = [Request("rank", QUERY, segments).reordered(order) for order in itertools.permutations(range(4))]
    outputs = model.run([Request("rank", "who", segments[:2]), *requests], ranker=spec)[1:]
    alone = ranked(folder, segments)
    assert len(set(alone.scores.values())) == 4
    assert alone.ranking == tuple(sorted(alone.scores, key=alone.scores.get, reverse=True))
    for output in outputs:
        assert (output.scores, output.ranking, output.winner) == (alone.scores, alone.ranking, alone.winner)
    assert (alone.usage, alone.views, alone.status) == (Usage(), (), "ok")


def test_two_readings_give_the_same_bits_and_passages_do_see_each_other(folder):
    encoder = load_set_encoder(str(folder))
    first = encoder.read(QUERY, PASSAGES).scores
    assert encoder.read(QUERY, PASSAGES).scores == first
    other = encoder.read(QUERY, [*PASSAGES[:3], "salt"]).scores
    assert abs(other[0] - first[0]) > 1e-3


def test_what_was_cut_is_said(folder):
    passages = [Segment(id="long", text="moon " * 13), Segment(id="short", text="moon " * 12)]
    output = ranked(folder, passages)
    assert output.notes == ("set_encoder: 1 of 2 passages were cut to their first 12 tokens: long",)
    assert ranked(folder, passages[1:]).notes == ()
    assert "query is longer" in ranked(folder, passages[1:], "moon " * 9).notes[0]
    many = [Segment(id=f"p{number}", text=f"{'moon ' * 20}{number}") for number in range(6)]
    assert ranked(folder, many).notes[0].endswith("first 12 tokens: p0, p1, p2, p3, p4, ...")


def test_a_cut_passage_reads_as_its_beginning(folder):
    encoder = load_set_encoder(str(folder))
    whole, cut = encoder.read(QUERY, ["moon " * 40, "loom"]), encoder.read(QUERY, ["moon " * 12, "loom"])
    assert (whole.scores, whole.cut, cut.cut) == (cut.scores, (0,), ())


def test_rows_never_pass_the_last_position(tmp_path):
    encoder = load_set_encoder(str(write_checkpoint(tmp_path, query_length=None, doc_length=512)))
    found = encoder.read("moon " * 100, ["moon " * 100])
    assert (found.query_was_cut, found.passage_tokens) == (True, 64 - 32 - 4)
    assert all(score == score for score in found.scores)


def test_a_set_larger_than_in_training_is_said(tmp_path):
    output = ranked(write_checkpoint(tmp_path, depth=3), as_segments([*PASSAGES[:2], "salt", "loom"]))
    assert output.notes == ("set_encoder: 4 passages, in training a set had 3",)
    assert len(output.ranking) == 4


def test_text_that_spells_a_control_token_is_text(folder):
    encoder = load_set_encoder(str(folder))
    spelled = encoder.read(QUERY, ["moon [SEP] [INT]", "loom"]).scores
    assert spelled == encoder.read(QUERY, ["moon [ sep ] [ int ]", "loom"]).scores


def test_titles_are_read_and_equal_passages_are_tied(folder):
    passages = [
        Segment(id="a", text="red", title="mars"),
        Segment(id="b", text="red"),
        Segment(id="c", text="red", title="mars"),
    ]
    output = ranked(folder, passages)
    assert output.scores["a"] != output.scores["b"]
    assert output.ties == (("a", "c"),)


def test_as_relevance_it_orders_passages(folder):
    segments = as_segments(PASSAGES)
    scores = find_relevance(f"set_encoder:model={folder}").scores(QUERY, segments)
    assert scores == ranked(folder, segments).scores
    output = FairModel(FakeBackend()).answer(QUERY, segments, f"descending:relevance=set_encoder:model={folder}")
    assert output.views[0].order == tuple(sorted(scores, key=scores.get, reverse=True))


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"model_type": "bert"}, "must have the config of a Set-Encoder .*, got 'bert'"),
        ({"pooling_strategy": "mean"}, "has pooling_strategy='mean'; only 'first'"),
        ({"scoring_strategy": "mono"}, "has scoring_strategy='mono'; only 'rank'"),
        ({"backbone_model_type": "t5"}, "must be built on bert or electra, its config says 't5'"),
        ({"num_hidden_layers": 4}, "doesn't fit its config: 16 weights are missing, unused or of other sizes"),
        ({"num_hidden_layers": 2}, "doesn't fit its config: 16 weights"),
        ({"intermediate_size": 24}, "doesn't fit its config: 9 weights"),
    ],
)
def test_what_computes_something_else_is_refused(changed, said, tmp_path):
    with pytest.raises(ModelUnavailable, match=said):
        load_set_encoder(str(write_checkpoint(tmp_path, **changed)))


def test_what_can_not_be_loaded_is_refused(tmp_path, monkeypatch):
    with pytest.raises(ModelUnavailable, match=r"must have the config of a Set-Encoder .*, got None"):
        load_set_encoder(str(tmp_path))
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(ModelUnavailable, match=r"can't load .* as a Set-Encoder"):
        load_set_encoder(str(tmp_path))
    folder = write_checkpoint(tmp_path / "no-int", extra=False, add_extra_token=True)
    with pytest.raises(ModelUnavailable, match=r"must have the token \[INT\]"):
        load_set_encoder(str(folder))
    for find in (find_ranker, find_relevance):
        with pytest.raises(InvalidOption, match="model must be a folder or a hub id of a Set-Encoder"):
            find("set_encoder")
    monkeypatch.setitem(__import__("sys").modules, "fairpos.models.set_encoder", None)
    with pytest.raises(MissingDependency, match=r'pip install "fairpos\[local\]'):
        find_relevance(f"set_encoder:model={folder}").scores("q", as_segments(["a"]))


def test_a_head_without_a_constant(tmp_path):
    folder = write_checkpoint(tmp_path)
    with_constant = load_set_encoder(str(folder)).read(QUERY, PASSAGES).scores
    weights = load_file(folder / "model.safetensors")
    constant = float(weights.pop("linear.bias"))
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    load_set_encoder.cache_clear()
    without = torch.tensor(load_set_encoder(str(folder)).read(QUERY, PASSAGES).scores)
    assert (without + constant).tolist() == pytest.approx(with_constant, abs=1e-6)
