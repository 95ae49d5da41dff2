"""Records become questions with as many segments as the profile has slots."""

import json
from pathlib import Path

import pytest

from fairpos.calibration.samples import chosen, cyclic_views, fingerprint, samples_of
from fairpos.errors import InvalidRequest
from fairpos.files.records import read
from fairpos.prompts import KEY_VALUE, render

PASSAGES = [{"id": name, "text": f"text {name}"} for name in "abcd"]


@pytest.fixture
def lines(tmp_path):
    def write(*records):
        path = tmp_path / "data.jsonl"
        path.write_text("\n".join(json.dumps(record) for record in records))
        return read(path)

    return write


def test_the_gold_passage_is_always_among_the_segments(lines):
    record = {"id": 1, "query": "q", "passages": PASSAGES, "gold": "d", "answers": ["x", "y"]}
    [sample] = samples_of(lines(record), 3)
    assert [segment.id for segment in sample.request.segments] == ["a", "b", "d"]
    assert (sample.gold, sample.accepted) == ("d", ("x", "y"))
    [without] = samples_of(lines({k: v for k, v in record.items() if k in ("id", "query", "passages")}), 2)
    assert [segment.id for segment in without.request.segments] == ["a", "b"]
    assert without.gold is None


def test_every_segment_stands_in_every_slot_once(lines):
    [sample] = samples_of(lines({"id": "1", "query": "q", "passages": PASSAGES}), 4)
    views = [view.ids for view in cyclic_views(sample, "answer")]
    assert all(sorted(view[slot] for view in views) == list("abcd") for slot in range(4))


def test_pairs_become_lists_of_pairs_in_the_plain_prompt(lines):
    pairs = [[f"k{i}", f"v{i}"] for i in range(5)]
    one, two = samples_of(lines({"id": "kv", "pairs": pairs}), 2)
    assert (one.request.query, one.accepted, two.request.query, two.accepted) == ("k0", ("v0",), "k2", ("v2",))
    prompt = render(cyclic_views(two, "answer")[0], KEY_VALUE)
    assert prompt.text + "\n" + prompt.answer_start == (
        "Extract the value of the requested key from the list of key-value pairs below.\n\n"
        '"k2": "v2"\n"k3": "v3"\n\nKey: "k2"\nCorresponding value: "'
    )


@pytest.mark.parametrize(
    ("record", "words"),
    [
        ({"id": "1", "query": "q"}, "line 1: no field 'passages'"),
        ({"id": "1", "query": "q", "passages": PASSAGES, "gold": "z"}, "line 1: gold 'z' is none of the ids"),
        ({"id": "1", "query": "q", "passages": PASSAGES[:1]}, "none of the 1 records has 2 segments"),
        ({"id": "1", "pairs": [["a"]]}, r"line 1: pairs must be a list of \[key, value\], got \['a'\]"),
        ({"id": "1", "pairs": "a"}, "line 1: pairs must be a list"),
        ([1], "line 1: must be a JSON object"),
    ],
)
def test_records_that_cannot_be_used(lines, record, words):
    with pytest.raises(InvalidRequest, match=words):
        samples_of(lines(record), 2)
    with pytest.raises(InvalidRequest, match="at least 2 segments"):
        samples_of(lines(record), 1)


def test_a_choice_of_samples_repeats():
    samples = samples_of(read(Path(__file__).parents[2] / "benchmarks" / "data" / "kv.jsonl"), 10)
    assert len(samples) == 80
    assert chosen(samples, 7, 1) == chosen(samples, 7, 1) != chosen(samples, 7, 2)
    assert chosen(samples, 99, 1) == samples
    assert fingerprint(samples[:3]) != fingerprint(samples[1:4])
