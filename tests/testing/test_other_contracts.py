"""Every ranker, relevance, format and backend keeps its contract, and the contracts find what doesn't."""

import json
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import pytest

from fairpos.backends.base import Backend, Call, Generate, Reply
from fairpos.backends.fake import FakeBackend
from fairpos.backends.once import OnceBackend
from fairpos.errors import InvalidRequest
from fairpos.files.formats.base import FORMATS, Format, Source, converted
from fairpos.files.records import read, text_of
from fairpos.prompts import render
from fairpos.rankers.base import RANKERS, Asking, gathered, view_of
from fairpos.rankers.first_token import FirstToken
from fairpos.rankers.pointwise import Pointwise
from fairpos.relevance.base import RELEVANCE
from fairpos.testing.backends import BACKEND_CONTRACT, backend_faults
from fairpos.testing.contract import BrokenContract
from fairpos.testing.formats import FORMAT_CONTRACT, FormatCase, check_format, format_faults
from fairpos.testing.rankers import RANKER_CONTRACT, RankerCase, check_ranker, ranker_faults
from fairpos.testing.relevances import RELEVANCE_CONTRACT, check_relevance, relevance_faults
from fairpos.testing.subjects import RecordingBackend, ToldBackend, biased_backend, wordy_backend
from fairpos.testing.tiny import tiny_backend
from fairpos.types import Capability, Usage
from tests.set_encoder_checkpoint import write_checkpoint


def first_cells(page: str) -> list[str]:
    """Of all tables of a page of the documentation."""
    text = (Path(__file__).parents[2] / "docs" / page).read_text(encoding="utf-8")
    return re.findall(r"^\| `?(\w+)`? \|", text, re.MULTILINE)


# --- Rankers


# Models for rankers that ask for anything but labels, yes or no, by the ranker's name: what a good reply looks like.
def worded(call: Call) -> Reply:
    """A reply's log-probability by the length of the passage that it is asked of; four tokens each."""
    length = len(call.prompt.request.segments[0].text)
    count = len(call.replies)
    return Reply(log_probs=(-length / 10,) * count, tokens=(4,) * count)


def worded_alone(call: Call) -> Reply:
    """A reply's log-probability by its own length, and the prompt's; four tokens each."""
    each = len(call.prompt.text) / 100
    return Reply(log_probs=tuple(-len(text) * each for text in call.replies), tokens=(4,) * len(call.replies))


RANKER_MODELS: dict[str, Backend] = {"likelihood": ToldBackend(worded), "candidates": ToldBackend(worded_alone)}


@pytest.fixture(scope="module")
def told_of(tmp_path_factory):
    """Options that a ranker or relevance can't do without, by its name."""
    folder = write_checkpoint(tmp_path_factory.mktemp("set-encoder"))
    return {"set_encoder": {"model": str(folder)}}


@pytest.mark.parametrize("check", RANKER_CONTRACT.checks)
@pytest.mark.parametrize("name", RANKERS)
def test_every_ranker_keeps_the_contract(name, check, told_of):
    models = [RANKER_MODELS[name]] if name in RANKER_MODELS else []
    RANKER_CONTRACT.checks[check](RankerCase.of(RANKERS[name](**told_of.get(name, {})), *models))


@pytest.mark.parametrize("name", RANKERS)
def test_every_ranker_is_documented(name):
    assert name in first_cells("ranking.md"), f"docs/ranking.md needs a row for the ranker {name!r}"


@dataclass(frozen=True)
class Forgetful(FirstToken):
    """Loses what it was asked with, and the last segment; and isn't free of order."""

    name: ClassVar[str] = "forgetful"
    summary: ClassVar[str] = "forgets"
    order_free: ClassVar[bool] = True

    def __call__(self, request, asking):
        output = yield from super().__call__(request, Asking())
        return replace(output, ranking=output.ranking[:-1], status="ok", usage=output.usage + output.usage)


def test_a_faulty_ranker_fails_in_each_place():
    faults = {fault.check: fault.detail for fault in ranker_faults(Forgetful())}
    assert set(RANKER_CONTRACT.checks) - set(faults) == {
        "refuses_options_out_of_range",
        "gives_the_same_again",
        "tells_segments_apart",
    }
    assert "the ranking must have" in faults["ranks_every_segment_once"]
    with pytest.raises(BrokenContract, match="7 of 10 checks fail"):
        check_ranker(Forgetful())


@dataclass(frozen=True)
class Shouting(Pointwise):
    """Asks for a word of its own, in writing, and in nobody else's way.

    COST: a call a segment. HURTS: the ears.
    """

    name: ClassVar[str] = "shouting"
    summary: ClassVar[str] = "asks for a number of exclamation marks"
    requires: ClassVar[frozenset[Capability]] = frozenset()

    def __call__(self, request, asking):
        segments = request.canonical().segments
        prompts = [render(replace(request, segments=(each,), labels=None), asking.template) for each in segments]
        replies = yield [Generate(prompt, attend=asking.attend) for prompt in prompts]
        scores, views = {}, []
        for segment, reply in zip(segments, replies, strict=True):
            loud = reply.status == "ok" and reply.text.startswith("!")
            scores |= {segment.id: float(len(reply.text))} if loud else {}
            status = "unparsable" if reply.status == "ok" and not loud else reply.status
            views.append(view_of((segment.id,), reply, status=status))
        return gathered(request, scores, views, sum((reply.usage for reply in replies), Usage()), 0.0)


