"""Heads are chosen by what they find, on models whose heads are known."""

import json

import numpy as np
import pytest
from typer.testing import CliRunner

from fairpos import FairModel, Segment
from fairpos.attention.reading import LayerHead, Reading
from fairpos.backends.fake import FakeBackend
from fairpos.calibration.heads import choose_heads, scores_by_head
from fairpos.cli.commands import app
from fairpos.cli.options import LocalOptions
from fairpos.errors import InvalidOption, InvalidRequest, NotCalibrated, UnsupportedBackend
from fairpos.files.items import Item
from fairpos.prompts import render
from fairpos.relevance.base import find_relevance
from fairpos.relevance.head_profile import HeadProfile
from fairpos.relevance.icr import NO_QUERY, kept_sum
from fairpos.testing.tiny import tiny_backend
from fairpos.types import Request
from tests.attention.test_probe import stock_attention

FINDS, LIKES_FIRST, LOUD, SOFTLY = (LayerHead(1, 0), LayerHead(0, 0), LayerHead(0, 1), LayerHead(2, 1))


class PlantedHeads:
    """Three layers of two heads: one finds gold, one finds it half as surely, one likes the first slot, one is loud
    everywhere and a little louder at gold's neighbour; the others say nothing."""

    name = "planted"
    capabilities = frozenset({"attention"})
    revision = "1"

    def read_attention(self, prompts, *, heads=(), pairs=(), last_only=False, replies=()):
        return [self._reading(prompt.request, pairs) for prompt in prompts]

    def _reading(self, request, pairs):
        named = (
            [LayerHead(layer, head) for layer in range(3) for head in range(2)]
            if pairs in ("all", ())
            else sorted(pairs)
        )
        gold = np.array([segment.text.startswith("gold") for segment in request.segments], dtype=np.float32)
        asked = request.query != NO_QUERY
        first = np.eye(len(gold), dtype=np.float32)[0]
        rows = {
            FINDS: 0.3 * gold * asked + 0.2 * first,
            SOFTLY: (0.001 * gold + 0.0005 * np.roll(gold, 1) * (len(request.query) % 2)) * asked,
            LIKES_FIRST: 0.5 * first * asked,
            LOUD: (5.0 + 0.1 * np.roll(gold, 1)) * asked,
        }
        weights = np.stack([rows.get(pair, 0 * gold) for pair in named])
        return Reading(weights.astype(np.float32), (1,) * len(gold), 10, None, tuple(named))


def items(count=12, slots=4, gold_first=True):
    """Gold always stands first in the file, and last by content: neither may matter."""
    return [
        Item(
            str(n),
            Request(
                "answer",
                "q" * (1 + n),
                tuple(
                    Segment(id=f"s{i}", text="gold" if (i == 0) == gold_first else f"a{i} {n}") for i in range(slots)
                ),
            ),
            "s0",
            relevant=("s0",),
        )
        for n in range(count)
    ]


@pytest.mark.parametrize("measure", ["ndcg", "contrast"])
def test_the_head_that_finds_the_answer_is_chosen_and_not_one_that_likes_a_place_or_is_loud(measure):
    found = choose_heads(PlantedHeads(), items(), keep=2, measure=measure, within=1)
    assert found.heads == (FINDS, SOFTLY)
    assert found.ndcg == 1.0 > found.ndcg_all_heads
    assert found.lists == 12
    assert found.scores[0] == pytest.approx(1.0)


def test_contrast_prefers_the_clearer_of_two_heads_that_rank_alike():
    lists = [item for item in items(16) if len(item.request.query) % 2 == 0]  # SOFTLY ranks these without a fault
    by_rank = choose_heads(PlantedHeads(), lists, keep=2, within=1)
    assert by_rank.scores == (1.0, 1.0)
    clear, soft = choose_heads(PlantedHeads(), lists, keep=2, measure="contrast", within=1).scores
    assert clear == pytest.approx(1.0)
    assert soft == pytest.approx(np.exp(0.1) / (np.exp(0.1) + 3))  # .001 of attention at temperature .01


def test_heads_may_be_looked_for_in_the_first_layers_alone():
    found = choose_heads(PlantedHeads(), items(), keep=1, within=0.7)  # 2 of 3 layers
    assert found.heads == (FINDS,)
    assert choose_heads(PlantedHeads(), items(), keep=1, within=0.4).heads[0].layer == 0
    with pytest.raises(InvalidOption, match=r"keep must be in 1\.\.2, the heads that there are, got 3"):
        choose_heads(PlantedHeads(), items(), keep=3, within=0.4)


def test_a_profile_makes_icr_find_what_all_heads_together_miss():
    profile = choose_heads(PlantedHeads(), items(), keep=2, within=1)
    request = items()[0].request
    source = find_relevance("icr")
    plain = source.on(PlantedHeads()).scores(request.query, request.segments)
    chosen = type(source)(profile=profile).on(PlantedHeads()).scores(request.query, request.segments)
    assert max(plain, key=plain.__getitem__) != "s0"
    assert max(chosen, key=chosen.__getitem__) == "s0"


