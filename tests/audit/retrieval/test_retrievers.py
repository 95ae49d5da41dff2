"""Retrievers by name, and what an audit says of real ones."""

import json

import pytest
import torch
from transformers import AutoTokenizer, BertConfig, BertForSequenceClassification

from fairpos.audit.retrieval.audit import RetrievalPlan, audit_retriever
from fairpos.audit.retrieval.retrievers import find_retriever
from fairpos.errors import InvalidOption, ModelUnavailable, UnknownName
from fairpos.models import embedded
from fairpos.relevance.bm25 import BM25
from fairpos.relevance.cross_encoder import CrossEncoder
from fairpos.relevance.embedding import Embedding
from tests.audit.retrieval.planted import FirstWords, questions


def test_names():
    assert find_retriever("bm25:k1=1.2") == BM25(k1=1.2)
    assert find_retriever("minilm") == Embedding(model="minilm")
    assert find_retriever("embedding:model=some/id") == Embedding(model="some/id")
    planted = FirstWords(3)
    assert find_retriever(planted) is planted


@pytest.mark.parametrize(
    ("spec", "error", "words"),
    [
        ("minlm", UnknownName, r"Did you mean 'minilm'\? Known: a folder, bm25, cross_encoder, embedding, minilm"),
        ("given", InvalidOption, "scores of the file"),
        ("icr", InvalidOption, "reads a language model's attention"),
        ("smollm2", InvalidOption, "is a language model, no retriever"),
        ("cross_encoder", InvalidOption, "model must be a folder or a hub id"),
        ("bm25:b=3", InvalidOption, r"b must be in \[0, 1\]"),
    ],
)
def test_what_is_no_retriever(spec, error, words):
    with pytest.raises(error, match=words):
        find_retriever(spec)


def test_a_folder_is_what_its_configuration_says(tmp_path):
    with pytest.raises(ModelUnavailable, match="can't find a retriever in"):
        find_retriever(str(tmp_path))
    for kind, cls in (("BertForSequenceClassification", CrossEncoder), ("BertModel", Embedding)):
        (tmp_path / "config.json").write_text(json.dumps({"architectures": [kind]}))
        assert find_retriever(str(tmp_path)) == cls(model=str(tmp_path))
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(ModelUnavailable, match="can't find a retriever in"):
        find_retriever(str(tmp_path))
    (tmp_path / "modules.json").write_text("[]")
    assert find_retriever(str(tmp_path)) == Embedding(model=str(tmp_path))


def test_bm25_counts_words_wherever_they_stand():
    found = audit_retriever(questions(12), "bm25", RetrievalPlan(chunks=()))
    assert not found.whole.is_biased
    for name in ("start_minus_end", "start_preferred", "start_minus_middle"):
        assert found.whole.figures[name].estimate == 0
        assert found.whole.figures[name].low < 0 < found.whole.figures[name].high  # twelve questions prove nothing
    assert found.whole.figures["psi"].estimate == 0 < found.whole.figures["psi"].high


def test_a_cross_encoder_is_asked_about_pairs(tmp_path):
    """A tiny random one, in its folder: what it finds means nothing, that it is asked does."""
    tokenizer = AutoTokenizer.from_pretrained(embedded.path("minilm"))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = BertConfig(
            vocab_size=len(tokenizer),
            hidden_size=16,
            num_hidden_layers=1,
            num_attention_heads=1,
            intermediate_size=16,
            num_labels=1,
            initializer_range=0.5,
        )
        BertForSequenceClassification(config).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    found = audit_retriever(questions(3), str(tmp_path), RetrievalPlan(places=3, chunks=(30,)))
    assert [way.moved for way in found.ways] == [3, 3]


def test_an_embedding_that_remembers_gives_the_same_scores():
    source = find_retriever("minilm")
    item = questions(1)[0]
    kept = source.remembering()
    expected = source.scores(item.query, item.rivals)
    for _ in range(2):
        assert kept.scores(item.query, item.rivals) == pytest.approx(expected, abs=1e-6)
    assert len(kept.vectors) == len(item.rivals) + 1
