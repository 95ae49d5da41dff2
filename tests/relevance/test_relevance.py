"""Sources of relevance: the right scores, the same for every order, by id."""

import json
import math
import random

import pytest
import torch
from transformers import BertConfig, BertForSequenceClassification

from fairpos import Segment
from fairpos.errors import InvalidOption, InvalidRequest, MissingDependency, ModelUnavailable, UnknownName
from fairpos.passages import as_segments
from fairpos.relevance.base import RELEVANCE, Relevance
from fairpos.relevance.base import find_relevance as relevance

PASSAGES = as_segments(
    [
        Segment(id="moon", title="Moon", text="The moon is the only natural satellite of the earth.", score=0.2),
        Segment(id="bread", text="Bread is baked from flour, water and salt.", score=0.9),
        Segment(id="mars", text="Mars has two moons; they are small. Mars is red.", score=0.5),
        Segment(id="empty", text="...", score=-1.0),
    ]
)


def test_given_scores_are_passed_on():
    assert relevance("given").scores("q", PASSAGES) == {"moon": 0.2, "bread": 0.9, "mars": 0.5, "empty": -1.0}


@pytest.mark.parametrize("score", [None, math.nan, math.inf])
def test_given_needs_scores(score):
    with pytest.raises(InvalidRequest, match="'x' must come with a finite score"):
        relevance("given").scores("q", [Segment(id="x", text="t", score=score)])


def test_bm25_against_its_formula():
    passages = as_segments(["red red fox", "red dog", "a blue bird sings"])
    found = relevance("bm25:k1=1.2,b=0.5").scores("Red fox?", passages)
    # 3 passages of 3, 2 and 4 words; "red" is in two, "fox" in one: idf = ln(1 + (3 - n + .5) / (n + .5))
    red, fox = math.log(1 + 1.5 / 2.5), math.log(1 + 2.5 / 1.5)

    def weight(times, length):
        return times / (times + 1.2 * (1 - 0.5 + 0.5 * length / 3))

    assert found == pytest.approx(
        {"1": red * weight(2, 3) + fox * weight(1, 3), "2": red * weight(1, 2), "3": 0.0}, abs=1e-6
    )


def test_bm25_without_a_shared_word_is_zero():
    assert set(relevance("bm25").scores("zebra", PASSAGES).values()) == {0.0}
    assert relevance("bm25").scores("zebra", as_segments(["..."])) == {"1": 0.0}


def test_bm25_reads_titles():
    assert relevance("bm25").scores("tides", [Segment(id="a", title="Tides", text="x"), PASSAGES[1]])["a"] > 0


def test_embeddings_find_a_paraphrase():
    found = relevance("embedding").scores("What goes into a loaf?", PASSAGES)
    assert max(found, key=found.get) == "bread"
    assert all(-1 <= score <= 1 for score in found.values())


@pytest.fixture(scope="module")
def tiny_cross_encoder(tmp_path_factory):
    """A random BERT with one output over minilm's vocabulary."""
    from transformers import AutoTokenizer

    from fairpos.models import embedded

    folder = tmp_path_factory.mktemp("cross-encoder")
    tokenizer = AutoTokenizer.from_pretrained(embedded.path("minilm"))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = BertConfig(
            vocab_size=len(tokenizer),
            hidden_size=32,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=64,
            num_labels=1,
            initializer_range=0.5,
        )
        model = BertForSequenceClassification(config).eval()
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder, model, tokenizer


def test_a_cross_encoder_scores_pairs(tiny_cross_encoder):
    folder, model, tokenizer = tiny_cross_encoder
    found = relevance(f"cross_encoder:model={folder}").scores("red planet", PASSAGES)
    with torch.no_grad():
        for segment in PASSAGES:
            text = f"{segment.title}: {segment.text}" if segment.title else segment.text
            logit = model(**tokenizer("red planet", text, return_tensors="pt")).logits
            assert found[segment.id] == pytest.approx(float(torch.sigmoid(logit)), abs=1e-4)
    assert len(set(found.values())) == len(PASSAGES)


@pytest.mark.parametrize("name", ["given", "bm25", "embedding", "cross_encoder"])
def test_the_order_changes_nothing(name, tiny_cross_encoder):
    source = relevance(f"{name}:model={tiny_cross_encoder[0]}" if name == "cross_encoder" else name)
    assert isinstance(source, Relevance)
    expected = source.scores("red moon", PASSAGES)
    for seed in range(5):
        shuffled = random.Random(seed).sample(PASSAGES, len(PASSAGES))
        assert source.scores("red moon", shuffled) == expected  # to the bit


def test_names_and_options():
    with pytest.raises(UnknownName, match=r"unknown relevance 'bm52'. Did you mean 'bm25'"):
        relevance("bm52")
    with pytest.raises(InvalidOption, match=r"b must be in \[0, 1\], got 2.0"):
        relevance("bm25:b=2")
    with pytest.raises(InvalidOption, match="model must be a folder or a hub id"):
        relevance("cross_encoder")
    with pytest.raises(InvalidOption, match="relevance 'given' has no option 'k1'"):
        relevance("given:k1=1")
    assert relevance(source := RELEVANCE["bm25"]()) is source


def test_models_that_can_not_be_loaded(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "nonsense"}))
    with pytest.raises(ModelUnavailable, match="as a bi-encoder"):
        relevance(f"embedding:model={tmp_path}").scores("q", PASSAGES)
    with pytest.raises(ModelUnavailable, match="as a cross-encoder"):
        relevance(f"cross_encoder:model={tmp_path}").scores("q", PASSAGES)


@pytest.mark.parametrize(
    ("package", "spec"),
    [
        ("bm25s", "bm25"),
        ("sentence_transformers", "embedding:model=x"),
        ("sentence_transformers", "cross_encoder:model=x"),
    ],
)
def test_a_missing_package_is_named(package, spec, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, package, None)
    with pytest.raises(MissingDependency, match=r'pip install "fairpos\['):
        relevance(spec).scores("q", PASSAGES)
