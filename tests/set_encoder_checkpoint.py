"""Small Set-Encoder checkpoints as lightning-ir saves them, from numbers that repeat on every version of everything."""

import json
from pathlib import Path

import numpy
import torch
from safetensors.torch import save_file
from tokenizers import BertWordPieceTokenizer
from transformers import BertConfig, BertModel, ElectraConfig, ElectraModel

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
WORDS = [
    *("the", "moon", "is", "red", "planet", "mars", "bread", "baked", "from", "flour", "water", "and", "salt", "who"),
    *("made", "loom", "engine", "punched", "card", "##s", "two", "small", "of", "a", "in", ".", "?", ",", "[", "]"),
    *("int", "sep"),
]
QUERY = "who made the red moon ?"
PASSAGES = [
    "the moon is a small planet .",
    "bread is baked from flour , water and salt",
    "mars is the red planet mars in two moons and so on and so on in water from salt",
    "loom",
]
KINDS = {"bert": (BertConfig, BertModel), "electra": (ElectraConfig, ElectraModel)}


def write_checkpoint(folder: Path, kind: str = "electra", *, extra: bool = True, **changed: object) -> Path:
    """Writes config, weights and tokenizer; `extra`: with the token [INT]; `changed`: settings of the config."""
    vocabulary = {word: index for index, word in enumerate(SPECIAL + WORDS)}
    settings: dict[str, object] = {
        "vocab_size": len(vocabulary) + 1,
        "hidden_size": 16,
        "num_hidden_layers": 3,
        "num_attention_heads": 2,
        "intermediate_size": 32,
        "max_position_embeddings": 64,
        "hidden_act": "gelu",
        "pad_token_id": 0,
        "type_vocab_size": 2,
        "layer_norm_eps": 1e-12,
        **({"embedding_size": 8} if kind == "electra" else {}),
    }
    config, model = KINDS[kind]
    shapes = {
        name: tuple(weight.shape)
        for name, weight in model(config(**settings)).named_parameters()
        if not name.startswith("pooler")
    } | {"linear.weight": (1, 16), "linear.bias": (1,)}
    numbers = numpy.random.RandomState(2404)  # the legacy generator: its numbers never change
    weights = {}
    for name in sorted(shapes):
        drawn = numbers.standard_normal(shapes[name])
        scaled = 1 + 0.1 * drawn if name.endswith("LayerNorm.weight") else (0.5 if drawn.ndim > 1 else 0.2) * drawn
        weights[name] = torch.tensor(scaled, dtype=torch.float32)
    folder.mkdir(parents=True, exist_ok=True)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    saved = settings | {
        "model_type": "set-encoder",
        "architectures": [f"SetEncoder{kind.title()}Model"],
        "backbone_model_type": kind,
        "query_length": 8,
        "doc_length": 12,
        "depth": 100,
        "add_extra_token": extra,
        "sample_missing_docs": False,
        "linear_bias": True,
        "pooling_strategy": "first",
        "scoring_strategy": "rank",
    }
    (folder / "config.json").write_text(json.dumps(saved | changed))
    tokenizer = BertWordPieceTokenizer(vocabulary)
    if extra:
        tokenizer.add_special_tokens(["[INT]"])
    tokenizer.save(str(folder / "tokenizer.json"))
    names = {"unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]", "pad_token": "[PAD]"}
    told = {"tokenizer_class": "SetEncoderTokenizer", "backbone_tokenizer_class": f"{kind.title()}TokenizerFast"}
    told |= {"query_length": 8, "doc_length": 12, "add_extra_token": extra, "model_max_length": 512}
    (folder / "tokenizer_config.json").write_text(json.dumps(told | names | {"mask_token": "[MASK]"}))
    (folder / "vocab.txt").write_text("\n".join(vocabulary))
    return folder
