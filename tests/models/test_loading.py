"""Loading with transformers' options; every failure is one of fairpos's errors."""

import json
import shutil

import pytest
import torch
from transformers import (
    AutoTokenizer,
    BertConfig,
    BertModel,
    LlamaConfig,
    LlamaForCausalLM,
    LlamaModel,
    LlavaConfig,
    LlavaForConditionalGeneration,
)

import fairpos
from fairpos.errors import FairposError, InvalidOption, ModelUnavailable, UnsupportedModel
from fairpos.models.loading import device_named, dtype_named

SIZES = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2}


@pytest.fixture(scope="module")
def folder(tmp_path_factory, tokenizer):
    """A tiny causal model, stored."""
    where = tmp_path_factory.mktemp("models") / "tiny"
    LlamaForCausalLM(LlamaConfig(vocab_size=len(tokenizer), **SIZES)).save_pretrained(where)
    tokenizer.save_pretrained(where)
    return where


@pytest.mark.parametrize(
    ("name", "dtype"),
    [
        ("bf16", torch.bfloat16),
        ("torch.bfloat16", torch.bfloat16),
        ("bfloat16", torch.bfloat16),
        ("fp16", torch.float16),
        ("float64", torch.float64),
    ],
)
def test_dtypes_by_name(name, dtype, folder):
    assert fairpos.load(str(folder), dtype=name, device="cpu").model.dtype == dtype == dtype_named(dtype)


@pytest.mark.parametrize("name", ["float33", "int8", "nn", "float32 ", "", None, 5, torch.int8])
def test_a_dtype_that_there_is_not(name, folder):
    with pytest.raises(InvalidOption, match="dtype must be float32, bfloat16"):
        fairpos.load(str(folder), dtype=name)


@pytest.mark.parametrize("name", ["cuda:77", "cuda:-2", "nowhere", "meta"])
def test_a_device_that_is_not_there(name, folder):
    with pytest.raises(InvalidOption, match=r"device .*cpu"):
        fairpos.load(str(folder), device=name)


def test_the_device_of_this_machine():
    assert device_named("cpu") == torch.device("cpu")
    assert device_named(None).type == ("cuda" if torch.cuda.is_available() else "cpu")


def test_transformers_options_are_handed_on(folder):
    fair = fairpos.load(str(folder), attn_implementation="eager", device_map="cpu")
    assert fair.model.config._attn_implementation == "eager"
    assert {parameter.device.type for parameter in fair.model.parameters()} == {"cpu"}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"device_map": "cpu", "device": "cpu"}, "both say where"),
        ({"attn_implementation": "magic"}, "magic"),
        ({"no_such_option": 1}, "no_such_option"),
        ({"device_map": "everywhere"}, "everywhere"),
        ({"device_map": {"": "cuda:9"}}, "."),
        ({"quantization_config": {"quant_method": "none of them"}}, "."),
    ],
)
def test_options_that_can_not_be_used(options, words, folder):
    with pytest.raises(FairposError, match=words):
        fairpos.load(str(folder), **options)


def test_a_model_without_a_head(tmp_path, tokenizer):
    """Stored without one it would get a random head; given without one it can't continue anything."""
    LlamaModel(LlamaConfig(vocab_size=len(tokenizer), tie_word_embeddings=False, **SIZES)).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    with pytest.raises(ModelUnavailable, match=r"no causal language model as it is stored: 1 .*lm_head"):
        fairpos.load(str(tmp_path))
    with pytest.raises(UnsupportedModel, match="LlamaModel has no head"):
        fairpos.wrap(LlamaModel(LlamaConfig(vocab_size=64, **SIZES)), tokenizer)
    BertModel(BertConfig(vocab_size=len(tokenizer), **SIZES)).save_pretrained(tmp_path / "bert")
    tokenizer.save_pretrained(tmp_path / "bert")
    with pytest.raises(FairposError, match="bert"):
        fairpos.load(str(tmp_path / "bert"))


def test_weights_that_are_not_in_memory(folder, tmp_path):
    tokenizer = AutoTokenizer.from_pretrained(folder)
    with torch.device("meta"):
        model = LlamaForCausalLM(LlamaConfig(vocab_size=64, **SIZES))
    with pytest.raises(UnsupportedModel, match="aren't in memory"):
        fairpos.wrap(model, tokenizer)
    with pytest.raises(UnsupportedModel, match="aren't in memory"):
        fairpos.load(str(folder), device_map={"": "disk"}, offload_folder=str(tmp_path))


def test_options_of_local_models_are_refused_for_endpoints():
    with pytest.raises(InvalidOption, match="device, device_map: for local models"):
        fairpos.load("openai:http://localhost:1/v1#m", device="cpu", device_map="auto")


@pytest.mark.parametrize("name", [None, 5, b"tiny"])
def test_a_name_that_is_none(name):
    with pytest.raises(InvalidOption, match="by a name or a path"):
        fairpos.load(name)


def test_a_path_is_a_name(folder):
    assert fairpos.load(folder, device="cpu", local_files_only=True).model.config.model_type == "llama"


BROKEN = {
    "weights cut off": ("model.safetensors", lambda stored: stored[:4000]),
    "no weights": ("model.safetensors", lambda _: b""),
    "a config that is none": ("config.json", lambda _: b"[]"),
    "a config that contradicts itself": ("config.json", lambda stored: stored.replace(b'heads": 2', b'heads": 5')),
    "a config of other sizes": ("config.json", lambda stored: stored.replace(b'e_size": 48', b'e_size": 40')),
    "a rotation that there isn't": ("config.json", lambda stored: stored.replace(b'"default"', b'"magic"')),
    "a kind that needs its own code": (
        "config.json",
        lambda _: json.dumps({"model_type": "z", "auto_map": {"AutoConfig": "z.Z"}}).encode(),
    ),
    "a tokenizer cut off": ("tokenizer.json", lambda stored: stored[:400]),
}  # fmt: skip


@pytest.mark.parametrize("what", BROKEN)
def test_a_broken_folder_is_said_to_be_broken_in_one_line(what, folder, tmp_path, capfd):
    broken = shutil.copytree(folder, tmp_path / "broken")
    file, damage = BROKEN[what]
    changed = damage((broken / file).read_bytes())
    assert changed != (broken / file).read_bytes()
    (broken / file).write_bytes(changed)
    with pytest.raises(ModelUnavailable) as raised:
        fairpos.load(broken, device="cpu")
    assert len(str(raised.value).splitlines()) == 1
    assert capfd.readouterr() == ("", "")  # nor is anything asked


def test_weights_of_other_sizes_are_named(folder, tmp_path):
    broken = shutil.copytree(folder, tmp_path / "broken")
    file, damage = BROKEN["a config of other sizes"]
    (broken / file).write_bytes(damage((broken / file).read_bytes()))
    with pytest.raises(ModelUnavailable, match=r"6 have other sizes, .*mlp.down_proj.weight \(32, 48\) for \(32, 40\)"):
        fairpos.load(broken, device="cpu")


def test_the_text_half_of_an_image_text_model(tmp_path, tokenizer):
    vision = {"model_type": "clip_vision_model", "image_size": 28, "patch_size": 14, **SIZES}
    text = {"model_type": "llama", "vocab_size": len(tokenizer), **SIZES}
    config = LlavaConfig(text_config=text, vision_config=vision, image_token_index=3)
    LlavaForConditionalGeneration(config).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    fair = fairpos.load(tmp_path, device="cpu")
    assert fair.choose("Which?", ["a stone", "an apple"], methods="pine").winner in ("1", "2")
