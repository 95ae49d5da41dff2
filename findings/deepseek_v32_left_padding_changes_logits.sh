#!/usr/bin/env bash
# transformers 5.24.0 with torch 2.13.0 (CPU), Python 3.11: DeepSeek V3.2 (sparse attention: an index picks `index_topk`
# keys a query) gives a left-padded prompt in a batch other logits than the prompt alone, as soon as the prompt has more
# tokens than `index_topk`. Attention mask and position ids are given in both cases; the same prompts on a model whose
# `index_topk` is not reached agree to rounding, and so does DeepSeek V3, which has no index. Relative difference of the
# last token's logits, random weights:
#
#   DeepseekV3ForCausalLM, prompt of 12 tokens behind 6 of padding: same
#   DeepseekV32ForCausalLM, index_topk 64, prompt of 12 tokens behind 6 of padding: same
#   DeepseekV32ForCausalLM, index_topk 8, prompt of 12 tokens behind 6 of padding: DIFFERENT
#
# A batched evaluation of such a model depends on which prompts share a batch. Without fairpos.
# Exits with another status than 0 where that changes.
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
from transformers import DeepseekV3Config, DeepseekV32Config

warnings.filterwarnings("ignore")
transformers.logging.set_verbosity(logging.ERROR)
SIZES = dict(
    vocab_size=300, hidden_size=64, intermediate_size=96, moe_intermediate_size=48, num_hidden_layers=3,
    num_attention_heads=4, num_key_value_heads=4, q_lora_rank=24, kv_lora_rank=24, qk_rope_head_dim=16,
    qk_nope_head_dim=16, v_head_dim=16, n_routed_experts=4, num_experts_per_tok=2, n_shared_experts=1, n_group=1,
    topk_group=1, first_k_dense_replace=3, pad_token_id=0,
)


def difference(kind, config):
    torch.manual_seed(0)
    model = getattr(transformers, kind)(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim >= 2:
                parameter.normal_(0, 0.2)
        prompt = torch.randint(5, 300, (1, 12))
        places = torch.arange(12)[None]
        alone = model(prompt, attention_mask=torch.ones(1, 12, dtype=torch.long), position_ids=places).logits[0, -1]
        padded = torch.cat([torch.zeros(1, 6, dtype=torch.long), prompt], dim=1)
        mask = (torch.arange(18) >= 6).long()[None]
        places = (mask.cumsum(-1) - 1).clamp(min=0)
        batch = model(padded, attention_mask=mask, position_ids=places).logits[0, -1]
    return float((alone - batch).norm() / alone.norm())


def say(what, value):
    word = "same" if value < 1e-4 else "DIFFERENT" if value > 1e-2 else f"{value:.2g}"
    print(f"{what}, prompt of 12 tokens behind 6 of padding: {word}")


say("DeepseekV3ForCausalLM", difference("DeepseekV3ForCausalLM", DeepseekV3Config(**SIZES)))
for most in (64, 8):
    config = DeepseekV32Config(index_topk=most, index_n_heads=2, index_head_dim=16, **SIZES)
    say(f"DeepseekV32ForCausalLM, index_topk {most}", difference("DeepseekV32ForCausalLM", config))
PYTHON
said=$("$folder/env/bin/python" "$folder/measure.py" 2> /dev/null)
echo "$said"
diff <(echo "$said") - <<'EXPECTED'
DeepseekV3ForCausalLM, prompt of 12 tokens behind 6 of padding: same
DeepseekV32ForCausalLM, index_topk 64, prompt of 12 tokens behind 6 of padding: same
DeepseekV32ForCausalLM, index_topk 8, prompt of 12 tokens behind 6 of padding: DIFFERENT
EXPECTED
