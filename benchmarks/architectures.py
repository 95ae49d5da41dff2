"""Every causal model of transformers, small and random: what the plain model and each attention method do on it.

    python -m benchmarks.architectures            all entries of MODEL_FOR_CAUSAL_LM; goes on where it was stopped
    python -m benchmarks.architectures llama phi  these anew
    python -m benchmarks.architectures --table    writes docs/models.md from what is there

One thread, a few seconds a model. Writes results/architectures.jsonl and docs/models.md. An outcome is

    right     logits as the reference has them (relative error below 1e-4, float32): for every method the dense one of
              tests/reference, for set_based the model's own attention under a 4D mask, too; tokens as it decodes them;
              every order the same bits, for methods that are free of it; a batch of three equals single prompts
    refused   with the reason
    wrong     none of the two: a fault
    raw       an exception that is no FairposError: a fault

Random weights prove arithmetic, not quality.
"""

from __future__ import annotations

import argparse
import json
import signal
import time
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import transformers
from rich.console import Console
from torch import Tensor
from transformers import PreTrainedModel

from fairpos.backends.base import Decoding
from fairpos.backends.hf import HFBackend
from fairpos.errors import FairposError
from fairpos.layout import Layout
from fairpos.methods.base import Method
from fairpos.methods.catalogue import parse
from tests.architectures import (
    NotBuilt,
    entries,
    plain_logits,
    random_prompt,
    set_based_logits,
    small_model,
)
from tests.reference import ape, graph_kv, ms_poe, pine, set_based, string

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "architectures.jsonl"
TABLE = ROOT / "docs" / "models.md"
LIMIT = 240  # seconds for one model
CLOSE = 1e-4
TOKENS = 16  # that are decoded

# Methods, their references, and options of those.
METHODS: dict[str, tuple[Any, dict[str, Any]]] = {
    "set_based": (set_based, {}),
    "pine": (pine, {}),
    "ape": (ape, {}),
    "graph_kv": (graph_kv, {}),
    "ms_poe": (ms_poe, {}),
    "string:S=12,W=4": (string, {"S": 12, "W": 4}),
    "positional_hidden:channel=3,factor=1.0000001": (None, {}),
}
NAMES = [text.partition(":")[0] for text in METHODS]

# What the table can't say.
NOTES = [
    "Two things to know. A router on the edge between two experts may send a token elsewhere in half precision, in "
    "the plain model as under a method: with Llama 4 and 1 of 4 experts in bfloat16, one segment under `set_based` or "
    "`rotor` can be .38 off the plain model, and the plain model .31 off itself in float32; with 1 of 1 or 4 of 4 "
    "experts the same 12 seeds are within .04. And an index that selects keys (DeepSeek V3.2, GLM DSA) ties where "
    "all its heads say zero; which of the tied keys it takes depends on the length, so with 2 such heads transformers' "
    "own decoding differs from reading everything again. With 32 heads all agree.",
    "",
]


class _Tokenizer:
    """All that prompts in tokens need of one."""

    pad_token_id, eos_token_id = 0, None


def examine(model: PreTrainedModel) -> dict[str, str]:
    """The outcome of "none" and of each method."""
    backend = HFBackend(model, _Tokenizer())  # type: ignore[arg-type]
    found = {"none": outcome(lambda: check_plain(model, backend))}
    refusal = outcome(lambda: check_seam(model))
    for text, (reference, options) in METHODS.items():
        name = text.partition(":")[0]
        [method] = parse(text)
        if refusal != "right":
            found[name] = refusal
        else:
            found[name] = outcome(lambda m=method, r=reference, o=options: check_method(model, backend, m, r, o))  # type: ignore[misc]
    return found


def outcome(check: Callable[[], str]) -> str:
    """What a check says, or what it raises."""
    try:
        return check()
    except FairposError as error:
        return f"refused: {error}"
    except Exception as error:  # exactly what is looked for
        return f"raw: {type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"


def check_seam(model: PreTrainedModel) -> str:
    """The seam's proof alone."""
    from fairpos.attention.seam import seam_of

    seam_of(model).verify()
    return "right"


