"""A tiny random model with a tokenizer that knows every byte: methods of the attention are checked on it, offline.

Needs `fairpos[local]`. What it says means nothing; that two computations of it agree, or don't, means a lot.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

from fairpos.backends.hf import HFBackend
from fairpos.prompts import render
from fairpos.testing.subjects import request_for
from fairpos.types import TASKS

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@lru_cache(maxsize=1)
def tiny_backend() -> HFBackend:
    """A Llama of four layers and 48 channels in float32, weights drawn large from a fixed seed; loaded once."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    tokenizer = _make_tokenizer()
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=48,
        intermediate_size=64,
        num_hidden_layers=4,
        num_attention_heads=6,
        num_key_value_heads=2,
        max_position_embeddings=4096,
        initializer_range=0.25,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=None,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = LlamaForCausalLM(config).eval()
    return HFBackend(model, tokenizer, name="tiny")


def _make_tokenizer() -> PreTrainedTokenizerBase:
    """Every byte is a token; words of the contract's own prompts are one or two, so that its prompts are short."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    texts = [render(request_for(task)).text for task in TASKS]
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=512, initial_alphabet=alphabet, special_tokens=["<|end|>"], show_progress=False
    )
    core.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=core, eos_token="<|end|>")
