"""A second look: is a part of a second base worth its part of the price? On the key-value lists of placement_designs.

    python -m benchmarks.second_look [--records 33]

`placements` reads the segments in one order (base A) and looks at them in others. A second base B is a second prefill.
A second look reads only a share of the segments' tokens again: they stand in B's places and see there what stands
before them, as the rest of A's keys and values do, and the suffix looks at B's order with these tokens renewed. A share
of 0 is a placement, a share of 1 the plain model in order B (which is checked). "most changed" takes the tokens whose
values differ most between A and B, in the mean over all layers: whoever picks them so has paid for B already, so a
choice that could be made beforehand will hardly do better. "drawn" takes them at random.

SmolLM2-135M-Instruct, float32, teacher-forced; B is A shifted by half. Writes results/second_look.json, which
`benchmarks.voting` puts on its page; brackets are 95 % bootstrap intervals over lists.
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.progress import track
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel

import fairpos
from benchmarks.attention_family import triple
from benchmarks.placement_designs import BASES, ENTROPY, heldout
from fairpos.backends.hf import HFBackend
from fairpos.backends.voting import pooled_steps
from fairpos.calibration.black_box import continued
from fairpos.calibration.samples import cyclic_views
from fairpos.files.items import Item
from fairpos.layout import Layout
from fairpos.metrics import bootstrap_interval, difference_interval
from fairpos.prompts import KEY_VALUE, render
from fairpos.tokenizing import continuation, tokenize

RESULTS = Path(__file__).parent / "results"
SHARES = (0.05, 0.15, 0.3, 0.5)
# What came of it, by 33 lists.
KEPT = [
    "What differs between two orders sits in few tokens: to read the most changed sixth again brings most of what a",
    "second base does, to read as many drawn ones nothing. But a second base itself can't be told from none here, and",
    "the tokens were chosen knowing both bases. Not built.",
]
CLOSE = 1e-3  # nats that a share of 1 may differ from the plain model


@dataclass(frozen=True)
class Read:
    """Prefix and segments as the plain model reads them in some order, each layer's tensors in base A's storage order.

    Attributes:
        keys: Rotated to the places of that order, (layers, Hkv, T, D).
        values: (layers, Hkv, T, D)
    """

    keys: Tensor
    values: Tensor


def places(layout: Layout, order: Sequence[int]) -> Tensor:
    """Where each token of prefix and segments stands in an order, (T,)."""
    found, place = list(range(layout.suffix_start)), layout.prefix_end
    for number in order:
        start, end = layout.spans[number]
        found[start:end] = range(place, place + end - start)
        place += end - start
    return torch.tensor(found)


def read_in(model: PreTrainedModel, ids: Tensor, stands: Tensor) -> Read:
    """The plain model's prefill of tokens that stand at these places."""
    order = stands.argsort()
    cache = model(ids[order][None], use_cache=True, logits_to_keep=1).past_key_values
    layers = [(layer.keys[0][:, stands], layer.values[0][:, stands]) for layer in cache.layers]
    return Read(torch.stack([k for k, _ in layers]), torch.stack([v for _, v in layers]))


def turned(model: PreTrainedModel, keys: Tensor, by: Tensor) -> Tensor:
    """Rotated keys (layers, Hkv, T, D), each moved by so many positions (T,)."""
    cos, sin = model.model.rotary_emb(keys, by[None])  # (1, T, D)
    half = keys.shape[-1] // 2
    moved: Tensor = keys * cos + torch.cat([-keys[..., half:], keys[..., :half]], dim=-1) * sin
    return moved


def looked_at(
    model: PreTrainedModel, read: Read, stands: Tensor, renewed: Tensor, ids: Tensor, later: Tensor, asked: int
) -> Tensor:
    """Log-probabilities of the last `asked` tokens of what follows, as it looks at an order.

    Args:
        model: The model.
        read: Prefix and segments with keys turned to the places of that order.
        stands: These places, (T,).
        renewed: Numbers of the tokens that are read again in that order, (R,).
        ids: Prefix and segments, (T,).
        later: Suffix and reply, (L,).
        asked: Tokens of the reply.

    Returns:
        (asked, V)
    """
    cache = DynamicCache()
    for number, (keys, values) in enumerate(zip(read.keys, read.values, strict=True)):
        cache.update(keys[None].clone(), values[None].clone(), number)
    renewed = renewed[stands[renewed].argsort()]
    stale = torch.zeros(len(stands), dtype=torch.bool).index_fill(0, renewed, True)
    if len(renewed):
        own = stands[renewed]
        old = (stands[None] < own[:, None]) & ~stale  # (R, T)
        new = own[None] <= own[:, None]  # (R, R)
        seen = torch.cat([old, new], dim=1)
        cache = forward(model, ids[renewed], own, seen, cache).past_key_values
    count = len(later)
    behind = len(stands) + torch.arange(count)
    past = torch.cat([~stale, torch.ones(len(renewed), dtype=torch.bool)]).expand(count, -1)
    seen = torch.cat([past, torch.ones(count, count, dtype=torch.bool).tril()], dim=1)
    logits: Tensor = forward(model, later, behind, seen, cache).logits[0]
    return logits[-asked - 1 : -1].log_softmax(-1)


