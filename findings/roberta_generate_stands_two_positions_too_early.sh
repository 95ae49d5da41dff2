#!/usr/bin/env bash
# transformers 5.24.0 with torch 2.13.0 (CPU), Python 3.11: RobertaForCausalLM counts positions from padding_idx + 1 = 2
# where it is called, and from 0 where `generate` calls it, which hands every model position_ids made of the attention
# mask. So the first token that greedy `generate` writes need not be the one that the model's own logits name, with a
# cache and without. Random weights, is_decoder=True, 40 prompts of 12 tokens:
#
#   the model by itself equals the model told positions 2, 3, ...: 40 of 40 next tokens
#   generate equals the model told positions 0, 1, ...: 40 of 40
#   generate equals the model by itself: fewer than 30 of 40
#
# Whatever scores replies by logits and writes them by `generate` has two models. LlamaForCausalLM, which counts from 0:
#
#   LlamaForCausalLM: generate equals the model by itself: 40 of 40
#
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
from transformers import LlamaConfig, LlamaForCausalLM, RobertaConfig, RobertaForCausalLM

warnings.filterwarnings("ignore")
transformers.logging.set_verbosity(logging.ERROR)
SIZES = dict(vocab_size=300, hidden_size=64, intermediate_size=96, num_hidden_layers=3, num_attention_heads=4)


def random_weights(model):
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim >= 2:
                parameter.normal_(0, 0.2)
    return model.eval()


def next_tokens(model, prompts, **more):
    with torch.no_grad():
        return model(prompts, attention_mask=torch.ones_like(prompts), **more).logits[:, -1].argmax(-1)


def written(model, prompts):
    mask = torch.ones_like(prompts)
    with torch.no_grad():
        return model.generate(
            prompts, attention_mask=mask, do_sample=False, max_new_tokens=1, eos_token_id=None, pad_token_id=1
        )[:, -1]


def equal(first, second):
    return int((first == second).sum())


prompts = torch.randint(5, 300, (40, 12), generator=torch.Generator().manual_seed(1))
places = torch.arange(12)[None].expand(40, 12)
roberta = random_weights(RobertaForCausalLM(RobertaConfig(is_decoder=True, max_position_embeddings=64, **SIZES)))
own, texts = next_tokens(roberta, prompts), written(roberta, prompts)
at_two = equal(own, next_tokens(roberta, prompts, position_ids=places + 2))
at_zero = equal(texts, next_tokens(roberta, prompts, position_ids=places))
print(f"the model by itself equals the model told positions 2, 3, ...: {at_two} of 40 next tokens")
print(f"generate equals the model told positions 0, 1, ...: {at_zero} of 40")
both = equal(own, texts)
print(f"generate equals the model by itself: {'fewer than 30' if both < 30 else both} of 40")
llama = random_weights(LlamaForCausalLM(LlamaConfig(num_key_value_heads=2, max_position_embeddings=64, **SIZES)))
both = equal(next_tokens(llama, prompts), written(llama, prompts))
print(f"LlamaForCausalLM: generate equals the model by itself: {both} of 40")
PYTHON
said=$("$folder/env/bin/python" "$folder/measure.py" 2> /dev/null)
echo "$said"
diff <(echo "$said") - <<'EXPECTED'
the model by itself equals the model told positions 2, 3, ...: 40 of 40 next tokens
generate equals the model told positions 0, 1, ...: 40 of 40
generate equals the model by itself: fewer than 30 of 40
LlamaForCausalLM: generate equals the model by itself: 40 of 40
EXPECTED
