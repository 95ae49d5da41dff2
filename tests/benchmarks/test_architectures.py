"""docs/models.md is complete and true: every causal model of the installed transformers is in it, and a sample agrees.

A new release with new families fails here until `python -m benchmarks.architectures` has looked at them.
"""

import pytest

from benchmarks.architectures import NAMES, TABLE, kind, known, record, table_of
from tests.architectures import entries

RECORDED = known()
# A right one, and one for each kind of refusal, all of them small.
SAMPLE = ("stablelm", "beam", "bloom", "diffllama", "doge", "falcon_mamba", "hrm_text", "lfm2", "mllama")


def test_every_entry_of_transformers_has_been_looked_at():
    assert sorted(RECORDED) == sorted(entries())


def test_enough_of_them_could_be_built():
    assert sum("not_built" not in row for row in RECORDED.values()) >= 185


def test_attention_methods_are_right_or_refused_everywhere():
    faults = {
        (name, method): row[method]
        for name, row in RECORDED.items()
        if "not_built" not in row
        for method in NAMES
        if kind(row[method]) not in ("right", "refused")
    }
    assert faults == {}


def test_the_table_is_what_was_found():
    assert TABLE.read_text().splitlines()[-len(RECORDED) :] == table_of(list(RECORDED.values()))[-len(RECORDED) :]


@pytest.mark.parametrize("name", SAMPLE)
def test_a_sample_gives_what_is_recorded(name):
    found = record(name)
    assert {each: kind(found[each]) for each in NAMES} == {each: kind(RECORDED[name][each]) for each in NAMES}
