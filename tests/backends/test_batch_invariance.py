"""A reply's bits don't depend on who else is asked: other requests, other lengths, other methods, other orders."""

import random

import pytest
import torch
from transformers import AutoModelForCausalLM, Gemma3TextConfig, GenerationConfig, LlamaConfig, MambaConfig

import fairpos
from fairpos import Decoding, Request
from fairpos.backends.base import Generate, Live, Score
from fairpos.backends.hf import HFBackend
from fairpos.backends.side_by_side import decode_side_by_side, proven_row_counts
from fairpos.errors import InvalidOption
from fairpos.methods.ape import Ape
from fairpos.methods.graph_kv import GraphKV
from fairpos.methods.ms_poe import MsPoe
from fairpos.methods.pine import Pine
from fairpos.methods.placements import Placements
from fairpos.methods.set_based import SetBased
from fairpos.passages import as_segments
from fairpos.prompts import Template, render
from tests.architectures import small_model
from tests.prompts_in_tokens import random_layout
from tests.service.running import byte_tokenizer
from tests.tiny_models import tiny_model

TEMPLATE = Template("Facts: ", "{text} ", "{query} So", chat=False)
WORDS = ["ada", "babbage", "loom", "card", "engine", "wheel", "proof", "number", "table", "steam", "brass", "letter"]


SIZES = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "initializer_range": 0.2,
    "eos_token_id": None,
}


def backend_of(architecture, tokenizer, dtype=torch.float32, **options):
    """A random model that takes smollm2's tokens."""
    torch.manual_seed(0)
    config = {
        "llama": LlamaConfig(vocab_size=len(tokenizer), **SIZES),
        "gemma3": Gemma3TextConfig(vocab_size=len(tokenizer), head_dim=16, sliding_window=11, **SIZES),
        "mamba": MambaConfig(vocab_size=len(tokenizer), hidden_size=32, num_hidden_layers=2, eos_token_id=None),
    }[architecture]
    return HFBackend(AutoModelForCausalLM.from_config(config).to(dtype).eval(), tokenizer, **options)


def requests_of(count, seed=0, tasks=("answer", "choose")):
    draw = random.Random(seed)

    def text(words):
        return " ".join(draw.choices(WORDS, k=words))

    return [
        Request(task, text(draw.randint(1, 4)), as_segments([text(draw.randint(1, 3)) + f" {k}" for k in range(3)]))
        for task in draw.choices(tasks, k=count)
    ]


def result(output):
    return output.text, output.winner, output.ranking, tuple(sorted(output.scores.items()))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("architecture", ["llama", "gemma3"])
@pytest.mark.parametrize("methods", ["set_based", "pine", "permutation:views=2", "ascending:relevance=bm25"])
def test_one_result_a_request_whatever_the_batch(methods, architecture, dtype, tokenizer):
    fair = fairpos.FairModel(backend_of(architecture, tokenizer, dtype))
    draw, decoding = random.Random(1), Decoding(max_new_tokens=5)
    tasks = ("answer", "rank") if "ascending" in methods else ("answer", "choose")
    requests, found = requests_of(8, tasks=tasks), {}
    shown = [(i, request.reordered(draw.sample(range(3), 3))) for i, request in enumerate(requests) for _ in range(3)]
    draw.shuffle(shown)
    while shown:
        size = draw.randint(1, 16)
        batch, shown = shown[:size], shown[size:]
        outputs = fair.run([request for _, request in batch], methods, template=TEMPLATE, decoding=decoding)
        for (i, _), output in zip(batch, outputs, strict=True):
            found.setdefault(i, set()).add(result(output))
    assert [len(results) for results in found.values()] == [1] * 8


