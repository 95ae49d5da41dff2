"""From a request's options to the library's work, and from its outputs to the reply's `fairpos` block."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from urllib.parse import quote

from fairpos.backends.base import Backend, Decoding, Finish, Generate, Reply
from fairpos.backends.work import Work
from fairpos.calibration.profile import Profile, directory
from fairpos.errors import InvalidOption
from fairpos.methods.base import Method
from fairpos.methods.catalogue import parse
from fairpos.prompts import SERVICE_TEMPLATES, Prompt, Template
from fairpos.rankers.base import find_ranker
from fairpos.runner import start
from fairpos.types import Output, Request, Task, Usage, View

from .engine import Engine, Finished, Job
from .errors import UNSUPPORTED, ServiceError
from .metrics import Metrics
from .schemas import Done, Options
from .schemas import Usage as TokenUsage
from .settings import Settings
from .upstream import Upstream

# The client's own words say what is wanted; documents come before them.
CHAT = SERVICE_TEMPLATES["answer"]
PLAIN = Template(instruction="", segment="{text}", question="{query}")  # no documents
_HEADER = 4096  # longest x-fairpos-order; the body always has it


@dataclass(frozen=True, slots=True)
class Ask:
    """What is to be asked, and how.

    Attributes:
        request: The question and its segments.
        methods: Against position bias, outermost first.
        spec: The methods as they were written.
        passing: Whether the plain model may answer where a method can't be used.
        arrange_only: Stop where text would be generated; the output's views have the orders.
    """

    request: Request
    methods: tuple[Method, ...]
    spec: str
    ranker: str
    template: Template | None = None
    decoding: Decoding = field(default_factory=Decoding)
    passing: bool = False
    arrange_only: bool = False
    notes: tuple[str, ...] = ()

    @classmethod
    def of(
        cls,
        request: Request,
        options: Options,
        settings: Settings,
        *,
        default: str,
        template: Template | None = None,
        decoding: Decoding | None = None,
        arrange_only: bool = False,
    ) -> Ask:
        """Reads the options; `default` are the methods of a request that names none.

        Raises:
            UnknownName, InvalidOption: see the library.
        """
        given = default if options.methods is None else options.methods
        spec = given if isinstance(given, str) else "+".join(given)
        methods = tuple(_seeded(_allowed(method, settings), options.seed) for method in parse(spec))
        return cls(
            request=request,
            methods=methods,
            spec=spec if methods else "none",
            ranker=options.ranker or settings.ranker,
            template=options.template.template() if options.template is not None else template,
            decoding=decoding or Decoding(),
            passing=options.on_unsupported == "pass",
            arrange_only=arrange_only,
        )

    def plain(self, reason: str) -> Ask:
        """The same without methods, and why."""
        return replace(self, methods=(), spec="none", notes=(*self.notes, f"{self.spec} was not applied: {reason}"))

    async def begun(self, backend: Backend) -> tuple[Ask, Work[list[Output]]]:
        """This with its calibrations at hand, and its work; in a thread, because files may have to be read."""
        if not self.methods:
            return self, self.work(backend)
        return await asyncio.to_thread(self._begun, backend)

    def _begun(self, backend: Backend) -> tuple[Ask, Work[list[Output]]]:
        methods = tuple(method.ready([self.request], backend, self.template) for method in self.methods)
        ready = replace(self, methods=methods)
        return ready, ready.work(backend)

    def work(self, backend: Backend) -> Work[list[Output]]:
        """The library's work.

        Raises:
            FairposError: what the backend or the task doesn't allow.
        """
        work = start(
            [self.request],
            self.methods,
            backend,
            ranker=find_ranker(self.ranker),
            template=self.template,
            decoding=self.decoding,
        )
        return _arranged(work) if self.arrange_only else work

    def one_text(self, backend: Backend) -> bool:
        """Whether a generated text is the answer as it is, or views that vote write it together."""
        folding = [method for method in self.methods if method.family == "output"]
        return all(method.ballot(self.request, backend) is not None for method in folding)


def count(metrics: Metrics, ask: Ask) -> None:
    """Counts the methods of a request."""
    for name in [method.name for method in ask.methods] or ["none"]:
        metrics.methods.labels(name, ask.request.task).inc()


async def on_engine(engine: Engine, ask: Ask, client: str) -> tuple[Ask, Finished]:
    """Asks a local model; where it can't use the methods and may do without, asks it plainly.

    Returns:
        What was asked in the end, and what came of it.
    """
    try:
        ready, work = await ask.begun(engine.backend)
        return ready, await engine.submit(Job(work, client)).result()
    except UNSUPPORTED as error:
        if not (ask.passing and ask.methods):
            raise
        plain = ask.plain(str(error))
        return plain, await engine.submit(Job(plain.work(engine.backend), client)).result()


async def on_endpoint(backend: Backend, ask: Ask) -> tuple[Ask, Finished]:
    """Asks a model behind an endpoint; its calls run at once."""
    try:
        ready, work = await ask.begun(backend)
        return ready, await asyncio.to_thread(_run, work, backend)
    except UNSUPPORTED as error:
        if not (ask.passing and ask.methods):
            raise
        plain = ask.plain(str(error))
        return plain, await asyncio.to_thread(_run, plain.work(backend), backend)


async def on_target(target: Engine | Upstream, model: str, ask: Ask, client: str) -> tuple[Ask, Finished]:
    """Asks whoever answers for a model: a local engine, in this client's turn, or the endpoint behind us."""
    if isinstance(target, Engine):
        return await on_engine(target, ask, client)
    return await on_endpoint(target.model(model), ask)


