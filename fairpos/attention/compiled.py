"""What users compiled inside of a model runs as it is written in calls of ours.

A compiled module would have our hooks traced into its graph; it is compiled anew for every kind of call up to torch's
limit, which with `fullgraph=True` is an error; and it rounds otherwise, so that bits would depend on what was asked
before. The compiled forms are where they were for all other calls:

    module.compile(...)                              the module's `_compiled_call_impl`
    module.forward = torch.compile(module.forward)   its `forward`, or that of its class
    parent.name = torch.compile(parent.name)         a child of another kind
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import MethodType
from typing import Any

from torch import nn

from fairpos.errors import UnsupportedModel

_COMPILERS = ("torch._dynamo", "torch._inductor", "torch._functorch", "torch.fx", "triton")
_WRAPS, _COMPILED_FROM = "torch._dynamo.eval_frame", "_torchdynamo_orig_callable"
_ABSENT: Any = object()


@dataclass
class _CompiledForm:
    """One entry of a module's attributes or children; calls that run it as it is written may overlap."""

    entries: dict[str, Any]
    name: str
    compiled: Any  # `_ABSENT`: the module's class has it
    written: Any  # `_ABSENT`: its class has it
    holders: int = 0

    def put(self, value: Any) -> None:
        """The entry becomes this one."""
        if value is _ABSENT:
            del self.entries[self.name]
        else:
            self.entries[self.name] = value


_aside: dict[tuple[int, str], _CompiledForm] = {}  # by id of the entries, which a form keeps alive
_aside_lock = threading.Lock()


@contextmanager
def as_written(model: nn.Module) -> Iterator[None]:
    """Nothing that was compiled inside of the model runs compiled here.

    Raises:
        UnsupportedModel: code of the model that compiles itself (FlexAttention, a quantization's kernels) couldn't be.
    """
    held = _hold_written(model)
    try:
        yield
    except Exception as error:
        if not is_of_compiler(error):
            raise
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        raise UnsupportedModel(
            f"{type(model).__name__} runs code through torch.compile, which failed ({type(error).__name__}: "
            f"{lines[0] if lines else 'no reason given'}). Modules that you compiled run as they are written, so this "
            'is code that compiles itself: load the model with attn_implementation="sdpa" if it has "flex_attention", '
            'or call torch.compiler.set_stance("force_eager") before'
        ) from error
    finally:
        _release_written(held)


def is_of_compiler(error: BaseException) -> bool:
    """Whether torch.compile raised it, or what it works with."""
    return any(kind.__module__.startswith(_COMPILERS) for kind in type(error).__mro__)


def _hold_written(model: nn.Module) -> list[_CompiledForm]:
    with _aside_lock:
        held = [form for module in model.modules() for form in _compiled_forms(module)]
        for form in held:
            if not form.holders:
                _aside[id(form.entries), form.name] = form
                form.put(form.written)
            form.holders += 1
    return held


def _release_written(held: list[_CompiledForm]) -> None:
    with _aside_lock:
        for form in held:
            form.holders -= 1
            if not form.holders:
                del _aside[id(form.entries), form.name]
                if form.entries.get(form.name, _ABSENT) is form.written:  # else its user has set another meanwhile
                    form.put(form.compiled)


def _compiled_forms(module: nn.Module) -> Iterator[_CompiledForm]:
    """Those of a module and of its children's places, also those that another call has set aside already."""
    own, children = vars(module), module._modules
    for entries, name in [(own, "_compiled_call_impl"), (own, "forward"), *((children, child) for child in children)]:
        if (id(entries), name) in _aside:
            yield _aside[id(entries), name]
    if own.get("_compiled_call_impl") is not None:
        yield _CompiledForm(own, "_compiled_call_impl", own["_compiled_call_impl"], _ABSENT)
    function = getattr(module, "forward", None)
    if (written := _written_function(function)) is not function:
        yield _CompiledForm(own, "forward", own.get("forward", _ABSENT), written)
    for name, child in children.items():
        if (inner := _written_module(child)) is not child:
            yield _CompiledForm(children, name, child, inner)


def _written_module(module: Any) -> Any:
    """The module that `torch.compile(module)` was given."""
    while type(module).__module__ == _WRAPS:
        module = module._modules["_orig_mod"]
    return module


def _written_function(function: Any) -> Any:
    """The function that `torch.compile(function)` was given."""
    if isinstance(function, MethodType):
        inner: Callable[..., Any] = _written_function(function.__func__)
        return function if inner is function.__func__ else MethodType(inner, function.__self__)
    # By where it is from: functools.wraps copies the attribute onto what is wrapped around a compiled function.
    while getattr(function, "__globals__", {}).get("__name__") == _WRAPS and hasattr(function, _COMPILED_FROM):
        function = getattr(function, _COMPILED_FROM)
    return function