def check_plain(model: PreTrainedModel, backend: HFBackend) -> str:
    """The plain model against itself: logits, tokens, a batch against single prompts.

    Tokens are those of stock `generate`, or where reading everything anew at each step gives others, those.
    """
    ids, spans = random_prompt()
    layout = Layout.of(ids, spans)
    if (error := distance(backend.logits([layout])[0], plain_logits(model, ids)[-1])) > CLOSE:
        return f"wrong: logits differ by {error:.2g}"
    tokens = backend.generate([layout], None, Decoding(max_new_tokens=TOKENS))[0]
    stock = stock_tokens(model, ids)
    if tokens not in (stock, plain_tokens(model, ids, TOKENS)):
        return f"wrong: {tokens} where generate gives {stock}"
    return check_batch(backend, None)


def stock_tokens(model: PreTrainedModel, ids: list[int]) -> list[int] | None:
    """Greedy tokens by `generate`; None where transformers can't.

    What the model's own generation config does beside that (it forces a last token, say) is not the caller's word.
    """
    habits, model.generation_config = model.generation_config, transformers.GenerationConfig()
    try:
        with torch.no_grad():
            return model.generate(
                torch.tensor([ids]), attention_mask=torch.ones(1, len(ids), dtype=torch.long), do_sample=False,
                max_new_tokens=TOKENS, pad_token_id=0, use_cache=True,
            )[0, len(ids) :].tolist()  # fmt: skip
    except Exception:
        return None
    finally:
        model.generation_config = habits


def plain_tokens(model: PreTrainedModel, ids: list[int], count: int) -> list[int]:
    """Greedy tokens by reading everything again at every step: what a cache must not change."""
    grown = list(ids)
    for _ in range(count):
        grown.append(int(plain_logits(model, grown)[-1].argmax()))
    return grown[len(ids) :]


def check_method(model: PreTrainedModel, backend: HFBackend, method: Method, reference: Any, options: Any) -> str:
    """One method against its references."""
    ids, spans = random_prompt()
    layout = Layout.of(ids, spans)
    read = layout.canonical() if method.order_free else layout
    logits = backend.logits([layout], method)[0]
    tokens = backend.generate([layout], method, Decoding(max_new_tokens=TOKENS))[0]
    canonical = list(read.input_ids), list(read.spans)
    expected = {"the model": plain_logits(model, ids)[-1]} if reference is None else {}
    if reference is not None:
        expected["its reference"] = reference.next_token_logits(model, *canonical, **options)
        decoded = reference.generate_ids(model, *canonical, TOKENS, **options)
        if tokens != decoded:
            return f"wrong: {tokens} where the reference decodes {decoded}"
    if method.name == "set_based" and (masked := set_based_logits(model, *canonical)) is not None:
        expected["a 4D mask"] = masked[-1]
    for whose, theirs in expected.items():
        if not (error := distance(logits, theirs)) < CLOSE:
            return f"wrong: logits differ from {whose} by {error:.2g}"
    if method.order_free:
        pieces = [ids[start:stop] for start, stop in spans]
        turned = ids[: spans[0][0]] + [token for piece in pieces[::-1] for token in piece] + ids[spans[-1][1] :]
        stops = [spans[0][0] + sum(map(len, pieces[::-1][: i + 1])) for i in range(len(pieces))]
        other = Layout.of(turned, list(zip([spans[0][0], *stops[:-1]], stops, strict=True)))
        if not torch.equal(logits, backend.logits([other], method)[0]):
            return "wrong: another order gives other logits"
    return check_batch(backend, method)


def check_batch(backend: HFBackend, method: Method | None) -> str:
    """Three prompts of different shapes at once, and each alone."""
    layouts = [Layout.of(*random_prompt(seed, n)) for seed, n in ((11, (5, 9)), (12, (3, 4, 8)), (13, (12, 2, 6, 4)))]
    together = backend.logits(layouts, method)
    alone = torch.cat([backend.logits([layout], method) for layout in layouts])
    if not (error := distance(together, alone)) < CLOSE:
        return f"wrong: in a batch, logits differ by {error:.2g}"
    new = [backend.generate(each, method, Decoding(max_new_tokens=4)) for each in (layouts, *([x] for x in layouts))]
    return "right" if new[0] == [tokens for alone in new[1:] for tokens in alone] else "wrong: in a batch, other tokens"


def distance(found: Tensor, expected: Tensor) -> float:
    """Relative: the norm of the difference over the norm of what is expected."""
    return float((found.double() - expected.double()).norm() / expected.double().norm())


