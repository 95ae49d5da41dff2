"""Thinking traces: what follows them counts, what is inside of them doesn't."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fairpos.backends.thinking import Said, without_thinking

TRACES = {
    "think": ("<think>", "</think>"),
    "capitals": ("<THINK>", "</THINK>"),
    "thinking": ("<thinking>", "</thinking>"),
    "with an attribute": ('<think time="3">', "</think>"),
    "thought": ("<thought>", "</thought>"),
    "reasoning": ("<reasoning>", "</reasoning>"),
    "analysis": ("<analysis>", "</analysis>"),
    "of a model's name": ("<longcat_think>", "</longcat_think>"),
    "chain of thought": ("<chain_of_thought>", "</chain_of_thought>"),
    "final response": ("Here are my reasoning steps:", "[BEGIN FINAL RESPONSE]"),
    "content": ("<|think|>", "<|end|><|begin|>assistant<|content|>"),
    "brackets": ("[THINK]", "[/THINK]"),
    "triangles": ("◁think▷", "◁/think▷"),
    "seed": ("<seed:think>", "</seed:think>"),
    "begin of thought": ("<|begin_of_thought|>", "<|end_of_thought|>"),
    "start thinking": ("<|START_THINKING|>", "<|END_THINKING|>"),
    "channel of one bar": ("<|channel>thought\n", "<channel|>"),
    "words": ("Here is my thought process:", "Here is my response:"),
    "harmony": ("<|channel|>analysis<|message|>", "<|end|><|start|>assistant<|channel|>final<|message|>"),
    "harmony without marks": ("analysis", "assistantfinal"),
    "harmony, twice": (
        "<|channel|>analysis<|message|>A<|end|><|start|>assistant<|channel|>commentary<|message|>",
        "<|end|><|start|>assistant<|channel|>final<|message|>",
    ),
}


@pytest.mark.parametrize("name", TRACES)
def test_what_follows_the_trace_counts(name):
    opening, closing = TRACES[name]
    assert without_thinking(f"{opening}First I'd say [[B]], [3] > [1].{closing}\n\n[[A]]") == Said(
        "[[A]]", thought=True
    )
    assert without_thinking(f"{opening}{closing}[[A]]") == Said("[[A]]", thought=True)
    assert without_thinking(f"{opening}I'd say [[B]].{closing}") == Said("", thought=True)
    assert without_thinking(f"{opening}I'd say [[B]], or ev") == Said("", thought=True, unfinished=True)


@pytest.mark.parametrize("closing", [c for n, (_, c) in TRACES.items() if "without marks" not in n])
def test_a_trace_that_the_prompt_opened(closing):
    assert without_thinking(f"I'd say [[B]].{closing} [[A]]").text == "[[A]]"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("<think>a</think> draft [[B]] <think>b</think> [[A]]", "[[A]]"),
        ("<think>a <think>b</think> [[B]] </think> [[A]]", "[[A]]"),
        ("Sure.\n<think>[[B]]</think>\n[[A]]", "[[A]]"),
        ("<think>a</think><answer>[2] > [1]</answer>", "[2] > [1]"),
        ("<think>a</think><answer>42", "42"),
        ("<|begin_of_thought|>a<|end_of_thought|><|begin_of_solution|>42<|end_of_solution|>", "42"),
        ("<|channel|>final<|message|>42<|return|>", "42"),
    ],
)
def test_odd_traces(text, said):
    assert without_thinking(text).text == said


@pytest.mark.parametrize("end", ["[END FINAL RESPONSE]", "\n[END FINAL RESPONSE]\n", "<|end|>"])
def test_a_mark_at_the_end_is_none_of_the_reply(end):
    assert without_thinking(f"<think>[[B]]</think>[[A]]{end}").text == "[[A]]"


def test_markup_at_the_end_of_a_reply_stays():
    assert without_thinking("<think>hm</think>So <b>Rome</b>").text == "So <b>Rome</b>"


def test_a_trace_after_a_verdict_that_is_cut_off_takes_it_back():
    assert without_thinking("[[A]] <think>wait, maybe").unfinished


@pytest.mark.parametrize(
    "text",
    [
        "Models write `<think>` before and `</think>` after.",
        "I think that analysis is final.",
        "analysis of the data",
        "a < b, <b>bold</b>, [think tank]",
        "The <answer> tag",
        "",
    ],
)
def test_what_is_no_trace_is_left_alone(text):
    assert without_thinking(text) == Said(text)


@settings(deadline=None)
@given(st.text(), st.sampled_from(sorted(TRACES)), st.text())
def test_nothing_of_a_trace_is_said(inside, name, after):
    opening, closing = TRACES[name]
    said = without_thinking(f"{opening}Q{inside}{closing}\n{after}")
    assert said.thought
    assert "Q" not in said.text or "Q" in after
