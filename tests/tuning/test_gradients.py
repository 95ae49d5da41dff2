"""Gradients flow through the seam, and are right: against finite differences in float64."""

import copy

import pytest
import torch
from transformers.models.llama.modeling_llama import LlamaRMSNorm

from fairpos.backends.hf import HFBackend
from fairpos.errors import InvalidComposition
from fairpos.methods.catalogue import parse
from fairpos.prompts import render
from fairpos.testing.tiny import tiny_backend
from fairpos.tuning.settings import refuse_untrainable
from fairpos.tuning.student import Student
from fairpos.tuning.training import prove_gradients
from tests.tuning.lists import made_lists

STEP = 1e-6


def norm_in_own_precision(self, hidden):
    """Llama's norm rounds to float32, which finite differences can't stand."""
    return self.weight * hidden * torch.rsqrt(hidden.pow(2).mean(-1, keepdim=True) + self.variance_epsilon)


@pytest.fixture
def student(monkeypatch):
    monkeypatch.setattr(LlamaRMSNorm, "forward", norm_in_own_precision)
    model = copy.deepcopy(tiny_backend().model).double()
    return lambda spec: Student(HFBackend(model, tiny_backend().tokenizer), (parse(spec) or (None,))[0])


@pytest.mark.parametrize("spec", ["set_based", "none", "rotor", "ape:temperature=0.8,scale=0.9", "graph_kv", "string"])
def test_gradients_are_finite_differences(student, spec):
    learner, [lessons] = student(spec), made_lists(1)
    draw = torch.Generator().manual_seed(0)
    parameters = dict(learner.local.model.named_parameters())
    chosen = [parameters[f"model.layers.{i}.self_attn.{name}_proj.weight"] for i, name in enumerate("kqvo")]
    learner.loss(lessons).backward()
    for parameter in chosen:
        direction = torch.randn(parameter.shape, generator=draw, dtype=torch.float64)
        expected = float((parameter.grad * direction).sum())
        losses = []
        with torch.no_grad():
            for sign in (1, -1):
                parameter += sign * STEP * direction
                losses.append(float(learner.loss(lessons)))
                parameter -= sign * STEP * direction
        assert (losses[0] - losses[1]) / (2 * STEP) == pytest.approx(expected, rel=1e-5, abs=1e-6)


def test_the_loss_is_that_of_each_question_alone(student):
    learner, [lessons] = student("set_based"), made_lists(1)
    with torch.no_grad():
        alone = [float(learner.loss([each])) for each in lessons]
        assert float(learner.loss(lessons)) == pytest.approx(sum(alone) / len(alone), rel=1e-9)


def test_attention_without_gradients_is_refused(student):
    pytest.importorskip("peft")
    learner, [lessons] = student("pine"), made_lists(1)
    with pytest.raises(InvalidComposition, match="pine can't be trained: gradients"):
        prove_gradients(learner, "pine", lessons[0].request, lessons[0].template)
    assert not any(parameter.grad is not None for parameter in learner.local.model.parameters())


@pytest.mark.parametrize(
    ("spec", "reason"),
    [
        ("permutation", "acts on the output"),
        ("ms_poe", "looks at the prompt's end"),
        ("placements", "several rows"),
    ],
)
def test_methods_that_no_adapter_can_serve_are_refused(spec, reason):
    with pytest.raises(InvalidComposition, match=reason):
        refuse_untrainable(parse(spec)[0])


def test_other_calls_keep_nothing_for_the_way_back():
    backend, [lessons] = tiny_backend(), made_lists(1)
    layout = backend.layout(render(lessons[0].request, lessons[0].template))
    assert not backend.logits([layout], parse("set_based")[0]).requires_grad
