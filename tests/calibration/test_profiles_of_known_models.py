"""A model whose preference for slots is known: both kinds of profile find it, at the stated budget."""

import math
import random
from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import kendalltau

from fairpos import FairModel, Segment
from fairpos.backends.fake import FakeBackend
from fairpos.calibration.attention import attention_profile
from fairpos.calibration.black_box import Until, black_box_profile, intervals
from fairpos.calibration.layer_rules import fitted_layer, layers_by_rule
from fairpos.calibration.profile import Profile
from fairpos.calibration.profile_store import find
from fairpos.errors import BackendError, InvalidOption, InvalidRequest, NotCalibrated, UnsupportedBackend
from fairpos.files.items import Item
from fairpos.methods.catalogue import parse
from fairpos.types import Request

K = 8
BIAS = tuple(random.Random(3).sample([0.6 * i for i in range(K)], K))
READER = FakeBackend(
    slot_bias=BIAS, noise=0.8, seed=1, capabilities=frozenset({"generate", "score", "attention"}), name="biased"
)


def samples(n, k=K, seed=0):
    """The gold segment is better than the others, by an amount that varies."""
    draw = random.Random(seed)
    found = []
    for number in range(n):
        texts = [f"{number} {draw.random()}" for _ in range(k)]
        gold = draw.randrange(k)
        segments = tuple(
            Segment(id=f"s{i}", text=text, score=draw.gauss(2.0 if i == gold else 0.0, 0.5))
            for i, text in enumerate(texts)
        )
        found.append(Item(str(number), Request("answer", "q", segments), f"s{gold}", (texts[gold],)))
    return found


def tau(profile):
    return kendalltau(profile.values, BIAS).statistic


def test_attention_finds_the_slots_with_200_probes():
    profile = attention_profile(READER, samples(60), probes=200)
    assert profile.samples == 25
    assert tau(profile) >= 0.95
    assert all(slot.low < slot.value < slot.high for slot in profile.slots)
    assert math.isclose(sum(profile.values), 1.0)


def test_log_probabilities_find_the_slots_with_300_calls():
    profile = black_box_profile(READER, samples(60), signal="logprob", until=Until(0.01, budget=300))
    assert profile.samples == 37
    assert "296 calls, then the budget was spent" in profile.rule
    assert tau(profile) >= 0.95


def test_accuracy_finds_the_slots_with_3000_calls():
    profile = black_box_profile(READER, samples(400), until=Until(0.001, budget=3000))
    assert profile.samples == 375
    assert tau(profile) >= 0.95


def test_rankings_have_slots_too():
    for signal in ("accuracy", "logprob"):
        profile = black_box_profile(READER, samples(100), signal=signal, task="rank", until=Until(0.01, budget=800))
        assert profile.setting.task == "rank"
        assert tau(profile) >= (0.95 if signal == "logprob" else 0.85)


def test_without_a_preference_the_intervals_overlap():
    even = replace(READER, slot_bias=())
    profile = black_box_profile(even, samples(60), signal="logprob", until=Until(0.01, budget=400))
    assert max(slot.low for slot in profile.slots) < min(slot.high for slot in profile.slots)


def test_it_stops_when_the_intervals_are_narrow_enough():
    wide = black_box_profile(READER, samples(100), signal="logprob", until=Until(1.0))
    assert wide.samples == 8
    assert wide.rule.endswith("64 calls, then the intervals were within 1")
    narrow = black_box_profile(READER, samples(100), signal="logprob", until=Until(0.3))
    assert 8 < narrow.samples < 100
    assert all(slot.high - slot.value <= 0.3 for slot in narrow.slots)
    used = black_box_profile(READER, samples(9), signal="logprob", until=Until(0.001))
    assert used.rule.endswith("72 calls, then the data was used up")


def test_intervals_hold_the_truth_as_often_as_they_say():
    draw = np.random.default_rng(0)
    truth = np.array([0.0, 1.0, 2.0])
    inside = 0
    for _ in range(300):
        hard = draw.normal(0, 5, (12, 1))  # how hard a sample is cancels
        slots = intervals(truth + hard + draw.normal(0, 1, (12, 3)), "logprob")
        centre = np.mean([slot.value for slot in slots])
        inside += sum(slot.low - centre <= t - 1 <= slot.high - centre for slot, t in zip(slots, truth, strict=True))
    assert 0.92 <= inside / 900 <= 1.0


