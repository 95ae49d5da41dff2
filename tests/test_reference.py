"""The references against the published implementations' values, against the plain models, and against each other."""

import itertools
import json
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from torch import Tensor
from transformers import PreTrainedModel

from .reference import ape, graph_kv, ms_poe, pine, positional_hidden, rotor, runner, set_based, string
from .tiny_models import TINY, VOCAB, WINDOWED, plain_logits, tiny_model, tiny_prompt

GOLDEN = Path(__file__).parent / "golden"
GOLDEN_TOLERANCE = 1e-4  # float32, two implementations
EXACT = 1e-10  # float64, the same sums in another order

tiny = cache(tiny_model)
every_model = pytest.mark.parametrize("name", TINY)


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    """Threads cost more than they save on tensors this small, and change the order of sums."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def difference(ours: Tensor, theirs: Tensor | np.ndarray) -> float:
    return float((ours.double() - torch.as_tensor(theirs).double()).abs().max())


def golden(name: str) -> dict[str, np.ndarray]:
    with np.load(GOLDEN / f"{name}_smollm2.npz") as arrays:
        return dict(arrays)


# --- The walk through the model, and the neutral settings of every method


@every_model
def test_the_walk_is_the_unmodified_model(name: str) -> None:
    model, (ids, _) = tiny(name), tiny_prompt()
    positions, visible = torch.arange(len(ids)), runner.causal(len(ids))

    def attend(layer: runner.Layer, x: Tensor) -> Tensor:
        return layer.attention(*layer.project(x), positions, positions, visible)

    assert difference(runner.run(model, ids, attend), plain_logits(model, ids)) < EXACT


@every_model
def test_exact_arithmetic_changes_nothing_but_rounding(name: str) -> None:
    ids, _ = tiny_prompt()
    stock = tiny_model(name, exact=False)
    with torch.no_grad():
        assert difference(plain_logits(tiny(name), ids), stock(torch.tensor([ids])).logits[0]) < 1e-4


ONE = [(5, 31)]  # all segment tokens of tiny_prompt() as a single segment
THREE = tiny_prompt()[1]
NextLogits = Callable[[PreTrainedModel, list[int]], Tensor]
NEUTRAL: dict[str, NextLogits] = {
    "pine, one segment": lambda m, ids: pine.next_token_logits(m, ids, ONE),
    "set_based, one segment": lambda m, ids: set_based.next_token_logits(m, ids, ONE),
    "set_based, two sets of one": lambda m, ids: set_based.next_token_logits(m, ids, [[(5, 12)], [(20, 31)]]),
    "ape, one segment, 1 and 1": lambda m, ids: ape.next_token_logits(m, ids, ONE, temperature=1, scale=1),
    "graph_kv, one segment, no target": lambda m, ids: graph_kv.next_token_logits(m, ids, ONE, sources={}),
    "ms_poe, ratio 1": lambda m, ids: ms_poe.next_token_logits(m, ids, r_min=1, r_max=1),
    "ms_poe, no layer": lambda m, ids: ms_poe.next_token_logits(m, ids, first_layer=4),
    "positional_hidden, factor 1": lambda m, ids: positional_hidden.next_token_logits(
        m, ids, dims=[3, 7], layers=[1, 2], factor=1.0
    ),
    "positional_hidden, no layer": lambda m, ids: positional_hidden.next_token_logits(m, ids, dims=[3], layers=[]),
    "string, S beyond the prompt": lambda m, ids: string.next_token_logits(m, ids),
    "string, S = W": lambda m, ids: string.next_token_logits(m, ids, S=10, W=10),
}
ACTIVE: dict[str, NextLogits] = {
    "pine": lambda m, ids: pine.next_token_logits(m, ids, THREE),
    "set_based": lambda m, ids: set_based.next_token_logits(m, ids, THREE),
    "set_based, two sets": lambda m, ids: set_based.next_token_logits(m, ids, [THREE[:2], [(24, 27), (27, 31)]]),
    "ape": lambda m, ids: ape.next_token_logits(m, ids, THREE),
    "graph_kv": lambda m, ids: graph_kv.next_token_logits(m, ids, THREE),
    **{
        f"ms_poe, {variant}": lambda m, ids, variant=variant: ms_poe.next_token_logits(m, ids, variant=variant)
        for variant in ("group", "mha_rank", "mha_ref", "gqa_ref")
    },
    "positional_hidden": lambda m, ids: positional_hidden.next_token_logits(m, ids, dims=[3, 7], layers=[1, 2]),
    "string": lambda m, ids: string.next_token_logits(m, ids, S=10, W=4),
    "string, attention factor": lambda m, ids: string.next_token_logits(m, ids, attention_factor=1.069),
}


@every_model
@pytest.mark.parametrize("setting", NEUTRAL)
def test_neutral_settings_are_the_unmodified_model(name: str, setting: str) -> None:
    model, (ids, _) = tiny(name), tiny_prompt()
    assert difference(NEUTRAL[setting](model, ids), plain_logits(model, ids)[-1]) < EXACT


@every_model
@pytest.mark.parametrize("setting", ACTIVE)
def test_every_method_moves_the_logits(name: str, setting: str) -> None:
    """So a test against these references, at a tolerance far below 0.05, can tell a method from the plain model."""
    model, (ids, _) = tiny(name), tiny_prompt()
    logits = ACTIVE[setting](model, ids)
    assert logits.shape == (VOCAB,)
    assert difference(logits, plain_logits(model, ids)[-1]) > 0.05


# --- Laws


def permuted(
    ids: list[int], spans: list[tuple[int, int]], order: tuple[int, ...]
) -> tuple[list[int], list[tuple[int, int]]]:
    """The prompt with its segments stored in another order."""
    pieces = [ids[slice(*spans[j])] for j in order]
    ends = list(itertools.accumulate(map(len, pieces), initial=spans[0][0]))
    together = list(itertools.chain.from_iterable(pieces))
    return ids[: spans[0][0]] + together + ids[spans[-1][1] :], list(itertools.pairwise(ends))


@every_model
@pytest.mark.parametrize("method", [pine, rotor, set_based, ape, graph_kv])
def test_segment_order_plays_no_part(name: str, method: ModuleType) -> None:
    model, (ids, spans) = tiny(name), tiny_prompt()
    expected = method.next_token_logits(model, ids, spans)
    for order in [(1, 0, 2), (2, 0, 1), (2, 1, 0)]:
        assert difference(method.next_token_logits(model, *permuted(ids, spans, order)), expected) < EXACT


@every_model
def test_the_set_based_family_agrees(name: str) -> None:
    model, (ids, spans) = tiny(name), tiny_prompt()
    expected = set_based.next_token_logits(model, ids, spans)
    assert difference(ape.next_token_logits(model, ids, spans, temperature=1, scale=1), expected) < EXACT
    assert difference(graph_kv.next_token_logits(model, ids, spans, sources={}), expected) < EXACT


@every_model
def test_the_stored_order_of_edges_plays_no_part_in_graph_kv(name: str) -> None:
    """Numbering the segments otherwise and the edges with them is the same graph."""
    model, (ids, spans) = tiny(name), tiny_prompt()
    expected = graph_kv.next_token_logits(model, ids, spans, sources={0: [2], 1: [0, 2]})
    new_number = {0: 1, 1: 2, 2: 0}  # stored in the order 2, 0, 1
    sources = {new_number[0]: [new_number[2]], new_number[1]: [new_number[0], new_number[2]]}
    stored = permuted(ids, spans, (2, 0, 1))
    assert difference(graph_kv.next_token_logits(model, *stored, sources=sources), expected) < EXACT
    assert difference(graph_kv.next_token_logits(model, ids, spans), expected) > 0.05


@pytest.mark.parametrize("name", WINDOWED)
def test_the_window_is_one_in_positions(name: str) -> None:
    """A token 18 indices before the last one is out of sight; set-based positions bring it to a distance of 2."""
    model, (ids, spans) = tiny(name), tiny_prompt(prefix=2, segments=(8, 8, 8), suffix=1)
    changed = [*ids]
    changed[8] = (ids[8] + 1) % VOCAB

    def moved(positions: Tensor, visible: Tensor) -> float:
        """How far the last logits move with that token when only layer 2, a windowed one, mixes tokens."""

        def attend(layer: runner.Layer, x: Tensor) -> Tensor:
            allowed = visible if layer.index == 2 else torch.eye(len(x), dtype=torch.bool)
            return layer.attention(*layer.project(x), positions, positions, allowed)

        return difference(runner.run(model, ids, attend)[-1], runner.run(model, changed, attend)[-1])

    assert moved(torch.arange(len(ids)), runner.causal(len(ids))) == 0
    assert moved(*set_based.layout(len(ids), spans)) > 1e-3


def test_set_based_layout() -> None:
    positions, visible = set_based.layout(9, [[(1, 2), (2, 4)], [(5, 6), (6, 8)]])
    assert positions.tolist() == [0, 1, 1, 2, 3, 4, 4, 5, 6]
    assert visible.int().tolist() == [
        [1, 0, 0, 0, 0, 0, 0, 0, 0],
        [1, 1, 0, 0, 0, 0, 0, 0, 0],
        [1, 0, 1, 0, 0, 0, 0, 0, 0],
        [1, 0, 1, 1, 0, 0, 0, 0, 0],
        [1, 1, 1, 1, 1, 0, 0, 0, 0],
        [1, 1, 1, 1, 1, 1, 0, 0, 0],
        [1, 1, 1, 1, 1, 0, 1, 0, 0],
        [1, 1, 1, 1, 1, 0, 1, 1, 0],
        [1, 1, 1, 1, 1, 1, 1, 1, 1],
    ]


def test_pine_layout() -> None:
    """One prefix token, segments of 1, 3 and 2, one suffix token: E = 7."""
    spans = [(1, 2), (2, 5), (5, 7)]
    base = torch.tensor([0, 6, 4, 5, 6, 5, 6, 7])
    assert pine.lay_out(base, spans, {0: 0.5, 1: 0.3, 2: 0.2}).tolist() == [0, 6, 3, 4, 5, 1, 2, 7]
    assert pine.lay_out(base, spans, {0: 0.1, 1: 0.3, 2: torch.inf}).tolist() == [0, 1, 2, 3, 4, 5, 6, 7]
    assert pine.visible(8, spans).int().tolist() == [
        [1, 0, 0, 0, 0, 0, 0, 0],
        [1, 1, 1, 1, 1, 1, 1, 0],
        [1, 1, 1, 0, 0, 1, 1, 0],
        [1, 1, 1, 1, 0, 1, 1, 0],
        [1, 1, 1, 1, 1, 1, 1, 0],
        [1, 1, 1, 1, 1, 1, 0, 0],
        [1, 1, 1, 1, 1, 1, 1, 0],
        [1, 1, 1, 1, 1, 1, 1, 1],
    ]


def test_rotor_layout() -> None:
    """One prefix token, segments of 1, 3 and 2, stored second, third, first; one suffix token."""
    key_pos, visible = rotor.layout([9, 2, 3, 3, 3, 1, 1, 9], [(1, 2), (2, 5), (5, 7)])
    assert key_pos[[1, 4, 6, 7]].tolist() == [  # of the segments' last tokens, and of the suffix
        [0, 6, 1, 2, 3, 4, 5, 7],  # 3 3 3, 1 1, then 2 itself
        [0, 3, 4, 5, 6, 1, 2, 7],  # 1 1, 2, then 3 3 3
        [0, 1, 2, 3, 4, 5, 6, 7],  # 2, 3 3 3, then 1 1
        [0, 3, 4, 5, 6, 1, 2, 7],  # the global order
    ]
    assert visible.int().tolist() == [
        [1, 0, 0, 0, 0, 0, 0, 0],
        [1, 1, 1, 1, 1, 1, 1, 0],
        [1, 1, 1, 0, 0, 1, 1, 0],
        [1, 1, 1, 1, 0, 1, 1, 0],
        [1, 1, 1, 1, 1, 1, 1, 0],
        [1, 1, 1, 1, 1, 1, 0, 0],
        [1, 1, 1, 1, 1, 1, 1, 0],
        [1, 1, 1, 1, 1, 1, 1, 1],
    ]


def test_graph_kv_layout() -> None:
    """Prefix 9, segments 10 and 20 21, suffix 30; segment 0 is encoded again with segment 1 as its source."""
    stored, positions, visible = graph_kv.layout([9, 10, 20, 21, 30], [(1, 2), (2, 4)], {0: [1]})
    assert stored == [9, 10, 20, 21, 10, 30]
    assert positions.tolist() == [0, 1, 1, 2, 3, 4]
    assert visible.int().tolist() == [
        [1, 0, 0, 0, 0, 0],
        [1, 1, 0, 0, 0, 0],
        [1, 0, 1, 0, 0, 0],
        [1, 0, 1, 1, 0, 0],
        [1, 0, 1, 1, 1, 0],
        [1, 1, 1, 1, 1, 1],
    ]


def test_ape_joins_by_log_sum_exp() -> None:
    """Segment keys of weight 2 and 2 at temperature 1/2: 2² + 2² = 8, to the power 2 * 1/2; the other key weighs 2."""
    logits_c, v_c = torch.tensor([[2.0, 2.0]]).log(), torch.tensor([[10.0], [20.0]])
    logits_o, v_o = torch.tensor([[2.0]]).log(), torch.tensor([[100.0]])
    out = ape.join(logits_c, v_c, logits_o, v_o, temperature=0.5, scale=2.0)
    assert float(out) == pytest.approx((8 * 15 + 2 * 100) / (8 + 2))


def test_string_key_positions() -> None:
    """The last of six queries, at 5, sees distances 0 and 1 as they are, 2 as 10, 3 as 11 and so on."""
    assert string.key_positions(6, S=2, W=10)[-1].tolist() == [5 - 13, 5 - 12, 5 - 11, 5 - 10, 4, 5]


def test_ms_poe_ranks() -> None:
    aware = torch.tensor([5, 6, 5, 8])  # head 3 is the most aware, then 1, then 0 and 2 as they stand
    assert [rank.tolist() for rank in ms_poe.ranks(aware, 2, "mha_rank")[:2]] == [[2, 1, 3, 0]] * 2
    assert [rank.tolist() for rank in ms_poe.ranks(aware, 2, "mha_ref")[:2]] == [[3, 1, 0, 2]] * 2
    assert [rank.tolist() for rank in ms_poe.ranks(aware, 2, "gqa_ref")[:2]] == [[3, 1, 0, 2], [3, 3, 0, 0]]
    assert [rank.tolist() for rank in ms_poe.ranks(aware, 2, "group")[:2]] == [[1, 1, 0, 0]] * 2


# --- Published values, SmolLM2 in float32


@pytest.mark.parametrize("case", ["a_docs3", "b_docs3_perm", "e_judge2"])
def test_pine_equals_the_published_code(plain_smollm2: PreTrainedModel, case: str) -> None:
    arrays = golden("pine")
    ids = arrays[f"{case}__input_ids"].tolist()
    spans = [tuple(span) for span in arrays[f"{case}__doc_spans"].tolist()]
    assert (
        difference(pine.next_token_logits(plain_smollm2, ids, spans), arrays[f"{case}__logits_last"]) < GOLDEN_TOLERANCE
    )
    assert pine.generate_ids(plain_smollm2, ids, spans, 3) == arrays[f"{case}__greedy16"].tolist()[:3]


@pytest.mark.parametrize("case", ["docs3", "docs3_perm"])
def test_set_based_equals_the_published_code(plain_smollm2: PreTrainedModel, case: str) -> None:
    arrays = {key.removeprefix(f"{case}/"): array for key, array in golden("sbp").items() if key.startswith(f"{case}/")}
    ids, greedy = arrays["input_ids"].tolist(), arrays["greedy"].tolist()
    _, *members, _ = itertools.pairwise(arrays["bounds"].tolist())
    positions, visible = set_based.layout(len(ids), members)
    assert positions.tolist() == arrays["position_ids"].tolist()
    assert visible.tolist() == arrays["mask"].tolist()
    assert set_based.layout(len(ids) + 15, members)[0][-15:].tolist() == arrays["decode_positions"].tolist()
    assert (
        difference(set_based.next_token_logits(plain_smollm2, ids, members), arrays["logits_last"]) < GOLDEN_TOLERANCE
    )
    step15 = set_based.next_token_logits(plain_smollm2, ids + greedy[:15], members)
    assert difference(step15, arrays["logits_step15"]) < GOLDEN_TOLERANCE
    assert set_based.generate_ids(plain_smollm2, ids, members, 6) == greedy[:6]


@pytest.mark.parametrize("prompt", ["short60", "chat_docs"])
@pytest.mark.parametrize(
    ("variant", "name"),
    [("group", "gqa_group"), ("mha_rank", "mha_rank"), ("mha_ref", "mha_ref"), ("gqa_ref", "gqa_ref")],
)
def test_ms_poe_equals_the_brute_force(plain_smollm2: PreTrainedModel, prompt: str, variant: str, name: str) -> None:
    ids = json.loads((GOLDEN / "ms_poe_prompts.json").read_text())[prompt]["ids"]
    model = (
        in_float64(plain_smollm2) if (variant, prompt) == ("gqa_ref", "short60") else plain_smollm2
    )  # see golden/README.md
    expected = golden("ms_poe")[f"{name}__{prompt}__last_logits"]
    # Rounded ratios: on the short prompt the heads' ranks hang on their last bit.
    assert difference(ms_poe.next_token_logits(model, ids, variant=variant, rounded=True), expected) < GOLDEN_TOLERANCE


@pytest.mark.parametrize("name", ["mha", "gqa"])
def test_ms_poe_equals_the_published_code(plain_smollm2: PreTrainedModel, name: str) -> None:
    arrays = {
        key.removeprefix(f"{name}__short60__"): array
        for key, array in golden("ms_poe_published").items()
        if key.startswith(f"{name}__")
    }
    ids, greedy = arrays["input_ids"].tolist(), arrays["greedy16"].tolist()
    model = in_float64(plain_smollm2) if name == "gqa" else plain_smollm2  # see golden/README.md
    logits, ratios = ms_poe.prefill(model, ids, f"{name}_ref", r_min=1.2, r_max=1.8, first_layer=2, rounded=True)
    assert difference(logits, arrays["last_logits"]) < GOLDEN_TOLERANCE
    for layer, (q_ratio, k_ratio) in enumerate(zip(arrays["q_ratio"], arrays["k_ratio"], strict=True), start=2):
        assert difference(ratios[layer][0], q_ratio) < 1e-6
        assert difference(ratios[layer][1].view(len(k_ratio), -1)[:, 0], k_ratio) < 1e-6  # (key heads, 9 / key heads)
    for decoded in (1, 15):
        after = ms_poe.logits_with(model, ids + greedy[:decoded], ratios)
        assert difference(after, arrays[f"decode{decoded}_logits"]) < GOLDEN_TOLERANCE
    assert (
        ms_poe.generate_ids(plain_smollm2, ids, None, 3, "mha_ref")
        == golden("ms_poe_published")["mha__short60__greedy16"].tolist()[:3]
    )


@pytest.mark.parametrize("factor", [1, 0, -1])
def test_positional_hidden_equals_the_published_code(plain_smollm2: PreTrainedModel, factor: int) -> None:
    arrays = golden("positional_hidden")
    ids = arrays[f"f{factor}__short60__input_ids"].tolist()
    greedy = arrays[f"f{factor}__short60__greedy16"].tolist()
    options = {"dims": [8], "layers": list(range(9, 25)), "factor": factor}
    logits = positional_hidden.next_token_logits(plain_smollm2, ids, **options)
    assert difference(logits, arrays[f"f{factor}__short60__last_logits"]) < GOLDEN_TOLERANCE
    decoded = positional_hidden.next_token_logits(plain_smollm2, ids + greedy[:1], last=2, **options)
    assert difference(decoded, arrays[f"f{factor}__short60__decode1_logits"]) < GOLDEN_TOLERANCE
    assert positional_hidden.generate_ids(plain_smollm2, ids, None, 6, **options) == greedy[:6]


@cache
def in_float64(model: PreTrainedModel) -> PreTrainedModel:
    """A copy of the model in float64."""
    copy = type(model)(model.config)
    copy.load_state_dict(model.state_dict())
    return copy.double().eval()