async def first_prompt(backend: Backend, ask: Ask) -> tuple[Ask, Prompt | None]:
    """Lets the methods work up to the one prompt that they want answered.

    Returns:
        What was asked, and that prompt; None where the methods want several.
    """
    try:
        ready, work = await ask.begun(backend)
        return ready, await asyncio.to_thread(_prompt, ready, work, backend)
    except UNSUPPORTED as error:
        if not (ask.passing and ask.methods):
            raise
        plain = ask.plain(str(error))
        return plain, await asyncio.to_thread(_prompt, plain, plain.work(backend), backend)


def _run(work: Work[list[Output]], backend: Backend) -> Finished:
    replies: list[Reply] | None = None
    finish: Finish | None = None
    while True:
        try:
            calls = next(work) if replies is None else work.send(replies)
        except StopIteration as stop:
            return Finished(tuple(stop.value), finish)
        replies = backend.run(calls)
        finish = next((reply.finish for reply in replies if reply.finish), finish)


def _prompt(ask: Ask, work: Work[list[Output]], backend: Backend) -> Prompt | None:
    replies: list[Reply] | None = None
    try:
        while True:
            calls = next(work) if replies is None else work.send(replies)
            generated = [call.prompt for call in calls if isinstance(call, Generate)]
            if generated:
                return generated[0] if len(calls) == 1 and ask.one_text(backend) else None
            replies = backend.run(calls)
    except StopIteration:
        return None
    finally:
        work.close()


def _arranged(work: Work[list[Output]]) -> Work[list[Output]]:
    """The work up to where text would be generated; what comes before (asking for relevance) runs."""
    replies: list[Reply] | None = None
    cost = Usage()
    while True:
        try:
            calls = next(work) if replies is None else work.send(replies)
        except StopIteration:
            raise ServiceError(422, "unsupported_method", "these methods show no order to be answered from") from None
        prompts = [call.prompt for call in calls if isinstance(call, Generate)]
        if prompts:
            work.close()
            return [Output("answer", usage=cost, views=tuple(View(prompt.request.ids) for prompt in prompts))]
        replies = yield calls
        cost = sum((reply.usage for reply in replies), cost)


def done(ask: Ask, outputs: Sequence[Output]) -> Done:
    """The reply's `fairpos` block."""
    orders = [list(view.order) for output in outputs for view in output.views if view.order]
    notes = [*ask.notes, *(note for output in outputs for note in output.notes)]
    return Done(
        methods=ask.spec,
        order=orders[0] if orders and all(order == orders[0] for order in orders) else None,
        orders=orders,
        calls=sum(output.usage.calls for output in outputs),
        profile=profile_of(ask.methods),
        notes=notes,
    )


def usage(outputs: Sequence[Output]) -> TokenUsage:
    """Tokens over all calls."""
    prompt = sum(output.usage.prompt_tokens for output in outputs)
    new = sum(output.usage.completion_tokens for output in outputs)
    return TokenUsage(prompt_tokens=prompt, completion_tokens=new, total_tokens=prompt + new)


def headers(what: Done) -> dict[str, str]:
    """The `x-fairpos-*` headers; ids are percent-encoded."""
    found = {"x-fairpos-methods": quote(what.methods, safe=":=,+._-"), "x-fairpos-calls": str(what.calls)}
    order = ",".join(quote(id, safe="") for id in what.order or ())
    if order and len(order) <= _HEADER:
        found["x-fairpos-order"] = order
    if what.profile:
        found["x-fairpos-profile"] = quote(what.profile, safe="/:._-")
    return found


def profile_of(methods: Sequence[Method]) -> str | None:
    """The calibration that the methods used, where they name one."""
    names: list[str] = []
    for method in methods:
        value = getattr(method, "profile", None)
        for profile in value if isinstance(value, tuple) else ():
            names += [profile.file_name] if isinstance(profile, Profile) else []
    return ", ".join(dict.fromkeys(names)) or None


def checked(metrics: Metrics, task: Task, outputs: Sequence[Output]) -> Output:
    """The one output, if there is a result in it.

    Raises:
        ServiceError: 502 the model's reply could not be used.
    """
    [output] = outputs
    for view in output.views:
        if view.status not in ("ok", "partial"):
            metrics.unparsable.labels(task, view.status).inc()
    if output.status not in ("ok", "partial"):
        detail = next((view.detail for view in output.views if view.detail), "")
        raise ServiceError(
            504 if output.status == "timeout" else 502,
            f"model_{output.status}",
            f"the model's reply can't be used: {output.status}{f' ({detail})' if detail else ''}",
        )
    return output


def _seeded(method: Method, seed: int) -> Method:
    """The method with the request's seed, where it has one and was given none."""
    for f in dataclasses.fields(method):
        if f.name == "seed" and f.init and vars(method)["seed"] == f.default:
            return replace(method, seed=seed)  # type: ignore[call-arg]
    return method


def _allowed(method: Method, settings: Settings) -> Method:
    """The method, if its options are fit for a service.

    File names are kept to the directory of profiles: clients have no business elsewhere on the disk. Whole numbers are
    counts of views, rounds and the like; one beyond the number of allowed calls would only fill the memory.

    Raises:
        InvalidOption: an option holds a path, or too large a number.
    """
    for f in dataclasses.fields(method):
        value = getattr(method, f.name)
        if isinstance(value, int) and f.name != "seed" and abs(value) > settings.max_calls:
            raise InvalidOption(f"{method.name}: {f.name} must be at most {settings.max_calls} here, got {value}")
        if not isinstance(value, str):
            continue
        if "/" in value or "\\" in value or value.startswith("."):
            raise InvalidOption(f"{method.name}: {f.name} must not be a path here, got {value!r}")
        if f.name == "profile" and value:
            method = replace(method, **{f.name: str(directory() / value)})
    return method