def test_a_ranker_may_ask_for_what_only_a_model_of_its_own_can_answer():
    faults = {fault.check: fault.detail for fault in ranker_faults(Shouting())}
    assert "unparsable on a model that says '[1]'; the contract's model knows" in faults["ranks_every_segment_once"]
    told = ToldBackend(lambda call: Reply(text="!" * len(call.prompt.request.segments[0].text)))
    faults = {fault.check: fault.detail for fault in ranker_faults(Shouting(), told)}
    assert set(faults) == {"hands_on_template_and_decoding"}
    assert "must have asking.decoding" in faults["hands_on_template_and_decoding"]
    deaf = ToldBackend(lambda call: Reply(text="!"))
    faults = {fault.check: fault.detail for fault in ranker_faults(Shouting(), deaf)}
    assert "are all tied" in faults["tells_segments_apart"]


# --- Relevances


@pytest.mark.parametrize("check", RELEVANCE_CONTRACT.checks)
@pytest.mark.parametrize("name", sorted(set(RELEVANCE) - {"cross_encoder"}))  # which has no model in here
def test_every_relevance_keeps_the_contract(name, check, told_of):
    RELEVANCE_CONTRACT.checks[check](RELEVANCE[name](**told_of.get(name, {})))


@dataclass(frozen=True)
class ByPlace:
    """COST: nothing. HURTS: always."""

    name: ClassVar[str] = "by_place"
    summary: ClassVar[str] = "the first is the best"
    source: ClassVar[str] = ""

    def scores(self, query, segments):
        return {segment.id: -float(place) for place, segment in enumerate(segments)} | {"nobody": 0.0}


def test_a_faulty_relevance_fails_in_each_place():
    assert {fault.check for fault in relevance_faults(ByPlace())} == {"scores_every_segment", "is_free_of_order"}
    with pytest.raises(BrokenContract, match="2 of 5 checks fail for ByPlace"):
        check_relevance(ByPlace())


@dataclass(frozen=True)
class ByCompany:
    """COST: nothing. HURTS: always."""

    name: ClassVar[str] = "by_company"
    summary: ClassVar[str] = "how many there are"
    source: ClassVar[str] = ""
    alone: ClassVar[bool] = True

    def scores(self, query, segments):
        return {segment.id: float(len(segments)) for segment in segments}


def test_a_relevance_that_says_alone_must_be():
    faults = {fault.check: fault.detail for fault in relevance_faults(ByCompany())}
    assert set(faults) == {"is_alone_where_it_says_so"}
    assert "alone has 1.0, among others 4.0" in faults["is_alone_where_it_says_so"]


# --- Backends


@pytest.mark.parametrize("check", BACKEND_CONTRACT.checks)
@pytest.mark.parametrize(
    "backend",
    [biased_backend, wordy_backend, lambda: biased_backend("attention"), tiny_backend],
    ids=["scores", "words", "attention", "tiny"],
)
def test_backends_keep_the_contract(backend, check):
    BACKEND_CONTRACT.checks[check](backend())


@pytest.mark.parametrize("wrap", [RecordingBackend, OnceBackend], ids=["recording", "once"])
def test_backends_around_another_keep_the_contract(wrap):
    assert backend_faults(wrap(biased_backend("attention"))) == ()


class Muddled(FakeBackend):
    """Gives replies in another order, says that it can be read, and costs nothing."""

    capabilities: frozenset[Capability] = frozenset({"generate", "score", "sing"})

    def run(self, calls):
        return [replace(reply, usage=replace(reply.usage, calls=0)) for reply in super().run(calls)][::-1]


def test_a_faulty_backend_fails_in_each_place():
    faults = {fault.check: fault.detail for fault in backend_faults(Muddled(capabilities=Muddled.capabilities))}
    assert "sing" in faults["says_what_it_is_and_can"]
    assert set(faults) == {
        "says_what_it_is_and_can",
        "answers_every_call_in_order",
        "counts_what_it_used",
        "gives_the_same_again_and_alone",
    }


# --- Formats


def lines_of(path: Path, *records) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    return path


def own_sample(folder: Path) -> FormatCase:
    answers = [{"id": "a", "text": "four"}, {"id": "b", "text": "five"}]
    records = [{"id": str(n), "instruction": "2 + 2?", "answers": answers, "gold": "a"} for n in (1, 2)]
    return FormatCase(FORMATS["fairpos"], lines_of(folder / "pairs.jsonl", *records))