@pytest.mark.parametrize("architecture", ["llama", "gemma3", "gpt_neox"])
@pytest.mark.parametrize("method", [None, SetBased(), Pine(), Ape(temperature=0.8), GraphKV()])
def test_texts_side_by_side_are_those_of_generate(method, architecture, tokenizer):
    """In exact arithmetic, beside texts of other lengths that end before them."""
    backend = HFBackend(tiny_model(architecture), tokenizer)
    layouts = [random_layout(i, lengths) for i, lengths in enumerate([(9, 5, 7, 6), (11,), (3, 14, 8)])]
    decodings = [Decoding(max_new_tokens=tokens) for tokens in (9, 2, 12)]
    calls = [Generate(None, decoding) for decoding in decodings]
    rows = decode_side_by_side(backend, calls, layouts, method)
    for row, layout, decoding in zip(rows, layouts, decodings, strict=True):
        assert row.tokens == backend.generate([layout], method, decoding)[0]
        assert (row.finish, len(row.tokens)) == ("length", decoding.max_new_tokens)


def generations(method=None):
    """Calls of every kind of decoding, with prompts of many lengths."""
    cancelled = iter([False, False, True, True, True])
    decodings = [
        Decoding(max_new_tokens=7),
        Decoding(max_new_tokens=3),
        Decoding(max_new_tokens=6, temperature=1.0, seed=3),
        Decoding(max_new_tokens=6, temperature=1.0, top_p=0.5, seed=3, stop=("e",)),
        Decoding(max_new_tokens=9, live=Live(lambda _: None, lambda: next(cancelled))),
        Decoding(max_new_tokens=5, generation_config=GenerationConfig(num_beams=2)),
        Decoding(max_new_tokens=5, generation_config=GenerationConfig(repetition_penalty=4.0)),
    ]
    prompts = [render(request, TEMPLATE) for request in requests_of(len(decodings) + 1, seed=5)]
    calls = [
        Generate(prompt, decoding, method, batch_invariant=True)
        for prompt, decoding in zip(prompts, decodings, strict=False)
    ]
    return [*calls, Generate(prompts[-1], attend=method, listing=("1", "2", "3"), batch_invariant=True)]


@pytest.mark.parametrize("method", [None, SetBased(), Pine()])
def test_every_kind_of_decoding_gives_in_company_what_it_gives_alone(method, tokenizer):
    backend = backend_of("llama", tokenizer)
    together = backend.run(generations(method))
    alone = [backend.run([call])[0] for call in generations(method)]
    assert together == alone
    assert [reply.finish for reply in together[:2]] == ["length", "length"]
    assert together[4].status == "cancelled"
    assert sorted(together[-1].text.strip("[]").split("] > [")) == ["1", "2", "3"]


@pytest.mark.parametrize("architecture", ["llama"])
def test_models_without_a_proven_number_of_rows_are_decoded_one_by_one(architecture, tokenizer):
    backend = backend_of(architecture, tokenizer)
    if architecture == "llama":  # a kernel whose rows depend on their place
        noise = torch.linspace(1.0, 1.1, 64)[:, None, None]
        backend.model.lm_head.register_forward_hook(lambda _, __, logits: logits * noise[: logits.shape[0]])
        assert proven_row_counts(backend) == ()
    seen = []
    backend.model.get_input_embeddings().register_forward_hook(lambda _, args, __: seen.append(args[0].shape[0]))
    calls = [call for call in generations() if call.decoding.generation_config is None]
    together = backend.run(calls)
    assert set(seen) == {1}
    fresh = [call for call in generations() if call.decoding.generation_config is None]
    assert together == [backend.run([call])[0] for call in fresh]


def test_what_changes_with_the_number_of_rows_is_seen_where_no_logit_shows_it(tokenizer):
    """In half precision another order of summation may change something on the way and nothing at the end."""
    model = tiny_model("llama", torch.float64)
    backend = HFBackend(model, tokenizer)
    *_, smaller, largest = proven_row_counts(backend)
    with torch.no_grad():
        model.lm_head.weight.zero_()  # all logits are 0, whatever was computed

    def differ_for_so_many_rows(module, given, output):
        return output + 1e-3 if len(output) == smaller else output

    model.model.layers[1].mlp.down_proj.register_forward_hook(differ_for_so_many_rows)
    backend.row_counts.clear()
    counts = proven_row_counts(backend)
    assert smaller not in counts
    assert largest in counts