def test_a_calibrated_method_uses_the_best_slot():
    [method] = parse("attn_rank")
    calibrated = method.calibrate(READER, samples(40))
    passages = [Segment(id=str(i), text=f"text {i}", score=float(i)) for i in range(K)]
    shown = FairModel(READER).answer("q", passages, calibrated).views[0].order
    assert [BIAS[shown.index(str(i))] for i in range(K)] == sorted(BIAS)
    assert FairModel(READER).answer("q", passages[::-1], calibrated).views[0].order == shown


def test_profiles_are_found_in_the_shared_directory_and_in_a_file(tmp_path, monkeypatch):
    monkeypatch.setenv("FAIRPOS_PROFILES", str(tmp_path))
    fair = FairModel(READER)
    passages = [Segment(id=str(i), text=f"text {i}", score=float(i)) for i in range(K)]
    with pytest.raises(NotCalibrated, match="fairpos calibrate attn_rank --model biased --data FILE -k 8"):
        fair.answer("q", passages, "attn_rank")
    profile = attention_profile(READER, samples(40))
    path = profile.save()
    shown = fair.answer("q", passages, "attn_rank").views[0].order
    assert fair.answer("q", passages, f"attn_rank:profile={path}").views[0].order == shown
    with pytest.raises(NotCalibrated, match="has one for 8 segments"):
        fair.answer("q", passages[:5], "attn_rank")
    assert len(fair.answer("q", passages[:5], "attn_rank:interpolate=true").views[0].order) == 5
    assert fair.answer("q", passages[:1], "attn_rank").views[0].order == ("0",)
    with pytest.raises(NotCalibrated, match=r"it is for the template .* \(answer\), not .* \(rank\)"):
        fair.rank("q", passages, f"attn_rank:profile={path}")
    other = FairModel(replace(READER, name="other"))
    with pytest.raises(NotCalibrated, match="it is for the model biased, not other"):
        other.answer("q", passages, f"attn_rank:profile={path}")
    with pytest.raises(NotCalibrated, match="it is for the model biased, not other"):
        other.answer("q", passages, parse("attn_rank")[0].calibrate(READER, samples(20)))


def test_nothing_is_asked_without_a_profile(tmp_path, monkeypatch):
    monkeypatch.setenv("FAIRPOS_PROFILES", str(tmp_path))

    class Never(FakeBackend):
        def run(self, calls):
            raise AssertionError("asked")

    with pytest.raises(NotCalibrated):
        FairModel(Never()).answer("q", ["a", "b"], "attn_rank")


def test_arranging_alone_reads_the_profile_too(tmp_path):
    path = attention_profile(READER, samples(20)).save(tmp_path / "p.json")
    passages = tuple(Segment(id=str(i), text=f"text {i}", score=float(i)) for i in range(K))
    [method] = parse(f"attn_rank:profile={path}")
    from fairpos import Request

    [view] = method.arrange(Request("answer", "q", passages), READER)
    assert BIAS[view.ids.index(str(K - 1))] == max(BIAS)


def test_layer_rules():
    shares = np.array([[0.2, 0.3, 0.3, 0.2], [0.3, 0.2, 0.2, 0.3], [0.4, 0.1, 0.1, 0.4]])
    assert layers_by_rule(shares, "u_shape") == ([1], "layer 1 (the shallowest U-shaped one)")  # .3 / .2 = 1.5
    assert layers_by_rule(shares, "all") == ([0, 1, 2], "all 3 layers")
    assert layers_by_rule(shares, "2")[0] == [2]
    assert layers_by_rule(shares, "1-2")[0] == [1, 2]
    with pytest.raises(InvalidOption, match="layers must be within 0-2, got '3'"):
        layers_by_rule(shares, "3")
    with pytest.raises(InvalidOption, match="layers must be auto, u_shape, fit"):
        layers_by_rule(shares, "deep")
    with pytest.raises(InvalidRequest, match=r"the most is 0\.67 in layer 0"):
        layers_by_rule(shares[:1], "u_shape")
    with pytest.raises(InvalidRequest, match="needs at least 3 segments"):
        layers_by_rule(shares[:, :2], "u_shape")


def test_the_fitted_layer_is_the_one_that_agrees():
    shares = np.array([[0.2, 0.3, 0.5], [0.5, 0.3, 0.2], [1 / 3, 1 / 3, 1 / 3]])
    assert fitted_layer(shares, np.array([-1.0, -2.0, -2.5])) == (
        [1],
        "layer 1 (fitted to the log-probability of the answer by slot, r = 1.00)",
    )
    assert fitted_layer(shares, np.zeros(3))[0] == [0]


