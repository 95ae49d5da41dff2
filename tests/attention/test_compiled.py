"""What is compiled inside of a model runs as it is written in calls of ours, and is compiled again after them."""

import functools
from types import MethodType

import pytest
import torch
from torch import nn

import fairpos
from fairpos.attention.compiled import as_written
from fairpos.backends.base import Decoding, Live
from fairpos.errors import UnsupportedModel
from tests.architectures import small_model
from tests.service.running import byte_tokenizer

pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit.script_method` is deprecated:DeprecationWarning")

PASSAGES = ["Anna has 3 apples.", "Berlin is a big city in Germany.", "Cats sleep."]


def compiled_children(parent, names, **options):
    for name in names:
        setattr(parent, name, torch.compile(getattr(parent, name), **options))


def compiled_forward(modules, **options):
    for module in modules:
        module.forward = torch.compile(module.forward, **options)


def compiled_in_place(modules, **options):
    for module in modules:
        module.compile(**options)


def all_modules(model):
    return [model, model.model, *model.model.layers, *(layer.self_attn for layer in model.model.layers)]


def nested(model, **options):
    """A compiled layer in a compiled list in a compiled decoder, whose layers' parts are compiled as well."""
    compiled_in_place([layer.mlp for layer in model.model.layers], **options)
    compiled_forward([layer.self_attn for layer in model.model.layers], **options)
    for number, layer in enumerate(model.model.layers):
        model.model.layers[number] = torch.compile(layer, **options)
    compiled_children(model, ["model", "lm_head"], **options)


FORMS = {
    "in place": lambda model, **options: compiled_in_place(all_modules(model), **options),
    "functions": lambda model, **options: compiled_forward(all_modules(model), **options),
    "layers": lambda model, **options: [
        compiled_children(model.model.layers, [str(i) for i in range(4)], **options),
        compiled_children(model.model, ["rotary_emb", "norm"], **options),
    ],
    "decoder": lambda model, **options: compiled_children(model, ["model"], **options),
    "nested": nested,
}


def state_of(model):
    """Whatever compiling changes."""
    return [
        (module._compiled_call_impl, vars(module).get("forward"), dict(module._modules)) for module in model.modules()
    ]


@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_what_the_model_gives_without_and_stays(form):
    graphs = []

    def count(graph, _):
        graphs.append(graph)
        return graph

    model = small_model("llama")
    FORMS[form](model, backend=count, fullgraph=True)
    before = state_of(model)
    fair, plain = (fairpos.wrap(each, byte_tokenizer()) for each in (model, small_model("llama")))
    for methods in ("none", "permutation:views=2", "set_based", "placements:views=2"):
        for passages in (PASSAGES, PASSAGES[:2]):
            pieces: list[str] = []
            streamed = Decoding(max_new_tokens=3, live=Live(pieces.append, lambda: False))
            answers = [each.answer("Who?", passages, methods, decoding=streamed).text for each in (plain, fair)]
            scores = [each.rank("Who?", passages, methods).scores for each in (plain, fair)]
            assert answers[0] == answers[1]
            assert scores[0] == scores[1]
    assert not graphs
    assert state_of(model) == before
    with torch.no_grad():
        model(torch.tensor([[1, 2]]))
    assert graphs


def test_torch_alone_ends_in_an_error_at_its_limit():
    """What the calls of the test before would meet."""
    model = small_model("llama")
    compiled_in_place(model.model.layers, backend="eager", fullgraph=True)
    with (
        torch._dynamo.config.patch(recompile_limit=2),
        pytest.raises(torch._dynamo.exc.FailOnRecompileLimitHit),
        torch.no_grad(),
    ):
        model.generate(torch.tensor([[1, 2, 3]]), max_new_tokens=8)


def test_calls_that_overlap_put_the_forms_back_once():
    model = small_model("llama")
    FORMS["nested"](model, backend="eager")
    before = state_of(model)
    first, second = as_written(model), as_written(model)
    first.__enter__()
    written = state_of(model)
    assert written != before
    assert not any(call for call, _, _ in written)
    second.__enter__()
    first.__exit__(None, None, None)
    assert state_of(model) == written
    second.__exit__(None, None, None)
    assert state_of(model) == before


def test_what_is_set_meanwhile_stays():
    model = nn.Sequential(nn.Linear(2, 2))
    model[0].compile(backend="eager")
    model[0].forward = torch.compile(model[0].forward, backend="eager")
    with as_written(model):
        model[0].compile(backend="eager")
        other, model[0].forward = model[0]._compiled_call_impl, lambda x: x
    assert model[0]._compiled_call_impl is other
    assert model[0].forward(3) == 3


def test_a_method_of_a_class_and_what_is_wrapped_around_a_compiled_function():
    class Doubled(nn.Linear):
        @torch.compile(backend="eager")
        def forward(self, x):
            return 2 * super().forward(x)

    module = Doubled(2, 2)
    x, compiled = torch.ones(2), Doubled.forward
    with as_written(module), torch.compiler.set_stance("fail_on_recompile"):
        assert torch.equal(module(x), 2 * nn.Linear.forward(module, x))
    assert "forward" not in vars(module)
    bound = module.forward = MethodType(compiled, module)

    @functools.wraps(bound)
    def plus_one(y):
        return bound(y) + 1

    module.forward = plus_one
    with as_written(module):
        assert module.forward is plus_one


class CompilesItself(nn.Module):
    """A part of a model that hands itself to torch.compile, in a way that can't work."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner, self.calls = inner, 0

    def _breaks_the_graph(self, x):
        torch._dynamo.graph_break()
        return self.inner(x)

    def _counts_calls(self, x):
        self.calls += 1
        return self.inner(x) * min(self.calls, 1)

    @torch.compiler.disable(recursive=False)
    def forward(self, x):
        return torch.compile(getattr(self, self.how), backend="eager", fullgraph=True)(x)


@pytest.mark.parametrize(
    ("how", "said"), [("_breaks_the_graph", "Unsupported"), ("_counts_calls", "FailOnRecompileLimitHit")]
)
@pytest.mark.parametrize("methods", ["none", "permutation:views=2", "set_based"])
def test_code_that_compiles_itself_and_fails_is_refused_with_a_way_out(how, said, methods):
    model = small_model("llama")
    for layer in model.model.layers:
        layer.mlp = CompilesItself(layer.mlp)
        layer.mlp.how = how
    fair = fairpos.wrap(model, byte_tokenizer())
    with torch._dynamo.config.patch(recompile_limit=2):
        for call in (fair.answer, fair.rank):
            with pytest.raises(UnsupportedModel, match=rf"{said}.*set_stance\(\"force_eager\"\)"):
                call("Who?", PASSAGES, methods=methods)
    with torch.compiler.set_stance("force_eager"):
        assert fair.answer("Who?", PASSAGES, methods, max_new_tokens=4).usage.completion_tokens


def test_a_generate_that_was_put_on_the_model_does_not_bring_its_habits_back():
    model, plain = small_model("llama"), small_model("llama")
    model.generation_config.repetition_penalty = 9.0
    model.generate = torch.compile(model.generate, backend="eager")
    answers = [
        fairpos.wrap(each, byte_tokenizer()).answer("Who?", PASSAGES, max_new_tokens=9) for each in (model, plain)
    ]
    assert answers[0].text == answers[1].text