def test_rows_that_are_sent_to_experts_are_decoded_one_by_one(tokenizer):
    assert proven_row_counts(HFBackend(small_model("mixtral"), tokenizer)) == (1,)
    assert proven_row_counts(HFBackend(small_model("gpt_oss"), tokenizer)) == (1,)


@pytest.mark.parametrize(("model_type", "counts"), [("mixtral", (1,)), ("qwen3_moe", (1,)), ("llama", (2,))])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_more_prompts_than_a_proven_number_of_rows_are_decoded_in_turn(model_type, counts, dtype):
    backend = HFBackend(small_model(model_type).to(dtype), byte_tokenizer())
    proven_row_counts(backend)
    backend.row_counts = dict.fromkeys(backend.row_counts, counts)
    seen = []
    backend.model.get_input_embeddings().register_forward_hook(lambda _, args, __: seen.append(args[0].shape[0]))
    prompts = [render(request, TEMPLATE) for request in requests_of(5)]
    calls = [Generate(prompt, Decoding(max_new_tokens=3), attend=SetBased()) for prompt in prompts]
    together = backend.run(calls)
    assert together == [backend.run([call])[0] for call in calls]
    assert max(seen) == counts[-1]


def test_scored_prompts_run_alone_for_methods_free_of_order_and_where_it_is_wanted(tokenizer):
    prompts = [render(request, TEMPLATE) for request in requests_of(4, seed=7)]
    seen = []
    for setting, owner, marked, rows in [
        ("order_free", None, False, {4}),
        ("order_free", None, True, {1}),
        ("order_free", SetBased(), False, {1}),
        ("always", None, False, {1}),
        ("never", SetBased(), True, {4}),
    ]:
        backend = backend_of("llama", tokenizer, batch_invariance=setting)
        backend.logits([backend.layout(prompts[0])], SetBased())  # the seam's proof
        assert backend.pads_exactly()  # that of padding
        backend.model.get_input_embeddings().register_forward_hook(lambda _, args, __: seen.append(args[0].shape[0]))
        seen.clear()
        backend.run([Score(prompt, (" A", " B"), owner, batch_invariant=marked) for prompt in prompts])
        assert set(seen) == rows, setting


def long_requests(count, shared):
    """Questions about passages of some 700 tokens: the same for the first `shared` of them."""
    draw = random.Random(3)

    def passages():
        return as_segments([" ".join(draw.choices(WORDS, k=160)) for _ in range(3)])

    common = passages()
    return [
        Request("choose", " ".join(draw.choices(WORDS, k=3 + i)), common if i < shared else passages())
        for i in range(count)
    ]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("owner", [None, SetBased(), Pine(), Placements(views=3), MsPoe()], ids=str)
def test_long_prompts_share_what_they_begin_with_and_keep_their_bits(owner, dtype, tokenizer):
    """Read in two steps, whoever asks: together with others of the same passages the first step is made once."""
    backend = backend_of("llama", tokenizer, dtype, batch_invariance="always")
    prompts = [render(request, TEMPLATE) for request in long_requests(5, shared=3)]
    calls = [Score(prompt, replies, owner) for prompt in prompts for replies in ((" A", " B"), (" loom card", " C"))]
    alone = [backend.run([call])[0] for call in calls]
    read = []
    backend.model.get_input_embeddings().register_forward_hook(lambda _, args, __: read.append(args[0].numel()))
    backend.run([calls[0]])
    once = sum(read)
    read.clear()
    random.Random(1).shuffle(places := list(range(len(calls))))
    for place, reply in zip(places, backend.run([calls[place] for place in places]), strict=True):
        assert reply == alone[place]
    # Three heads for ten calls; Ms-PoE looks at the whole prompt.
    assert sum(read) > 9 * once if isinstance(owner, MsPoe) else sum(read) < 4 * once


def test_a_setting_that_there_is_not(tokenizer):
    with pytest.raises(InvalidOption, match="one of order_free, always, never, got 'sometimes'"):
        backend_of("llama", tokenizer, batch_invariance="sometimes")
