"""How many operators a layer dispatches, by the number of segments: what a device that runs them by itself waits for.

    python -m benchmarks.operators [--segments 2,10,40] [--batch 1,8]

Counted with TorchDispatchMode inside of the decoder layers of a tiny Llama (4 layers, float32), on a CPU, for a prefill
and for the second token after it; what is made once a prompt counts where it is made, in the first layer. Segments have
5 to 9 tokens, the prompts of a batch start at different ones of these lengths. Two ways of computing segments
(`fairpos.attention.segments`): at once, as on a device, and piece by piece, as on a CPU. Waits are operators for which
the host needs a value or a shape from the device.

Writes results/operators.json and the table in docs/performance.md.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import PreTrainedModel

from benchmarks.pages import fill
from fairpos.attention.cache import kept_in
from fairpos.attention.seam import seam_of
from fairpos.layout import Layout
from fairpos.methods.catalogue import parse
from tests.tiny_models import VOCAB, tiny_model

RESULTS = Path(__file__).parent / "results"
METHODS = ("set_based", "ape", "graph_kv", "pine", "placements:views=4")
LENGTHS = (7, 5, 9, 6)
PREFIX, SUFFIX = 4, 6
LIMIT = 1.5  # of the count at the fewest segments
WAITS = ("_local_scalar_dense", "nonzero", "masked_select", "unique", "item", "is_nonzero", "equal")


class OperatorsInLayers(TorchDispatchMode):
    """Counts operators while a layer runs."""

    def __init__(self) -> None:
        super().__init__()
        self.inside = False
        self.count = 0
        self.waits: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Every operator comes by here."""
        if self.inside:
            self.count += 1
            name = func.overloadpacket.__name__
            if name in WAITS or (name == "index" and any(_is_mask(index) for index in args[1])):
                self.waits.append(name)
        return func(*args, **(kwargs or {}))

    @contextmanager
    def watching(self, layers: Sequence[nn.Module]) -> Iterator[OperatorsInLayers]:
        """Counts in these layers."""

        def enter(*_: object) -> None:
            self.inside = True

        def leave(*_: object) -> None:
            self.inside = False

        handles = [layer.register_forward_pre_hook(enter) for layer in layers]
        handles += [layer.register_forward_hook(leave) for layer in layers]
        try:
            with self:
                yield self
        finally:
            for handle in handles:
                handle.remove()


@dataclass(frozen=True)
class Row:
    """Operators of a forward pass, divided by its layers; of placements, which reads the segments before, of both."""

    method: str
    at_once: bool
    batch: int
    segments: int
    prefill: float
    token: float
    waits: int


def layouts(segments: int, batch: int) -> list[Layout]:
    """Prompts of random tokens whose segments differ in length."""
    draw = torch.Generator().manual_seed(segments)
    found = []
    for row in range(batch):
        spans, cursor = [], PREFIX
        for number in range(segments):
            length = LENGTHS[(number + row) % len(LENGTHS)]
            spans.append((cursor, cursor + length))
            cursor += length
        ids = torch.randint(VOCAB, (cursor + SUFFIX,), generator=draw).tolist()
        found.append(Layout.of(ids, spans).canonical())
    return found


def count_operators(model: PreTrainedModel, methods: str, segments: int, batch: int, at_once: bool) -> Row:
    """One method in one setting; the call before it has filled what is kept for the model."""
    [method] = parse(methods)
    layers = model.base_model.layers
    new = torch.full((batch, 1), 7)

    def run(watched: OperatorsInLayers) -> tuple[int, int]:
        attention = method.attend(layouts(segments, batch))
        assert attention is not None
        attention.at_once = at_once
        with torch.no_grad(), seam_of(model).call(attention, method.name, 2) as cache, watched.watching(layers):
            attention.begin(model, cache)
            rows, own = attention.batch, cache.get_seq_length()
            model(rows.input_ids(0)[:, own:], attention_mask=rows.attention_mask(), **kept_in(cache), use_cache=True)
            mask, prefill = rows.attention_mask(), watched.count
            for _ in range(2):
                watched.count = 0
                mask = torch.cat([mask, mask.new_ones(len(mask), 1)], dim=1)
                step = new.expand(len(mask), 1) if len(new) != len(mask) else new
                model(step, attention_mask=mask, **kept_in(cache), use_cache=True)
            return prefill, watched.count

    run(OperatorsInLayers())
    watched = OperatorsInLayers()
    prefill, token = run(watched)
    return Row(method.name, at_once, batch, segments, prefill / len(layers), token / len(layers), len(watched.waits))


def growth(rows: Sequence[Row], what: str) -> float:
    """The count at the most segments, in counts at the fewest."""
    ordered = sorted(rows, key=lambda row: row.segments)
    return float(getattr(ordered[-1], what) / getattr(ordered[0], what))


def markdown(found: Sequence[Row]) -> str:
    """What docs/performance.md shows."""
    sizes = sorted({row.segments for row in found})
    shown = "/".join(map(str, sizes))
    lines = [
        f"| operators a layer at {shown} segments | batch | prefill | {sizes[-1]} / {sizes[0]} | token "
        f"| {sizes[-1]} / {sizes[0]} | waits |",
        "|---|---|---|---|---|---|---|",
    ]
    for method, at_once, batch in dict.fromkeys((row.method, row.at_once, row.batch) for row in found):
        rows = [row for row in found if (row.method, row.at_once, row.batch) == (method, at_once, batch)]
        cells = []
        for what in ("prefill", "token"):
            cells += [" / ".join(f"{getattr(row, what):.0f}" for row in rows), f"{growth(rows, what):.2f}"]
        name = f"{method}, {'at once' if at_once else 'piece by piece'}"
        waits = " / ".join(str(row.waits) for row in rows)
        lines.append(f"| {name} | {batch} | {' | '.join(cells)} | {waits} |")
    return "\n".join(lines)


def main() -> None:
    """Counts, prints, writes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--segments", default="2,10,40")
    parser.add_argument("--batch", default="1,8")
    options = parser.parse_args()
    model = tiny_model("llama", torch.float32)
    sizes, batches = ([int(n) for n in text.split(",")] for text in (options.segments, options.batch))
    found = [
        count_operators(model, methods, segments, batch, at_once)
        for methods in METHODS
        for at_once in (True, False)
        for batch in batches
        # Placements reads prompts one by one, and has one way of doing it.
        if not methods.startswith("placements") or (at_once and batch == 1)
        for segments in sizes
    ]
    table = markdown(found)
    Console().print(table, markup=False)
    at_once = [row for row in found if row.at_once]
    record = {
        "date": time.strftime("%Y-%m-%d"),
        "torch": torch.__version__,
        "limit": LIMIT,
        "rows": [asdict(row) for row in found],
        "within_limit": all(
            growth([row for row in at_once if (row.method, row.batch) == key], what) <= LIMIT
            for key in {(row.method, row.batch) for row in at_once}
            for what in ("prefill", "token")
        ),
    }
    (RESULTS / "operators.json").write_text(json.dumps(record, indent=1) + "\n")
    fill("performance.md", "operators", table)


def _is_mask(index: Any) -> bool:
    return index is not None and index.dtype == torch.bool


if __name__ == "__main__":
    main()
