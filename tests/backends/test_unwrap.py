"""What users have around a model is taken off, and its adapters stay in."""

import pytest
import torch
from torch import nn
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

import fairpos
from fairpos.backends.unwrap import plain_model
from fairpos.errors import InvalidOption, UnsupportedModel
from tests.architectures import random_prompt, small_model
from tests.attention.test_families import Tokens


class Adapter(nn.Module):
    """A low-rank addition to a projection, as LoRA puts it into a model's layers."""

    def __init__(self, projection: nn.Linear) -> None:
        super().__init__()
        self.projection = projection
        draw = torch.Generator().manual_seed(0)
        self.down = nn.Parameter(torch.randn(4, projection.in_features, generator=draw) / 8)
        self.up = nn.Parameter(torch.randn(projection.out_features, 4, generator=draw) / 8)

    def forward(self, x):
        return self.projection(x) + x @ self.down.T @ self.up.T


class AdapterConfig:
    def __init__(self, *, is_prompt_learning: bool) -> None:
        self.is_prompt_learning = is_prompt_learning


class WithAdapters(nn.Module):
    """The outside of PEFT's models: no `PreTrainedModel`, but one inside."""

    def __init__(self, model: nn.Module, *, is_prompt_learning: bool = False) -> None:
        super().__init__()
        self.base_model, self.active_adapter = model, "default"
        self.peft_config = {"default": AdapterConfig(is_prompt_learning=is_prompt_learning)}
        self.config = model.config

    def get_base_model(self):
        return self.base_model


def adapted():
    model = small_model("llama")
    for layer in model.model.layers:
        layer.self_attn.q_proj = Adapter(layer.self_attn.q_proj)
        layer.self_attn.k_proj = Adapter(layer.self_attn.k_proj)
    return model


@pytest.mark.filterwarnings("ignore:`torch.jit.script_method` is deprecated:DeprecationWarning")
def test_adapters_stay_and_every_wrapper_gives_what_the_model_gives():
    prompt, model = random_prompt(), adapted()
    for methods in ("none", "set_based", "pine", "positional_hidden:channel=3"):
        expected = fairpos.wrap(model, Tokens()).next_token_logits(*prompt, methods=methods)
        for wrapped in (
            WithAdapters(model),
            nn.DataParallel(model),
            torch.compile(model),
            WithAdapters(torch.compile(model)),
        ):
            assert plain_model(wrapped) is model
            assert torch.equal(fairpos.wrap(wrapped, Tokens()).next_token_logits(*prompt, methods=methods), expected)
        plain = fairpos.wrap(small_model("llama"), Tokens()).next_token_logits(*prompt, methods=methods)
        assert (plain - expected).norm() > 1e-2 * plain.norm()


def test_a_wrapped_model_is_the_same_model_however_often_it_is_wrapped():
    model = small_model("llama")
    assert fairpos.wrap(WithAdapters(model), Tokens()).model is fairpos.wrap(model, Tokens()).model is model


def test_virtual_tokens_are_refused():
    with pytest.raises(UnsupportedModel, match="virtual tokens"):
        fairpos.wrap(WithAdapters(small_model("llama"), is_prompt_learning=True), Tokens())


@pytest.mark.parametrize("thing", [None, "smollm2", nn.Linear(2, 2), object()])
def test_what_is_no_model_is_refused(thing):
    with pytest.raises(UnsupportedModel, match="wraps models of transformers"):
        fairpos.wrap(thing, Tokens())


@pytest.mark.parametrize("thing", ["smollm2", nn.Linear(2, 2), object()])
def test_what_is_no_tokenizer_is_refused(thing):
    with pytest.raises(InvalidOption, match="tokenizer must be"):
        fairpos.wrap(small_model("llama"), thing)


def test_without_a_tokenizer_a_model_is_asked_in_tokens_alone():
    fair = fairpos.wrap(small_model("llama"), None)
    assert fair.next_token_logits([1, 2, 3], [], methods="none").ndim == 1
    with pytest.raises(InvalidOption, match="without a tokenizer"):
        fair.answer("why?", ["because"])


def test_a_processor_has_the_tokenizer_inside():
    class Processor:
        tokenizer = Tokens()

    assert fairpos.wrap(small_model("llama"), Processor()).tokenizer is Processor.tokenizer


SIZES = {
    "vocab_size": 300,
    "hidden_size": 16,
    "intermediate_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
}
FORGETFUL = {
    "a module": lambda: GPT2LMHeadModel(GPT2Config(vocab_size=300, n_embd=16, n_layer=2, n_head=2, attn_pdrop=0.0)),
    "a rate": lambda: LlamaForCausalLM(LlamaConfig(**SIZES, attention_dropout=0.3)),
}


@pytest.mark.parametrize("kind", FORGETFUL)
@pytest.mark.parametrize("methods", ["none", "pine"])
def test_a_model_that_forgets_at_random_is_refused_until_it_is_evaluated(kind, methods):
    """A model that is being trained may be right at first, when the seam is proved."""
    model = FORGETFUL[kind]().eval()
    fair, prompt = fairpos.wrap(model, Tokens()), random_prompt()
    expected = fair.next_token_logits(*prompt, methods="none")
    model.train()
    with pytest.raises(UnsupportedModel, match=r"training mode, where .* has .*0\.\d; call model\.eval\(\) first"):
        fair.next_token_logits(*prompt, methods=methods)
    model.eval()
    assert torch.equal(fair.next_token_logits(*prompt, methods="none"), expected)


def test_a_model_in_training_mode_without_dropout_answers():
    prompt, model = random_prompt(), small_model("llama")
    expected = fairpos.wrap(model, Tokens()).next_token_logits(*prompt, methods="pine")
    assert torch.equal(fairpos.wrap(model.train(), Tokens()).next_token_logits(*prompt, methods="pine"), expected)
