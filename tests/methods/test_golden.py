"""The published implementations' values on SmolLM2; see golden/README.md for their provenance."""

import itertools
import json
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch

import fairpos
from fairpos import FairModel
from fairpos.attention.cache import kept_in
from fairpos.methods.ms_poe import MsPoe
from fairpos.methods.positional_hidden import PositionalHidden

GOLDEN = Path(__file__).parents[1] / "golden"
TOLERANCE = 1e-4  # float32, two implementations


@cache
def golden(name: str) -> dict[str, np.ndarray]:
    with np.load(GOLDEN / f"{name}_smollm2.npz") as arrays:
        return dict(arrays)


def prompt(name: str) -> list[int]:
    return json.loads((GOLDEN / "ms_poe_prompts.json").read_text())[name]["ids"]


def worst(logits: torch.Tensor, expected: np.ndarray) -> float:
    return float((logits.double() - torch.as_tensor(expected).double()).abs().max())


def without_end(fair: FairModel, tokens: np.ndarray) -> list[int]:
    """Golden tokens up to the first end-of-text."""
    ends = fair.model.generation_config.eos_token_id
    stop = {ends} if isinstance(ends, int) else set(ends)
    return list(itertools.takewhile(lambda token: token not in stop, tokens.tolist()))


@pytest.fixture(scope="session")
def smollm2_float64() -> FairModel:
    """For the one case in which an attention weight lies 1e-7 from Ms-PoE's threshold; see golden/README.md."""
    return fairpos.load("smollm2", device="cpu", dtype="float64")


@pytest.mark.parametrize("case", ["a_docs3", "b_docs3_perm", "e_judge2"])
def test_pine(smollm2, case):
    arrays = golden("pine")
    ids = arrays[f"{case}__input_ids"].tolist()
    spans = [tuple(span) for span in arrays[f"{case}__doc_spans"].tolist()]
    assert worst(smollm2.next_token_logits(ids, spans, "pine"), arrays[f"{case}__logits_last"]) < TOLERANCE
    assert smollm2.generate_ids(ids, spans, "pine") == without_end(smollm2, arrays[f"{case}__greedy16"])


@pytest.mark.parametrize("case", ["docs3", "docs3_perm"])
def test_set_based(smollm2, case):
    arrays = golden("sbp")
    ids = arrays[f"{case}/input_ids"].tolist()
    _, *spans, _ = itertools.pairwise(arrays[f"{case}/bounds"].tolist())
    assert worst(smollm2.next_token_logits(ids, spans, "set_based"), arrays[f"{case}/logits_last"]) < TOLERANCE
    expected = without_end(smollm2, arrays[f"{case}/greedy"])
    assert smollm2.generate_ids(ids, spans, "set_based") == expected


MS_POE = {
    "vanilla": MsPoe(1.0, 1.0),
    "gqa_group": MsPoe(),
    "gqa_ref": MsPoe(assignment="published"),
    "mha_rank": MsPoe(per_head=True),
    "mha_ref": MsPoe(assignment="published", per_head=True),
}


@pytest.mark.parametrize("name", ["short60", "chat_docs"])
@pytest.mark.parametrize("variant", MS_POE)
def test_ms_poe(request, variant, name):
    precise = (variant, name) == ("gqa_ref", "short60")
    fair = request.getfixturevalue("smollm2_float64" if precise else "smollm2")
    logits = fair.next_token_logits(prompt(name), [], MS_POE[variant])
    assert worst(logits, golden("ms_poe")[f"{variant}__{name}__last_logits"]) < TOLERANCE


@pytest.mark.parametrize(("name", "variant"), [("gqa", "gqa_ref"), ("mha", "mha_ref"), ("vanilla", "vanilla")])
def test_ms_poe_published_code(request, name, variant):
    """Its greedy tokens, and the logits after one and after fifteen of them."""
    fair = request.getfixturevalue("smollm2_float64" if name == "gqa" else "smollm2")
    arrays, method, ids = golden("ms_poe_published"), MS_POE[variant], prompt("short60")
    greedy = arrays[f"{name}__short60__greedy16"].tolist()
    assert worst(fair.next_token_logits(ids, [], method), arrays[f"{name}__short60__last_logits"]) < TOLERANCE
    assert fair.generate_ids(ids, [], method) == without_end(fair, np.array(greedy))
    if name == "vanilla":
        return
    with fair.attending(ids, [], method) as (tokens, cache):
        for step, token in enumerate([None, *greedy]):
            if token is not None:
                tokens = torch.tensor([[token]])
            logits = fair.model(tokens, **kept_in(cache), use_cache=True, logits_to_keep=1).logits[0, -1]
            if step in (1, 15):
                assert worst(logits, arrays[f"{name}__short60__decode{step}_logits"]) < TOLERANCE


@pytest.mark.parametrize("factor", [1, 0, -1])
def test_positional_hidden(smollm2, factor):
    arrays = {key: value for key, value in golden("positional_hidden").items() if key.startswith(f"f{factor}__")}
    ids = arrays[f"f{factor}__short60__input_ids"].tolist()
    method = PositionalHidden(channel=8, layers="9-24", factor=factor)
    assert worst(smollm2.next_token_logits(ids, [], method), arrays[f"f{factor}__short60__last_logits"]) < TOLERANCE
    greedy = arrays[f"f{factor}__short60__greedy16"]
    assert smollm2.generate_ids(ids, [], method) == without_end(smollm2, greedy)
    with smollm2.attending(ids, [], method) as (tokens, cache):
        smollm2.model(tokens, **kept_in(cache), use_cache=True)
        new = torch.tensor([[int(greedy[0])]])
        logits = smollm2.model(new, **kept_in(cache), use_cache=True).logits[0, -1]
    assert worst(logits, arrays[f"f{factor}__short60__decode1_logits"]) < TOLERANCE
