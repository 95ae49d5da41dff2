"""Records what lightning-ir's own Set-Encoder gives on the small checkpoints of tests/set_encoder_checkpoint.py.

    python -m venv oracle && oracle/bin/pip install 'lightning-ir==0.0.6' 'transformers==4.57.6'
    oracle/bin/python -m tests.golden.record_set_encoder > tests/golden/set_encoder.json

It isn't installed where the tests run: its release wants other versions. Nothing of fairpos is imported.
"""

import json
import sys
import tempfile
from pathlib import Path

import torch
from lightning_ir.models import SetEncoderModel, SetEncoderTokenizer

from tests.set_encoder_checkpoint import KINDS, PASSAGES, QUERY, write_checkpoint


def record() -> dict[str, list[float]]:
    """Scores of all four passages and of the first two, by checkpoint."""
    found = {}
    with tempfile.TemporaryDirectory() as work:
        for kind in KINDS:
            for extra in (True, False):
                folder = str(write_checkpoint(Path(work) / f"{kind}{extra}", kind, extra=extra))
                tokenizer = SetEncoderTokenizer.from_pretrained(folder)
                for count in (len(PASSAGES), 2):
                    model = SetEncoderModel.from_pretrained(folder).eval()
                    texts = PASSAGES[:count]
                    encoded = tokenizer.tokenize([QUERY], texts, [count], padding=True, return_tensors="pt")
                    with torch.no_grad():
                        scores = model(encoded["encoding"]).scores
                    found[f"{kind} {'INT' if extra else 'CLS'} {count}"] = scores.tolist()
    return found


if __name__ == "__main__":
    json.dump(record(), sys.stdout, indent=1)
