"""Only what the caller says decides how a text is generated; of the model's own generation config, its end of text."""

import pytest
import torch
from transformers import GenerationConfig

import fairpos
from fairpos import Decoding
from fairpos.errors import InvalidOption
from fairpos.testing.tiny import tiny_backend
from tests.prompts_in_tokens import random_layout
from tests.tiny_models import tiny_model

METHODS = ["none", "set_based", "pine"]
HABITS = {
    "use_cache": False,
    "repetition_penalty": 1.3,
    "num_beams": 3,
    "no_repeat_ngram_size": 1,
    "suppress_tokens": list(range(0, 160, 2)),
    "guidance_scale": 1.5,
    "cache_implementation": "static",
    "stop_strings": ["a"],
    "min_new_tokens": 5,
    "max_length": 3,
    "do_sample": True,
    "return_dict_in_generate": True,
    "num_return_sequences": 2,
}


@pytest.fixture
def fair(tokenizer):
    wrapped = fairpos.wrap(tiny_model("llama", torch.float32), tokenizer)
    before = wrapped.model.generation_config
    yield wrapped
    wrapped.model.generation_config = before


@pytest.mark.parametrize("habit", HABITS)
def test_the_models_habits_change_no_text(habit, fair):
    layout = random_layout(3)
    for method in METHODS if habit in ("use_cache", "num_beams") else METHODS[:2]:
        neutral = fair.generate_ids(layout.input_ids, layout.spans, method, max_new_tokens=8)
        with_habit = GenerationConfig()
        setattr(with_habit, habit, HABITS[habit])
        fair.model.generation_config, before = with_habit, fair.model.generation_config
        assert fair.generate_ids(layout.input_ids, layout.spans, method, max_new_tokens=8) == neutral
        assert fair.model.generation_config is with_habit
        fair.model.generation_config = before


def test_texts_are_those_of_the_model_without_a_cache(fair):
    fair.model.generation_config = GenerationConfig(use_cache=False, repetition_penalty=2.0)
    layout = random_layout(4)
    ids = list(layout.input_ids)
    with torch.no_grad():
        for _ in range(6):
            ids.append(int(fair.model(torch.tensor([ids]), use_cache=False).logits[0, -1].argmax()))
    found = fair.generate_ids(layout.input_ids, layout.spans, max_new_tokens=6)
    assert found == ids[len(layout) :]


@pytest.mark.parametrize("method", METHODS[:2])
def test_what_the_caller_asks_for_works_whatever_the_models_habits(method, fair):
    layout = random_layout(5)

    def text(**wanted):
        decoding = Decoding(generation_config=GenerationConfig(**wanted))
        return fair.generate_ids(layout.input_ids, layout.spans, method, max_new_tokens=8, decoding=decoding)

    plain = fair.generate_ids(layout.input_ids, layout.spans, method, max_new_tokens=8)
    penalised, beams = text(repetition_penalty=8.0), text(num_beams=4)
    assert text(use_cache=False) == plain != penalised
    fair.model.generation_config = GenerationConfig(no_repeat_ngram_size=1, num_beams=2)
    assert (text(), text(repetition_penalty=8.0), text(num_beams=4)) == (plain, penalised, beams)


def test_stop_strings_of_the_caller_stop_a_text(smollm2):
    config = GenerationConfig(stop_strings=["."])
    question = "Name a colour and say why you like it."
    free = smollm2.answer(question, ["Blue is the colour of the sea. It is calm."], max_new_tokens=40)
    decoding = Decoding(max_new_tokens=40, generation_config=config)
    held = smollm2.answer(question, ["Blue is the colour of the sea. It is calm."], decoding=decoding)
    assert free.text.startswith(held.text)
    assert held.text.endswith(".")
    assert held.text.count(".") == 1


def test_a_cache_of_the_callers_and_what_transformers_refuses_are_said(fair):
    layout = random_layout(3)
    static = Decoding(generation_config=GenerationConfig(cache_implementation="static"))
    with pytest.raises(InvalidOption, match="cache_implementation='static'"):
        fair.generate_ids(layout.input_ids, layout.spans, decoding=static)
    config = GenerationConfig(num_beams=2)
    config.num_return_sequences = 3
    with pytest.raises(InvalidOption, match="transformers can't generate as it is asked to"):
        fair.generate_ids(layout.input_ids, layout.spans, decoding=Decoding(generation_config=config))


def test_the_models_end_of_text_ends_it_where_the_caller_names_none(fair):
    layout = random_layout(4)
    new = fair.generate_ids(layout.input_ids, layout.spans, max_new_tokens=8)
    fair.model.generation_config = GenerationConfig(eos_token_id=new[4])
    end = new.index(new[4])
    assert fair.generate_ids(layout.input_ids, layout.spans, max_new_tokens=8) == new[:end]
    own = Decoding(generation_config=GenerationConfig(do_sample=False))
    assert fair.generate_ids(layout.input_ids, layout.spans, max_new_tokens=8, decoding=own) == new[:end]


@pytest.mark.parametrize("method", [*METHODS, "placements:views=2"])
def test_stop_strings_that_a_caller_asks_for_end_a_text_under_every_method(method):
    fair = fairpos.wrap(
        tiny_model("llama", torch.float32), tiny_backend().tokenizer
    )  # few tokens, so stopping is quick
    layout = random_layout(3)

    def text_of(**wanted):
        decoding = Decoding(generation_config=GenerationConfig(**wanted))
        return fair.generate_ids(layout.input_ids, layout.spans, method, max_new_tokens=16, decoding=decoding)

    whole = text_of()
    texts = [fair.tokenizer.decode([token]) for token in whole]
    first = next(i for i, text in enumerate(texts) if i and text.isascii() and text not in texts[:i])
    assert text_of(stop_strings=[texts[first]]) == whole[: first + 1]


@pytest.mark.parametrize(
    ("wanted", "method", "words"),
    [
        ({"max_length": 20}, "none", "max_length=20 counts the prompt, too, which has 37 tokens"),
        ({"max_length": 20}, "placements:views=2", "max_length=20 counts"),
        ({"exponential_decay_length_penalty": (1, 2.0)}, "set_based", "can't generate as it is asked"),
        ({"penalty_alpha": 0.6, "top_k": 4}, "placements:views=2", "follows one sequence, .*penalty_alpha=0.6"),
    ],
)
def test_what_can_not_be_done_as_a_caller_asks_is_refused(wanted, method, words, fair):
    layout, decoding = random_layout(3), Decoding(generation_config=GenerationConfig(**wanted))
    with pytest.raises(InvalidOption, match=words):
        fair.generate_ids(layout.input_ids, layout.spans, method, max_new_tokens=4, decoding=decoding)