def record(model_type: str) -> dict[str, Any]:
    """Everything about one entry."""
    try:
        model = small_model(model_type)
    except NotBuilt as error:
        return {"model_type": model_type, "class": "", "not_built": str(error)}
    return {"model_type": model_type, "class": type(model).__name__, **examine(model)}


def known() -> dict[str, dict[str, Any]]:
    """What earlier runs found, by model type."""
    if not RESULTS.exists():
        return {}
    return {r["model_type"]: r for r in map(json.loads, RESULTS.read_text().splitlines())}


def run(wanted: list[str]) -> None:
    """Examines entries and writes after each."""
    console, found = Console(stderr=True), known()
    todo = wanted or [name for name in entries() if name not in found]

    def stop(*_: object) -> None:
        raise TimeoutError(f"more than {LIMIT} s")

    signal.signal(signal.SIGALRM, stop)
    for number, name in enumerate(todo, start=1):
        start = time.monotonic()
        signal.alarm(LIMIT)
        try:
            found[name] = record(name)
        except TimeoutError as error:
            found[name] = {"model_type": name, "class": "", "not_built": str(error)}
        finally:
            signal.alarm(0)
        RESULTS.write_text("".join(json.dumps(found[each]) + "\n" for each in sorted(found)))
        console.print(f"{number}/{len(todo)} {name}, {time.monotonic() - start:.1f} s: {in_short(found[name])}")


def in_short(result: dict[str, Any]) -> str:
    """A line on one entry."""
    if "not_built" in result:
        return f"not built: {result['not_built'][:100]}"
    groups: dict[str, list[str]] = {}
    for name in NAMES:
        groups.setdefault(result[name], []).append(name)
    said = "; ".join(f"{', '.join(names)} {what[:160]}" for what, names in groups.items())
    return f"none {result['none'][:120]}; {said}"


def kind(said: str) -> str:
    """right, refused, wrong or raw."""
    return said.partition(":")[0]


def table_of(rows: list[dict[str, Any]]) -> list[str]:
    """docs/models.md, line by line."""
    rows = sorted(rows, key=lambda row: row["model_type"])
    built = [row for row in rows if "not_built" not in row]
    none = Counter(kind(row["none"]) for row in built)
    some = [row for row in built if any(row[name] == "right" for name in NAMES)]
    faults = sum(kind(row[name]) in ("wrong", "raw") for row in built for name in ("none", *NAMES))
    lines = [
        "# Models",
        "",
        "Written by `python -m benchmarks.architectures`; do not edit. Every causal model of transformers "
        f"{transformers.__version__}, small and with random weights: that proves arithmetic, not quality. The command "
        "says what counts as right.",
        "",
        f"{len(rows)} entries, {len(built)} of them built. The plain model (`none`, and with it every method that "
        f"reorders the input or combines outputs): {none['right']} right, {none['refused']} refused, "
        f"{none['wrong'] + none['raw']} faults. Attention methods: right on {len(some)}, refused on "
        f"{len(built) - len(some)} with the reason below; {faults} faults in all.",
        "",
        *NOTES,
        "| model type | class | `none` | attention methods that are right | reason for the others |",
        "|---|---|---|---|---|",
    ]
    for row in rows:
        if "not_built" in row:
            lines.append(f"| {row['model_type']} | | | | not built: {cell(row['not_built'])} |")
            continue
        right = [name for name in NAMES if row[name] == "right"]
        others: dict[str, list[str]] = {}
        for name in NAMES:
            if row[name] != "right":
                others.setdefault(row[name], []).append(name)
        reasons = "; ".join(
            (f"{', '.join(names)}: " if right else "") + cell(what.removeprefix("refused: "))
            for what, names in others.items()
        )
        said = "all" if len(right) == len(NAMES) else ", ".join(right)
        plain = row["none"] if row["none"] == "right" else cell(row["none"])
        lines.append(f"| {row['model_type']} | {row['class']} | {plain} | {said} | {reasons} |")
    return lines


def cell(text: str) -> str:
    """Text that a table can hold."""
    return text.replace("|", "\\|").replace("\n", " ")


def main() -> None:
    """Runs, then writes the table."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("model_types", nargs="*")
    parser.add_argument("--table", action="store_true")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    transformers.logging.set_verbosity_error()
    torch.set_num_threads(1)
    if not arguments.table:
        run(arguments.model_types)
    TABLE.write_text("\n".join(table_of(list(known().values()))) + "\n")


if __name__ == "__main__":
    main()
