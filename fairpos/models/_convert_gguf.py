"""Turn a GGUF file into an ordinary model folder: config, tokenizer with its chat template, float32 safetensors.

    python -P _convert_gguf.py FILE.gguf FOLDER

`fairpos.models.embedded` runs this file as a process of its own: the conversion's memory, its progress bars and its
imports stay out of the caller's process; neither a default device nor a warning filter set there changes the result.
"""

import sys
from pathlib import Path


def convert(gguf: Path, out: Path) -> None:
    """De-quantise `gguf` through transformers and save model and tokenizer to the existing folder `out`.

    Costs some 20 s on one core and 1.2 GB of memory for 135 million parameters; most of it is reading the vocabulary.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
    # Without `dequantize`, a machine with matching kernels would keep the blocks packed: such a model can't be saved.
    model = AutoModelForCausalLM.from_pretrained(
        gguf.parent, gguf_file=gguf.name, dtype=torch.float32, quantization_config=GgufConfig(dequantize=True)
    )
    # Not every release of transformers drops these itself, and it saves no model that says it is quantised.
    model.hf_quantizer = None
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    model.save_pretrained(out)
    tokenizer.save_pretrained(out)


if __name__ == "__main__":
    convert(Path(sys.argv[1]), Path(sys.argv[2]))