def test_scores_by_chosen_heads_are_those_of_the_stock_models_attention():
    backend = tiny_backend()
    segments = [Segment(id=i, text=text) for i, text in (("a", "one two"), ("b", "three"), ("c", "four five six"))]
    request = Request("answer", "which?", tuple(segments))
    pairs = (LayerHead(0, 1), LayerHead(1, 0))
    profile = HeadProfile("tiny", backend.revision, pairs, (1.0, 1.0), "by hand", "", 1, 1.0, 1.0)
    scores = type(find_relevance("icr"))(profile=profile).on(backend).scores(request.query, request.segments)
    tokens = 0.0
    for sign, query in ((1, request.query), (-1, NO_QUERY)):
        layout = backend.layout(render(Request("answer", query, request.canonical().segments)))
        whole = stock_attention(backend.model, layout)[..., layout.suffix_start :, :].mean(2).double().numpy()
        tokens = tokens + sign * sum(whole[pair][: layout.suffix_start] for pair in pairs)
    for id, (start, end) in zip(request.canonical().ids, layout.spans, strict=True):
        assert scores[id] == pytest.approx(kept_sum(tokens[start:end], 2.0), abs=2e-5)


def test_one_row_a_head_and_one_column_a_segment():
    asked = Reading(np.array([[1.0, 2.0, 5.0], [0.0, 1.0, 1.0]], dtype=np.float32), (2, 1))
    empty = Reading(np.array([[0.0, 1.0, 1.0], [0.0, 0.0, 3.0]], dtype=np.float32), (2, 1))
    assert scores_by_head(asked, empty, 2.0).tolist() == [[2.0, 4.0], [1.0, -2.0]]


def test_what_cannot_be_chosen_is_refused():
    with pytest.raises(UnsupportedBackend):
        choose_heads(FakeBackend(), items())
    for options, message in (
        ({"keep": 0}, "keep must be at least 1, got 0"),
        ({"measure": "recall"}, "measure must be one of ndcg, contrast, got 'recall'"),
        ({"within": 0.0}, r"within must be in \(0, 1\], got 0.0"),
        ({"temperature": float("nan")}, "temperature must be a number above 0, got nan"),
    ):
        with pytest.raises(InvalidOption, match=message):
            choose_heads(PlantedHeads(), items(), **options)
    only_gold = [Item("1", Request("answer", "q", (Segment(id="s0", text="x"),)), "s0", relevant=("s0",))]
    with pytest.raises(InvalidRequest, match="none of the 1 records"):
        choose_heads(PlantedHeads(), only_gold)


def test_a_profile_is_a_file_that_belongs_to_one_model(tmp_path):
    profile = choose_heads(PlantedHeads(), items(), keep=1)
    path = profile.save(tmp_path / "deep" / "heads.json")
    assert HeadProfile.load(path) == profile
    other = PlantedHeads()
    other.revision = "2"
    spec = f"icr:profile={path}"
    assert find_relevance(spec).on(PlantedHeads()).profile == profile
    with pytest.raises(NotCalibrated, match="for the model planted 1, not planted 2"):
        find_relevance(spec).on(other)
    with pytest.raises(NotCalibrated, match="there is no head profile"):
        find_relevance(f"icr:profile={tmp_path / 'none.json'}").on(PlantedHeads())
    record = json.loads(path.read_text())
    for broken in ({**record, "heads": []}, {**record, "heads": [[0]]}, {**record, "heads": [[-1, 0]]}):
        path.write_text(json.dumps(broken))
        with pytest.raises(InvalidRequest, match="damaged head profile"):
            HeadProfile.load(path)
    for text in ("[1]", "{", '{"format": "fairpos slot profile 1"}'):
        path.write_text(text)
        with pytest.raises(InvalidRequest, match="head profile"):
            HeadProfile.load(path)


@pytest.fixture
def fake_model(monkeypatch):
    backend = FakeBackend(capabilities=frozenset({"generate", "score", "attention"}))
    monkeypatch.setattr(LocalOptions, "load", lambda self, name: FairModel(backend))
    return FairModel(backend)


def test_on_the_command_line(fake_model, tmp_path):
    data, out = tmp_path / "data.jsonl", tmp_path / "heads.json"
    record = {
        "id": 1,
        "query": "q",
        "gold": "b",
        "passages": [{"id": "a", "text": "x", "score": 0}, {"id": "b", "text": "y", "score": 2}],
    }
    data.write_text(json.dumps(record))

    def call(*arguments):
        return CliRunner().invoke(app, ["calibrate", "icr", *map(str, arguments)])

    result = call("--data", data, "--keep", 1, "-o", out)
    assert result.exit_code == 0, result.output
    assert HeadProfile.load(out).heads == (LayerHead(0, 0),)
    assert f"--methods icr:profile={out}" in " ".join(result.stderr.split())
    assert json.loads(call("--data", data, "--keep", 1, "--json").stdout)["lists"] == 1
    ranked = fake_model.rank(
        "q", [Segment(id="a", text="x", score=0), Segment(id="b", text="y", score=2)], methods=f"icr:profile={out}"
    )
    assert ranked.usage.calls == 2
    with pytest.raises(InvalidOption, match="heads that there are"):
        CliRunner().invoke(app, ["calibrate", "icr", "--data", str(data), "--keep", "2"], catch_exceptions=False)
    data.write_text("{")
    with pytest.raises(InvalidRequest, match="line 1"):
        CliRunner().invoke(app, ["calibrate", "icr", "--data", str(data)], catch_exceptions=False)
