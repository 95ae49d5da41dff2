"""Modules that their user compiled in place (`layer.compile()`) run as they are written while their attention is ours.

A compiled module would have our hooks traced into its graph: with `fullgraph=True` it can't, and else it is compiled
anew for every kind of call. The compiled form stays where it was for all other calls.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import nn


def set_compiled_aside(model: nn.Module) -> Callable[[], None]:
    """Takes the compiled form off every module that has one; returns what puts it back."""
    compiled = [(module, module._compiled_call_impl) for module in model.modules() if module._compiled_call_impl]
    for module, _ in compiled:
        module._compiled_call_impl = None

    def put_back() -> None:
        for module, call in compiled:
            module._compiled_call_impl = call

    return put_back
