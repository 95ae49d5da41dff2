"""docs/models.md is complete and true: every causal model of the installed transformers is in it, and a sample agrees.

A new release with new families fails here until `python -m benchmarks.architectures` has looked at them.
"""

import pytest

from benchmarks.architectures import NAMES, TABLE, check_plain, kind, known, outcome, record, table_of
from fairpos.backends.hf import HFBackend
from tests.architectures import entries, small_model
from tests.attention.test_families import Tokens

RECORDED = known()
# A right one, and one for each kind of refusal, all of them small.
SAMPLE = ("stablelm", "beam", "bloom", "diffllama", "doge", "falcon_mamba", "hrm_text", "lfm2", "mllama")
# Padding that an index selects; positions of their own; a cache that transformers can't make, or reads wrongly; a last
# token that a config forces; no text model.
PLAIN_SAMPLE = ("deepseek_v32", "roberta", "whisper", "bailing_hybrid", "prophetnet", "bart", "musicgen")


def test_every_entry_of_transformers_has_been_looked_at():
    assert sorted(RECORDED) == sorted(entries())


def test_enough_of_them_could_be_built():
    assert sum("not_built" not in row for row in RECORDED.values()) >= 185


def test_plain_prompts_and_attention_methods_are_right_or_refused_everywhere():
    faults = {
        (name, method): row[method]
        for name, row in RECORDED.items()
        if "not_built" not in row
        for method in ("none", *NAMES)
        if kind(row[method]) not in ("right", "refused")
    }
    assert faults == {}


def test_the_table_is_what_was_found():
    assert TABLE.read_text().splitlines()[-len(RECORDED) :] == table_of(list(RECORDED.values()))[-len(RECORDED) :]


@pytest.mark.parametrize("name", SAMPLE)
def test_a_sample_gives_what_is_recorded(name):
    found, names = record(name), ("none", *NAMES)
    assert {each: kind(found[each]) for each in names} == {each: kind(RECORDED[name][each]) for each in names}


@pytest.mark.parametrize("name", PLAIN_SAMPLE)
def test_what_a_plain_prompt_needs_on_models_of_their_own_ways(name):
    model = small_model(name)
    found = outcome(lambda: check_plain(model, HFBackend(model, Tokens())))
    assert kind(found) == kind(RECORDED[name]["none"])
