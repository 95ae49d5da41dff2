#!/usr/bin/env bash
# lightning-ir 0.0.6 (the Set-Encoder's own code), transformers 4.57.6, Python 3.11: a Set-Encoder fills every set up to
# its `depth` (100) with states drawn from a normal distribution, in evaluation mode, too, and from torch's global
# generator: `sample_missing_docs` is true by default and in the published checkpoints. So a model that is said to be
# permutation-invariant scores one set of passages otherwise on every run, and ranks it otherwise. Four passages, twenty
# runs of each, random weights:
#
#   as by default: more than one scoring True, more than one ranking True
#   sample_missing_docs=False: more than one scoring False, more than one ranking False
#
# Without fairpos. Exits with another status than 0 where that changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/python" -m pip install --quiet 'lightning-ir==0.0.6' 'transformers==4.57.6'
cd "$folder"
export HF_HUB_OFFLINE=1
cat > drawn.py <<'PYTHON'
import torch
from lightning_ir.models import SetEncoderConfig, SetEncoderModel, SetEncoderTokenizer
from transformers import ElectraConfig, ElectraModel, ElectraTokenizerFast

words = "[PAD] [UNK] [CLS] [SEP] [MASK] the moon is red mars bread water salt loom who made .".split()
with open("vocab.txt", "w") as file:
    file.write("\n".join(words))
ElectraTokenizerFast(vocab_file="vocab.txt").save_pretrained("backbone")
torch.manual_seed(0)
sizes = {"embedding_size": 16, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
config = ElectraConfig(vocab_size=len(words), intermediate_size=32, initializer_range=0.5, **sizes)
ElectraModel(config).save_pretrained("backbone")
tokenizer = SetEncoderTokenizer.from_pretrained("backbone")
passages = ["the moon is red .", "bread", "mars is red", "salt water"]
for name, settings in (("as by default", {}), ("sample_missing_docs=False", {"sample_missing_docs": False})):
    torch.manual_seed(1)
    model = SetEncoderModel.from_pretrained("backbone", config=SetEncoderConfig(**settings)).eval()
    scorings, rankings = set(), set()
    for _ in range(20):
        encoding = tokenizer.tokenize(["who made the moon"], passages, [4], padding=True, return_tensors="pt")["encoding"]
        with torch.no_grad():
            scores = model(encoding).scores
        scorings.add(tuple(scores.tolist()))
        rankings.add(tuple(scores.argsort(descending=True).tolist()))
    print(f"{name}: more than one scoring {len(scorings) > 1}, more than one ranking {len(rankings) > 1}")
PYTHON
"$folder/env/bin/python" drawn.py 2> "$folder/log" | tee seen || { tail "$folder/log"; exit 1; }
diff seen - <<'EXPECTED'
as by default: more than one scoring True, more than one ranking True
sample_missing_docs=False: more than one scoring False, more than one ranking False
EXPECTED
