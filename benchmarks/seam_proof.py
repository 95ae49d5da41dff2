"""Does the seam's proof tell right from wrong in bfloat16? 20 seeds a family, small random models.

    python -m benchmarks.seam_proof

Each model is proved as it is, which must succeed, and once more with a fault put in, which must be refused: layers that
don't rotate are rotated, the window is forgotten, keys are left as they are. Writes results/seam_proof.json.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any
from unittest import mock

import torch
import transformers
from rich.console import Console
from rich.table import Table

from fairpos.attention.layer import Layer
from fairpos.attention.rope import Rotary, RotatedPart
from fairpos.attention.seam import Seam
from fairpos.errors import UnsupportedModel
from tests.architectures import small_model

RESULTS = Path(__file__).parent / "results"
SEEDS = 20
WINDOW = {"sliding_window": 24}


@contextmanager
def everything_rotated() -> Iterator[None]:
    """As if every layer rotated like the first that does."""

    def learn(self: Rotary, index: int, start: int, stop: int, dim: int, _: Any) -> None:
        self.parts[index] = RotatedPart(0, dim, True) if start == stop else RotatedPart(start, stop, stop == dim)

    with mock.patch.object(Rotary, "learn_part", learn):
        yield


@contextmanager
def keys_left_alone() -> Iterator[None]:
    """As if keys had no positions."""

    with mock.patch.object(Layer, "rotate_new_keys", return_value=None):
        yield


@contextmanager
def windows_forgotten() -> Iterator[None]:
    """As if every layer saw everything."""
    with mock.patch("fairpos.attention.hooks._window_of", return_value=None):
        yield


Fault = Callable[[], Any]
FAMILIES: dict[str, tuple[dict[str, Any], Fault]] = {
    "cohere2": (WINDOW, everything_rotated),
    "cohere2_moe": (WINDOW, everything_rotated),
    "afmoe": (WINDOW, everything_rotated),
    "exaone4": (WINDOW, everything_rotated),
    "exaone_moe": (WINDOW, everything_rotated),
    "smollm3": ({}, everything_rotated),
    "llama": ({}, keys_left_alone),
    "qwen3": ({}, keys_left_alone),
    "gemma2": (WINDOW, windows_forgotten),
    "mistral": (WINDOW, windows_forgotten),
    "olmo2": ({}, keys_left_alone),
}


def accepted(model: transformers.PreTrainedModel, fault: Fault) -> bool:
    """Whether the proof holds with a fault in force."""
    with fault():
        try:
            Seam(model).verify()
        except UnsupportedModel:
            return False
    return True


def main() -> None:
    """Measures, prints, writes."""
    warnings.simplefilter("ignore")
    transformers.logging.set_verbosity_error()
    torch.set_num_threads(1)
    table, rows = Table(title=f"The proof, {SEEDS} seeds"), []
    for column in ("family", "fault", "right ones refused", "wrong ones accepted"):
        table.add_column(column)
    for name, (options, fault) in FAMILIES.items():
        refused = taken = 0
        for seed in range(SEEDS):
            model = small_model(name, seed=seed, dtype=torch.bfloat16, **options)
            refused += not accepted(model, nullcontext)
            taken += accepted(model, fault)
        row = {"family": name, "fault": fault.__name__, "right_ones_refused": refused, "wrong_ones_accepted": taken}
        rows.append(row)
        table.add_row(*map(str, row.values()))
        Console(stderr=True).print(row)
    Console().print(table)
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "seam_proof.json").write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
