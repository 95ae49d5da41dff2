"""Profiles are readable files that are found for what they were made for, and for nothing else."""

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairpos.backends.fake import FakeBackend
from fairpos.calibration.profile import Profile, Setting, Slot, directory
from fairpos.calibration.profile_store import find, for_count, shared
from fairpos.errors import InvalidRequest, NotCalibrated
from fairpos.prompts import TEMPLATES, Template


def setting(count=3, **changes):
    return replace(Setting.of(FakeBackend(), "answer", None, count), **changes)


def profile(count=3, made="2026-01-01", values=None, **changes):
    values = values or [0.1 * (i + 1) for i in range(count)]
    slots = tuple(Slot(v, v - 0.05, v + 0.05) for v in values)
    return Profile(setting(count, **changes), "attention", "layer 2", "abc", 7, slots, made)


@pytest.fixture(autouse=True)
def _shared(tmp_path, monkeypatch):
    monkeypatch.setenv("FAIRPOS_PROFILES", str(tmp_path / "profiles"))


def test_a_profile_comes_back_as_it_was(tmp_path):
    path = profile().save(tmp_path / "deep" / "p.json")
    assert Profile.load(path) == profile()
    record = json.loads(path.read_text())
    assert record["slots"][1] == {"slot": 2, "value": 0.2, "low": 0.15000000000000002, "high": 0.25}
    assert record["model"] == "fake"


def test_the_shared_directory_gives_the_newest_that_fits():
    profile(made="2026-01-02").save()
    newer = replace(profile(made="2026-01-03"), data="other")
    newer.save()
    profile(made="2026-01-04", model="another").save()
    assert [p.data for p in find(setting())] == ["other", "abc"]
    (directory() / "note.json").write_text("{}")
    assert len(shared()) == 3


def test_a_missing_profile_names_the_command():
    with pytest.raises(NotCalibrated) as raised:
        find(setting(5))
    assert "fairpos calibrate attn_rank --model fake --data FILE -k 5" in str(raised.value)
    assert "there is none in" in str(raised.value)
    with pytest.raises(NotCalibrated, match=r"-k 5 -o /nowhere/p\.json"):
        find(setting(5), "/nowhere/p.json")
    own = Template("a", "{text}", "{query}")
    with pytest.raises(NotCalibrated, match="-k 2 --task rank --template TEMPLATE"):
        find(Setting.of(FakeBackend(), "rank", own, 2))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"model": "gemma"}, "it is for the model gemma, not fake"),
        ({"revision": "a1"}, "it is for the model fake a1, not fake"),
        ({"template": "t1"}, f"it is for the template t1 .answer., not {TEMPLATES['answer'].fingerprint}"),
        ({"count": 4}, "has one for 4 segments, which interpolate=true would stretch"),
    ],
)
def test_a_profile_for_something_else_is_refused(tmp_path, changes, words):
    path = profile(**({"count": 3} | changes)).save(tmp_path / "p.json")
    with pytest.raises(NotCalibrated, match=words) as raised:
        find(setting(), str(path))
    assert "fairpos calibrate attn_rank" in str(raised.value)


def test_weights_count_where_they_are_known_the_name_only_for_endpoints(tmp_path):
    path = profile(model="somewhere/else", revision="a1").save(tmp_path / "p.json")
    assert find(setting(model="here", revision="a1"), str(path))


def test_another_number_of_segments_only_if_allowed():
    profile(3, values=[1.0, 0.0, 2.0]).save()
    with pytest.raises(NotCalibrated, match="interpolate=true"):
        find(setting(5))
    found = for_count(find(setting(5), interpolate=True), 5, interpolate=True)
    assert found is not None
    assert found.values == (1.0, 0.5, 0.0, 1.0, 2.0)
    assert found.rule == "layer 2; interpolated from 3 slots"


@given(st.lists(st.floats(-5, 5), min_size=2, max_size=9), st.integers(1, 12))
def test_interpolation_keeps_the_ends_and_the_range(values, count):
    stretched = profile(len(values), values=values).interpolated(count)
    assert len(stretched.slots) == count
    assert stretched.values[0] == values[0]
    assert count == 1 or stretched.values[-1] == values[-1]
    assert min(values) - 1e-9 <= min(stretched.values)
    assert max(stretched.values) <= max(values) + 1e-9


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"format": "x"}, "is no profile"),
        ({"rule": "x"}, "fingerprint is not that of its content"),
        ({"count": 4}, "got 3 slots for 4 segments"),
        ({"slots": [{"slot": 1}]}, "damaged"),
        ({"signal": "x"}, "signal must be one of"),
    ],
)
def test_damaged_files(tmp_path, change, words):
    path = profile().save(tmp_path / "p.json")
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(InvalidRequest, match=words):
        Profile.load(path)


def test_a_file_that_is_no_json(tmp_path):
    (tmp_path / "p.json").write_text("{")
    with pytest.raises(InvalidRequest, match="can't read the profile"):
        Profile.load(tmp_path / "p.json")


def test_a_value_outside_of_its_interval():
    with pytest.raises(InvalidRequest, match="low <= value <= high"):
        Slot(1.0, 2.0, 3.0)
