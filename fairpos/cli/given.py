"""Which options of a command were given on the command line: one that has no meaning there is refused, not ignored."""

from __future__ import annotations

from collections.abc import Collection

import typer

from fairpos.errors import InvalidOption


def refuse_given(context: typer.Context, names: Collection[str], what: str) -> None:
    """Refuses options that were given.

    Args:
        context: Of the command.
        names: Their names in Python.
        what: Where they have no meaning: "--task retrieval".

    Raises:
        InvalidOption: one was given.
    """
    for parameter in context.command.params:
        if parameter.name in names and _is_given(context, parameter.name):
            raise InvalidOption(f"{max(parameter.opts, key=len)} has no meaning with {what}")


def refuse_given_but(context: typer.Context, names: Collection[str], what: str) -> None:
    """Refuses all options that were given, but for these; as `refuse_given`."""
    others = {str(parameter.name) for parameter in context.command.params} - set(names)
    refuse_given(context, others, what)


def _is_given(context: typer.Context, name: str) -> bool:
    source = context.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"
