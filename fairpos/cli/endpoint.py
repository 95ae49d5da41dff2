"""The model that a command asks: a local one, or an endpoint with its cache and limits."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from fairpos.backends.dry_run import DryRunBackend, Price
from fairpos.cli.engine import EngineOptions
from fairpos.cli.options import LocalOptions
from fairpos.cli.terminal import errors
from fairpos.errors import InvalidOption
from fairpos.files.records import Json
from fairpos.files.text import read_text
from fairpos.model import FairModel

_PREFIX = "openai:"
_ENDPOINT = "Endpoints"

Cache = Annotated[
    Path | None,
    typer.Option(
        help="SQLite file of responses, so that no call is paid twice; where not given, beside the output file.",
        rich_help_panel=_ENDPOINT,
    ),
]
Concurrency = Annotated[
    int, typer.Option(help="Calls at once; of each actor with --engine ray.", rich_help_panel=_ENDPOINT)
]
Timeout = Annotated[float, typer.Option(help="Seconds for one call.", rich_help_panel=_ENDPOINT)]
Attempts = Annotated[int, typer.Option(help="Calls per request, at the most.", rich_help_panel=_ENDPOINT)]
Body = Annotated[
    str | None,
    typer.Option(
        help='JSON object, or @FILE: further fields of every request, {"chat_template_kwargs": {...}}; null takes '
        "one of ours out.",
        rich_help_panel=_ENDPOINT,
    ),
]
Header = Annotated[
    list[str] | None,
    typer.Option(help="'Name: value', sent with every call; may be repeated.", rich_help_panel=_ENDPOINT),
]
Rpm = Annotated[float | None, typer.Option(help="Calls a minute, at the most.", rich_help_panel=_ENDPOINT)]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Ask nobody: say what the run would cost.", rich_help_panel=_ENDPOINT)
]
PriceText = Annotated[
    str | None,
    typer.Option(
        "--price",
        help="What a million prompt tokens and a million new ones cost, 0.15,0.60; with --dry-run, and in advise.",
        rich_help_panel=_ENDPOINT,
    ),
]


@dataclass(frozen=True)
class EndpointOptions:
    """How an endpoint is called: a group of options (see `fairpos.cli.groups`)."""

    cache: Cache = None
    concurrency: Concurrency = 16
    timeout: Timeout = 120.0
    attempts: Attempts = 6
    body: Body = None
    header: Header = None
    rpm: Rpm = None
    dry_run: DryRun = False
    price: PriceText = None

    @property
    def price_given(self) -> Price | None:
        """What tokens cost.

        Raises:
            InvalidOption: --price is something else.
        """
        return None if self.price is None else Price.parse(self.price)

    def fields(self) -> Mapping[str, Json]:
        """The further fields of every request.

        Raises:
            InvalidOption: --body is no JSON object.
        """
        if self.body is None:
            return {}
        text = read_text(Path(self.body[1:])) if self.body.startswith("@") else self.body
        try:
            found = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise InvalidOption(f"--body must be a JSON object, got {text[:100]!r}: {error}") from None
        if not isinstance(found, dict):
            raise InvalidOption(f"--body must be a JSON object, got {text[:100]!r}")
        return found

    def records_at_once(self, name: str, local: int) -> int:
        """Records that run together in one process: what keeps an endpoint busy, or so many on a local model."""
        return 4 * self.concurrency if name.startswith(_PREFIX) else local

    def written(self, output: Path | None, *, resume: bool) -> Path | None:
        """Where results go, and what is there already is read: nowhere in a dry run that doesn't go on with a file."""
        return None if self.dry_run and not resume else output

    def headers(self) -> Mapping[str, str]:
        """The further headers of every call.

        Raises:
            InvalidOption: one has no name or no colon; what was given isn't shown, since it may be a key.
        """
        pairs = [header.partition(":") for header in self.header or ()]
        if not all(name.strip() and colon for name, colon, _ in pairs):
            raise InvalidOption("--header must be 'Name: value'")
        return {name.strip(): value.strip() for name, _, value in pairs}


def open_model(
    name: str,
    *,
    local: LocalOptions,
    output: Path | None,
    endpoint: EndpointOptions,
    engine: EngineOptions = EngineOptions(),
    uses_price: bool = False,
) -> FairModel:
    """The model of that name. An endpoint's responses are kept beside the output file, unless it is said where.

    Args:
        name: As `fairpos.load` takes it.
        local: Of a local model.
        output: Where results go.
        endpoint: How an endpoint is called.
        engine: Where the model runs, or an endpoint is called from.
        uses_price: The command reckons with --price whether it is a dry run or not.

    Raises:
        InvalidOption: an endpoint's option for a local model, or a limit outside of what is allowed.
        FairposError: the model can't be loaded.
    """
    if endpoint.price_given is not None and not (endpoint.dry_run or uses_price):
        raise InvalidOption("--price goes with --dry-run")
    remote = name.startswith(_PREFIX)
    given = {"--cache": endpoint.cache, "--body": endpoint.body, "--header": endpoint.header, "--rpm": endpoint.rpm}
    useless = [option for option, value in given.items() if value is not None]
    if useless and not remote:
        raise InvalidOption(f"{', '.join(useless)} can be used with an endpoint only; {name!r} is a local model")
    fields, headers = endpoint.fields(), endpoint.headers()
    if endpoint.dry_run:
        return FairModel(DryRunBackend(name))
    if not remote:
        return engine.open_local(name, local)
    if local.device is not None:
        raise InvalidOption(f"--device is where a local model runs; {name!r} is behind an endpoint")
    if local.adapter is not None:
        raise InvalidOption(f"--adapter changes the weights of a local model; {name!r} is behind an endpoint")
    from fairpos.backends.openai import connect
    from fairpos.backends.response_cache import ResponseCache

    cache = endpoint.cache
    if cache is None and output is not None:
        cache = output.with_name(output.name + ".responses.sqlite")
    connected = connect(
        name,
        cache=None if cache is None else ResponseCache(cache),
        concurrency=endpoint.concurrency,
        timeout_s=endpoint.timeout,
        attempts=endpoint.attempts,
        headers=headers,
        rpm=endpoint.rpm,
        extra=fields,
    )
    return engine.around_endpoint(FairModel(connected))


def report_cost(fair: FairModel, endpoint: EndpointOptions, work: Callable[[], object]) -> None:
    """Does the work of a dry run, and says what it would cost."""
    assert isinstance(fair.backend, DryRunBackend)
    work()
    usage = fair.backend.usage
    price = endpoint.price_given
    money = "" if price is None else f"; about {price.of(usage):.3g} by the price given"
    errors.print(
        f"a dry run: nobody was asked, nothing was written. It would be {usage.calls} calls, about "
        f"{usage.prompt_tokens} prompt tokens and at most {usage.completion_tokens} new ones{money}. Retries come on "
        "top; what is in a cache comes off.",
        markup=False,
        highlight=False,
        soft_wrap=True,
    )
