"""`import fairpos` is light: no torch, no transformers, no HTTP client."""

import subprocess
import sys

HEAVY = (
    *("torch", "transformers", "sentence_transformers", "httpx2", "matplotlib", "fastapi"),
    *("langchain_core", "llama_index", "haystack", "inspect_ai", "lm_eval", "mcp"),
)


def test_importing_fairpos_loads_nothing_heavy():
    code = (
        "import sys, fairpos, fairpos.cli.commands, fairpos.methods, fairpos.rankers, fairpos.metrics\n"
        f"print([name for name in {HEAVY!r} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