def alpaca_eval_sample(folder: Path) -> FormatCase:
    path = folder / "outputs.json"
    path.write_text(json.dumps([{"instruction": "2 + 2?", "output_1": "four", "output_2": "five", "dataset": "x"}]))
    return FormatCase(FORMATS["alpaca_eval"], path)


def inspect_ai_sample(folder: Path) -> FormatCase:
    sample = {"input": "2 + 2?", "choices": ["four", "five"], "target": "A", "id": 7, "metadata": {"level": 1}}
    return FormatCase(FORMATS["inspect_ai"], lines_of(folder / "samples.jsonl", sample))


def fastchat_sample(folder: Path) -> FormatCase:
    lines_of(folder / "question.jsonl", {"question_id": 81, "category": "math", "turns": ["2 + 2?", "And 3?"]})
    for model, text in (("alpha", "four"), ("beta", "five")):
        answer = {"question_id": 81, "model_id": model, "choices": [{"index": 0, "turns": [text, text]}]}
        lines_of(folder / "model_answer" / f"{model}.jsonl", answer)
    return FormatCase(FORMATS["fastchat"], folder)


def arena_hard_sample(folder: Path) -> FormatCase:
    lines_of(folder / "question.jsonl", {"uid": "u1", "prompt": "2 + 2?", "category": "math"})
    for model, text in (("alpha", "four"), ("beta", "five")):
        messages = [{"role": "user", "content": "2 + 2?"}, {"role": "assistant", "content": {"answer": text}}]
        lines_of(folder / "model_answer" / f"{model}.jsonl", {"uid": "u1", "messages": messages})
    return FormatCase(FORMATS["arena_hard"], folder, baseline="alpha")


def csv_sample(folder: Path) -> FormatCase:
    path = folder / "pairs.csv"
    path.write_text("id,instruction,response_a,response_b,gold\n1,2 + 2?,four,five,A\n2,2 + 2?,four,,A\n")
    return FormatCase(FORMATS["csv"], path)


def judgebench_sample(folder: Path) -> FormatCase:
    pair = {"pair_id": "p", "question": "2 + 2?", "response_A": "four", "response_B": "five", "label": "A>B"}
    return FormatCase(FORMATS["judgebench"], lines_of(folder / "pairs.jsonl", pair))


def reward_bench_sample(folder: Path) -> FormatCase:
    one = {"id": 1, "subset": "math", "prompt": "2 + 2?", "chosen": "four", "rejected": "five"}
    two = {"id": "2", "subset": "Math", "prompt": "2 + 2?", "chosen": ["four"], "rejected": ["five", "six", "one"]}
    return FormatCase(FORMATS["reward_bench"], lines_of(folder / "data.jsonl", one, two))


SAMPLES = {
    "csv": csv_sample,
    "judgebench": judgebench_sample,
    "reward_bench": reward_bench_sample,
    "fairpos": own_sample,
    "alpaca_eval": alpaca_eval_sample,
    "inspect_ai": inspect_ai_sample,
    "fastchat": fastchat_sample,
    "arena_hard": arena_hard_sample,
}


@pytest.mark.parametrize("check", FORMAT_CONTRACT.checks)
@pytest.mark.parametrize("name", FORMATS)
def test_every_format_keeps_the_contract(name, check, tmp_path):
    assert name in SAMPLES, f"write a small file of {name!r} in a function, and name it in SAMPLES"
    FORMAT_CONTRACT.checks[check](SAMPLES[name](tmp_path))


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_is_documented(name):
    assert name in first_cells("judging.md"), f"docs/judging.md needs a row for the format {name!r}"


def test_a_faulty_format_fails_in_each_place(tmp_path):
    def read_careless(source: Source):
        def convert(record, number):
            if "pair" not in record:
                raise KeyError("pair")
            return {"id": "same", "instruction": text_of(record, "task"), "answers": record["pair"]}

        return converted(read(source.path), convert)

    def write_careless(item, verdict, prompts):
        return {"winner": verdict.winner}  # a tie looks like no verdict

    faulty = Format(
        "Careless Format", "loses\nlines", read_careless, write_careless, lambda path, records, source: None
    )
    sample = lines_of(tmp_path / "s.jsonl", {"task": "2 + 2?", "pair": ["4", "5"]}, {"task": "3?", "pair": ["3", "4"]})
    faults = {fault.check: fault.detail for fault in format_faults(faulty, sample)}
    assert set(faults) == set(FORMAT_CONTRACT.checks) - {"reads_the_same_again"}
    assert "no verdict" in faults["writes_each_outcome_apart"]
    assert "KeyError" in faults["refuses_what_is_not_there"]
    with pytest.raises(BrokenContract, match="5 of 6 checks fail for Careless Format"):
        check_format(faulty, sample)
    with pytest.raises(InvalidRequest):
        FORMATS["fairpos"].read(Source(tmp_path / "absent"))