@pytest.mark.parametrize(
    ("change", "options", "error", "words"),
    [
        ({"gold": None}, {}, InvalidRequest, "sample '0' has no gold"),
        ({"accepted": ()}, {}, InvalidRequest, "sample '0' has no answers"),
        ({}, {"until": Until(0.1, budget=7)}, InvalidRequest, "7 calls isn't enough for one sample in 8 slots"),
        ({}, {"signal": "attention"}, InvalidOption, "signal is accuracy or logprob"),
    ],
)
def test_what_a_black_box_profile_needs(change, options, error, words):
    with pytest.raises(error, match=words):
        black_box_profile(READER, [replace(sample, **change) for sample in samples(2)], **options)
    with pytest.raises(InvalidOption, match="width must be above 0"):
        Until(0.0)


def test_what_reading_attention_needs():
    with pytest.raises(UnsupportedBackend, match="'fake' can generate, score"):
        attention_profile(FakeBackend(), samples(2))
    with pytest.raises(InvalidRequest, match="at least 2 calibration samples"):
        attention_profile(READER, samples(1))
    with pytest.raises(InvalidRequest, match="layers=fit needs a gold segment and answers"):
        attention_profile(READER, [replace(sample, gold=None) for sample in samples(2)], layers="fit")
    with pytest.raises(InvalidOption, match="per must be segment or token"):
        attention_profile(READER, samples(2), per="word")


@pytest.mark.parametrize(
    ("layers", "k", "error", "words", "reads"),
    [
        ("deep", K, InvalidOption, "layers must be auto, u_shape, fit, all, a number or a range like 7-12", 0),
        ("3-1", K, InvalidOption, "a range must not end before it starts, got '3-1'", 0),
        ("u_shape", 2, InvalidRequest, "needs at least 3 segments, got 2", 0),
        ("7-99", K, InvalidOption, "layers must be within 0-0, got '7-99'", 1),
    ],
)
def test_a_rule_that_cannot_be_used_is_refused_before_minutes_of_reading(layers, k, error, words, reads):
    class Counting(FakeBackend):
        asked = 0

        def read_attention(self, *args, **kwargs):
            self.asked += 1
            return super().read_attention(*args, **kwargs)

    reader = Counting(slot_bias=BIAS, capabilities=frozenset({"generate", "score", "attention"}))
    with pytest.raises(error, match=words):
        attention_profile(reader, samples(20, k), layers=layers)
    assert reader.asked == reads


def test_a_failed_call_is_an_error_not_a_wrong_answer():
    class Down(FakeBackend):
        def run(self, calls):
            return [
                replace(reply, status="timeout", text="", detail="no answer in 60 s") for reply in super().run(calls)
            ]

    with pytest.raises(BackendError, match=r"any of 2 samples; for '0': timeout \(no answer in 60 s\)"):
        black_box_profile(Down(), samples(2))


@pytest.mark.parametrize(("signal", "task"), [("accuracy", "answer"), ("logprob", "answer"), ("accuracy", "rank")])
def test_a_sample_without_a_reply_in_some_slot_counts_for_no_slot(signal, task):
    class Patchy(FakeBackend):
        def run(self, calls):
            return [
                replace(reply, status="http_error", text="", log_probs=(), detail="HTTP 503")
                if call.prompt.request.segments[0].text.startswith("7 ")
                else reply
                for call, reply in zip(calls, super().run(calls), strict=True)
            ]

    chosen = samples(30)
    hit = {"7"}
    patchy = Patchy(slot_bias=[0.0, 2.0, 1.0], noise=0.1)
    until = Until(0.001)
    found = black_box_profile(patchy, chosen, signal=signal, task=task, until=until)
    whole = FakeBackend(slot_bias=[0.0, 2.0, 1.0], noise=0.1)
    kept = black_box_profile(whole, [s for s in chosen if s.id not in hit], signal=signal, task=task, until=until)
    assert found.values == kept.values
    assert len(found.lost) == len(hit)
    assert "http_error (HTTP 503)" in found.lost[0]
    assert f"{len(hit)} of 30 samples left out" in found.rule


def test_the_same_calibration_gives_the_same_profile(tmp_path):
    one, two = (attention_profile(READER, samples(60), probes=100, seed=4) for _ in range(2))
    assert one == two
    assert one.fingerprint != attention_profile(READER, samples(60), probes=100, seed=5).fingerprint
    assert Profile.load(one.save(tmp_path / "p.json")) == one
    assert find(one.setting, str(tmp_path / "p.json")) == [one]