def forward(model: PreTrainedModel, ids: Tensor, positions: Tensor, seen: Tensor, cache: DynamicCache) -> Any:
    """One pass of the model under a mask of its own, (queries, keys)."""
    mask = torch.zeros(seen.shape).masked_fill(~seen, float("-inf"))[None, None]
    return model(ids[None], position_ids=positions[None], attention_mask=mask, past_key_values=cache, use_cache=True)


def trial(backend: HFBackend, sample: Item) -> dict[str, list[float]]:
    """Arm -> [log-probability per token, exact match] of one list."""
    model = backend.model
    prompt = render(cyclic_views(sample, "answer")[0].canonical(), KEY_VALUE)
    layout = tokenize(prompt, backend.tokenizer)
    reply = continuation(continued(prompt, sample.accepted[0]), backend.tokenizer)
    end, tokens = layout.suffix_start, torch.tensor(reply)
    ids = torch.tensor(layout.input_ids[:end])
    later = torch.tensor([*layout.input_ids[end:], *reply])
    here, there = (places(layout, BASES[name]) for name in ("content", "half shift"))
    one, other = read_in(model, ids, here), read_in(model, ids, there)
    moved = Read(turned(model, one.keys, there - here), one.values)
    changed = (one.values - other.values).norm(dim=-1) / one.values.norm(dim=-1)  # (layers, Hkv, T)
    candidates = torch.arange(layout.prefix_end, end)
    by_change = candidates[changed.mean(dim=(0, 1))[candidates].argsort(descending=True)]
    drawn = torch.tensor(random.Random(sample.id).sample(candidates.tolist(), len(candidates)))

    def look(read: Read, stands: Tensor, renewed: Tensor) -> Tensor:
        return looked_at(model, read, stands, renewed, ids, later, len(reply))

    base, second = look(one, here, candidates[:0]), look(other, there, candidates[:0])
    whole = look(moved, there, candidates)
    if (whole - second).abs().max() > CLOSE:
        raise AssertionError(f"all tokens read again differ from order B by {(whole - second).abs().max():.2g}")
    looks = {"placement": look(moved, there, candidates[:0])}
    for share in SHARES:
        count = round(share * len(candidates))
        looks[f"{share:.0%} most changed"] = look(moved, there, by_change[:count])
        looks[f"{share:.0%} drawn"] = look(moved, there, drawn[:count])
    looks["second base"] = second
    alone = {"base A": base} | {f"{name}, alone": rows for name, rows in looks.items()}
    votes = {f"A and {name}": pooled_steps(torch.stack([base, rows]), ENTROPY) for name, rows in looks.items()}
    return {
        name: [float(rows.gather(1, tokens[:, None]).mean()), float((rows.argmax(-1) == tokens).all())]
        for name, rows in {**alone, **votes}.items()
    }


def section() -> list[str]:
    """What `benchmarks.voting` writes on its page; empty where nothing was measured."""
    path = RESULTS / "second_look.json"
    if not path.exists():
        return []
    found = json.loads(path.read_text(encoding="utf-8"))
    lines = [
        "## A second look",
        "",
        f"`python -m benchmarks.second_look`, {found['lists']} of the same lists: the vote of base A in its own order "
        "with a look at B's order in",
        "which a share of the segments' tokens was read again; differences from a look that renews nothing.",
        "",
        "| read again, by B's places | exact match | log-probability | difference |",
        "|---|---|---|---|",
    ]
    for name, arm in found["arms"].items():
        if name.startswith("A and "):
            words = {"placement": "nothing (a placement)", "second base": "all (a second base)"}
            cells = [words.get(name[6:], name[6:]), f"{arm['exact'][0]:.3f}", _bracketed(arm["log_prob"])]
            lines.append("| " + " | ".join([*cells, _bracketed(arm["gain"], "+")]) + " |")
    return [*lines, "", *KEPT, ""]


def _bracketed(values: Sequence[float], sign: str = "") -> str:
    estimate, low, high = values
    return f"{estimate:{sign}.3f} [{low:{sign}.3f}, {high:{sign}.3f}]"


def summary(rows: Sequence[Mapping[str, Sequence[float]]]) -> dict[str, dict[str, list[float]]]:
    """Arm -> exact match, log-probability, and its difference from one base with a placement beside it."""
    base = [row["A and placement"][0] for row in rows]
    return {
        name: {
            "exact": triple(bootstrap_interval([row[name][1] for row in rows])),
            "log_prob": triple(bootstrap_interval([row[name][0] for row in rows])),
            "gain": triple(difference_interval([row[name][0] for row in rows], base)),
        }
        for name in rows[0]
    }


def main() -> None:
    """Measures, prints and writes results/second_look.json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, default=33)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    backend = fairpos.load("smollm2", device="cpu").backend
    assert isinstance(backend, HFBackend)
    with torch.inference_mode():
        rows = [trial(backend, sample) for sample in track(heldout(options.records))]
    found = summary(rows)
    for name, figures in found.items():
        print(f"{name:32} {figures['exact'][0]:.3f}  {figures['log_prob'][0]:.3f}  {figures['gain']}")
    text = json.dumps({"lists": len(rows), "arms": found}, indent=1)
    (RESULTS / "second_look.json").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
