"""Texts that outgrow the length up to which rotary frequencies are constant give what reading them anew gives."""

import pytest
import torch
from transformers import GenerationConfig

import fairpos
from fairpos.backends.token_log_probs import prompt_log_probs
from fairpos.errors import UnsupportedModel
from fairpos.layout import Layout
from fairpos.prompts import Template
from tests.architectures import small_model
from tests.attention.test_families import Tokens
from tests.service.running import byte_tokenizer

LIMIT, NEW = 40, 10
TEMPLATE = Template("Facts: ", "{text} ", "{query}", chat=False)


def longrope(family):
    """A small model whose frequencies are others beyond 40 tokens."""
    rope = {
        "rope_type": "longrope",
        "rope_theta": 1e4,
        "original_max_position_embeddings": LIMIT,
        "factor": 4.0,
    }
    own = {"original_max_position_embeddings": LIMIT} if family in ("phi3", "phimoe") else {}
    if family == "phi3":
        rope["partial_rotary_factor"] = 1.0
    if family == "phimoe":
        rope |= {"short_mscale": 1.1, "long_mscale": 1.3}
    for dimensions in (8, 4):
        factors = {"short_factor": [1.0] * dimensions, "long_factor": [1 + 0.6 * i for i in range(dimensions)]}
        model = small_model(family, max_position_embeddings=160, rope_parameters=rope | factors, **own)
        if len(model.get_decoder().rotary_emb.inv_freq) == dimensions:
            return model
    raise AssertionError(family)


def read_anew(model, ids, count):
    tokens = list(ids)
    with torch.no_grad():
        for _ in range(count):
            tokens.append(int(model(torch.tensor([tokens]), use_cache=False).logits[0, -1].argmax()))
    return tokens[len(ids) :]


def ids_of(length, seed=0):
    return torch.randint(3, 290, (length,), generator=torch.Generator().manual_seed(seed)).tolist()


@pytest.mark.parametrize("family", ["llama", "qwen2", "mistral", "phi3", "phimoe", "minicpm3"])
def test_tokens_scores_and_batches_are_those_of_reading_anew(family):
    model = longrope(family)
    fair = fairpos.wrap(model, Tokens())
    prompts = [ids_of(length, length) for length in (20, 35, 60)]  # stays, crosses, is beyond
    anew = [read_anew(model, ids, NEW) for ids in prompts]
    lengths = []
    hook = model.get_input_embeddings().register_forward_hook(lambda _, given, __: lengths.append(given[0].shape[1]))
    fair.generate_ids(prompts[1], [], max_new_tokens=NEW)  # whatever is found out once
    lengths.clear()
    assert fair.generate_ids(prompts[1], [], max_new_tokens=NEW) == anew[1]
    assert [length for length in lengths if length > 1] == [35, LIMIT + 1]  # no other token is read twice
    hook.remove()
    backend, layouts = fair.backend, [Layout(tuple(ids), ()) for ids in prompts]
    assert backend.generate(layouts, None, fairpos.Decoding(max_new_tokens=NEW)) == anew
    beams = fairpos.Decoding(max_new_tokens=NEW, generation_config=GenerationConfig(num_beams=1))
    assert backend.generate([layouts[1]], None, beams) == [anew[1]]
    scored = backend.score(layouts, [[tuple(tokens), tuple(tokens[:2])] for tokens in anew])
    assert [greedy for _, greedy in scored] == [(True, True)] * 3
    steps = [torch.log_softmax(_logits(model, prompts[1] + anew[1][:i]), -1)[anew[1][i]] for i in range(NEW)]
    assert scored[1][0][0] == pytest.approx(float(sum(steps)), abs=1e-3)
    voted = backend.vote([layouts[1], layouts[1]], None, fairpos.Decoding(max_new_tokens=NEW))
    assert voted == anew[1]


def _logits(model, ids):
    with torch.no_grad():
        return model(torch.tensor([ids]), use_cache=False).logits[0, -1].double()


def test_methods_of_the_output_run_and_attention_methods_are_refused_where_a_text_may_outgrow():
    fair = fairpos.wrap(longrope("llama"), byte_tokenizer())
    decoding = fairpos.Decoding(max_new_tokens=30)
    for methods in ("none", "permutation:views=2"):
        output = fair.answer("Who?", ["ab", "cd"], methods, template=TEMPLATE, decoding=decoding)
        assert output.status == "ok"
        orders = [
            fair.answer("Who?", each, "permutation:views=2", template=TEMPLATE, decoding=decoding).text
            for each in (["ab", "cd"], ["cd", "ab"])
        ]
        assert orders[0] == orders[1]
    with pytest.raises(UnsupportedModel, match="frequencies change beyond 40 tokens"):
        fair.answer("Who?", ["ab", "cd"], "set_based", template=TEMPLATE, decoding=decoding)


def test_log_probabilities_of_a_long_prompt_are_those_of_one_reading():
    model = longrope("llama")
    ids = ids_of(60)
    found = prompt_log_probs(fairpos.wrap(model, Tokens()).backend, ids)
    with torch.no_grad():
        whole = torch.log_softmax(model(torch.tensor([ids]), use_cache=False).logits[0], -1)
    for i in range(1, 60):
        assert found[i].log_prob == pytest.approx(float(whole[i - 1, ids[i]]), abs=1e-4)
