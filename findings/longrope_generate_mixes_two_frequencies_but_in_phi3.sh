#!/usr/bin/env bash
# transformers 5.24.0 with torch 2.13.0 (CPU), Python 3.11: under longrope a text that outgrows the original length while
# `generate` writes it changes its rotary frequencies for new tokens alone; the keys in the cache keep the old ones, so
# with a cache greedy texts differ from those of the same call without one. Phi-3 has a `prepare_inputs_for_generation`
# that drops the cache at that length; Llama, Qwen2 and Mistral with the same `rope_parameters` don't, and say nothing.
# Random weights, float32, 20 prompts of 28 tokens, original length 32, 16 new tokens (so four are written before):
#
#   phi3: the same text with a cache and without: 20 of 20
#   llama: before the crossing 20 of 20, whole fewer than 15 of 20
#   qwen2: before the crossing 20 of 20, whole fewer than 15 of 20
#   mistral: before the crossing 20 of 20, whole fewer than 15 of 20
#   llama, a prompt that is longer than the original length already: 20 of 20
#
# Whoever compares cached decoding with re-reading, or scores what was written, has two models from that token on.
# Without fairpos. Exits with another status than 0 where that changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/python" -m pip install --quiet 'torch==2.13.0' 'transformers==5.24.0'
cat > "$folder/measure.py" <<'PYTHON'
import logging
import warnings

import torch
import transformers
from transformers import AutoModelForCausalLM
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

warnings.filterwarnings("ignore")
transformers.logging.set_verbosity(logging.ERROR)
ORIGINAL = 32


def model_of(family):
    config = CONFIG_MAPPING[family](
        vocab_size=300,
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=128,
        original_max_position_embeddings=ORIGINAL,
        pad_token_id=1,
        rope_parameters={
            "rope_type": "longrope",
            "rope_theta": 10000.0,
            "short_factor": [1.0] * 8,
            "long_factor": [4.0] * 8,
            "original_max_position_embeddings": ORIGINAL,
        },
    )
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim >= 2:
                parameter.normal_(0, 0.2)
    return model.eval()


def written(model, prompt, new, cached):
    with torch.no_grad():
        text = model.generate(
            prompt, attention_mask=torch.ones_like(prompt), do_sample=False, max_new_tokens=new, min_new_tokens=new,
            eos_token_id=None, pad_token_id=1, use_cache=cached,
        )
    return text[0, prompt.shape[1] :].tolist()


def same(model, length, new):
    draw = torch.Generator().manual_seed(1)
    prompts = torch.randint(5, 300, (20, 1, length), generator=draw)
    return sum(written(model, prompt, new, True) == written(model, prompt, new, False) for prompt in prompts)


print(f"phi3: the same text with a cache and without: {same(model_of('phi3'), 28, 16)} of 20")
for family in ("llama", "qwen2", "mistral"):
    model = model_of(family)
    before, whole = same(model, 28, 4), same(model, 28, 16)
    print(f"{family}: before the crossing {before} of 20, whole {'fewer than 15' if whole < 15 else whole} of 20")
print(f"llama, a prompt that is longer than the original length already: {same(model_of('llama'), 40, 16)} of 20")
PYTHON
said=$("$folder/env/bin/python" "$folder/measure.py" 2> "$folder/errors") || { cat "$folder/errors" >&2; exit 1; }
echo "$said"
diff <(echo "$said") - <<'EXPECTED'
phi3: the same text with a cache and without: 20 of 20
llama: before the crossing 20 of 20, whole fewer than 15 of 20
qwen2: before the crossing 20 of 20, whole fewer than 15 of 20
mistral: before the crossing 20 of 20, whole fewer than 15 of 20
llama, a prompt that is longer than the original length already: 20 of 20
EXPECTED
