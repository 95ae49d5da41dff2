"""What a request asks for: its question, its methods and how it is put into words, as the library takes them."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass, field, replace

from fairpos.backends.base import Backend, Decoding, Generate, Reply
from fairpos.backends.work import Work
from fairpos.calibration.profile import directory
from fairpos.errors import InvalidOption
from fairpos.fitting.base import Asked, Fit, find_fit
from fairpos.fitting.error import Refuse
from fairpos.methods.base import Method
from fairpos.methods.catalogue import parse
from fairpos.options import options_of
from fairpos.prompts import SERVICE_TEMPLATES, Template
from fairpos.rankers.base import Ranker, find_ranker
from fairpos.types import Output, Request, Task, Usage, View

from .errors import ServiceError
from .metrics import Metrics
from .schemas.options import Options
from .settings import Settings

# The client's own words say what is wanted; documents come before them.
CHAT = SERVICE_TEMPLATES["answer"]
CITED = replace(
    CHAT,
    segment="[{id}] {heading}{text}\n\n",
    question="{query}\n\nBehind each statement, name in brackets the document that it comes from.",
)
PLAIN = Template(instruction="", segment="{text}", question="{query}")  # no documents
AUTO_RANKER = "auto"  # of the settings: by what the backend can do
_METHODS = 16  # of one request, one inside of the other
_SHOWN = 2**26  # characters over all calls of one step: what they are put together in


@dataclass(frozen=True, slots=True)
class Ask:
    """What is to be asked, and how.

    Attributes:
        request: The question and its segments.
        methods: Against position bias, outermost first.
        spec: The methods as they were written.
        passing: Whether the plain model may answer where a method can't be used.
        arrange_only: Stop where text would be generated; the output's views have the orders.
        fills_context: Whether a generated text may be as long as there is room for; see `Job`.
        tells_votes: Whether the reply tells what the orders said that voted.
    """

    request: Request
    methods: tuple[Method, ...]
    spec: str
    ranker: str
    fit: Fit = field(default_factory=Refuse)
    template: Template | None = None
    decoding: Decoding = field(default_factory=Decoding)
    passing: bool = False
    arrange_only: bool = False
    fills_context: bool = False
    tells_votes: bool = False
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
            ServiceError: 422 it would take more calls, or more text, than is allowed here.
        """
        given = default if options.methods is None else options.methods
        spec = given if isinstance(given, str) else "+".join(given)
        if spec.count("+") >= _METHODS:
            raise InvalidOption(f"methods must be at most {_METHODS}, got {spec.count('+') + 1}")
        methods = tuple(_with_seed(_method_for_service(method, settings), options.seed) for method in parse(spec))
        template = _template_of(options, template)
        fit = _fit_of(options, settings, request.task)
        ranker = options.ranker or settings.ranker
        if options.ranker is not None and request.task == "rank":
            _refuse_unfit(find_ranker(ranker), settings)
        _check_calls(methods, ranker, request, template, settings)
        return cls(
            request=request,
            methods=methods,
            spec=spec if methods else "none",
            ranker=ranker,
            fit=fit,
            template=template,
            decoding=decoding or Decoding(),
            passing=options.on_unsupported == "pass",
            arrange_only=arrange_only,
            tells_votes=options.votes,
        )

    def plain(self, reason: str) -> Ask:
        """The same without methods, and why."""
        return replace(self, methods=(), spec="none", notes=(*self.notes, f"{self.spec} was not applied: {reason}"))

    def within(self, tokens: int) -> Ask:
        """The same where prompt and reply together fit into so many tokens."""
        return replace(self, fit=replace(self.fit, context=min(tokens, self.fit.context or tokens)))

    def ready(self, backend: Backend) -> Ask:
        """This with its calibrations at hand; reads files.

        Raises:
            FairposError: what the backend doesn't allow; NotCalibrated.
        """
        if self.fit != Refuse():  # what is asked about isn't known yet
            return self
        methods = tuple(method.ready([self.request], backend, self.template) for method in self.methods)
        return replace(self, methods=methods)

    def work(self, backend: Backend) -> Work[list[Output]]:
        """The library's work.

        Raises:
            FairposError: what the backend or the task doesn't allow.
        """
        asked = Asked(self.methods, backend, find_ranker(self.ranker_on(backend)), self.template, self.decoding)
        work = self.fit.start([self.request], asked)
        return _until_generation(work) if self.arrange_only else work

    def ranker_on(self, backend: Backend) -> str:
        """The ranker by name: where it is left open, the cheapest one that the backend can serve."""
        if self.ranker != AUTO_RANKER:
            return self.ranker
        if self.request.task != "rank":  # it plays no part, and an endpoint needn't be asked what it can do
            return "first_token"
        return "first_token" if "score" in backend.capabilities else "generate"

    def one_text(self, backend: Backend) -> bool:
        """Whether a generated text is the answer as it is, or views that vote write it together."""
        if not self.fit.in_one:
            return False
        folding = [method for method in self.methods if method.family == "output"]
        return all(method.ballot(self.request, backend) is not None for method in folding)


def count_methods(metrics: Metrics, ask: Ask) -> None:
    """Counts the methods of a request."""
    for name in [method.name for method in ask.methods] or ["none"]:
        metrics.methods.labels(name, ask.request.task).inc()


def _until_generation(work: Work[list[Output]]) -> Work[list[Output]]:
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


def _check_calls(
    methods: tuple[Method, ...], ranker: str, request: Request, template: Template | None, settings: Settings
) -> None:
    """Refuses what would take too many calls, or too much text over all of them, before any of it is made.

    Raises:
        ServiceError: 422.
    """
    asking: list[object] = [each for method in methods for each in (method, *method.inner_methods)]
    asking += [find_ranker(ranker)] if request.task == "rank" and ranker != AUTO_RANKER else []
    wanted = [
        getattr(each, option.name)
        for each in asking
        for option in options_of(type(each)).values()
        if option.nature == "calls"
    ]
    calls = math.prod(wanted)
    if calls > settings.max_calls:
        product = " * ".join(map(str, wanted))
        raise ServiceError(
            422,
            "too_many_calls",
            f"the methods want {product} calls of the model; at most {settings.max_calls} are allowed here",
        )
    shown = _characters_of(request, template)
    if calls * shown > _SHOWN:
        raise ServiceError(
            422,
            "request_too_large",
            f"{calls} calls of {shown} characters each are more than the {_SHOWN} characters allowed in one step",
        )


def _characters_of(request: Request, template: Template | None) -> int:
    """Characters of one prompt, at most: a template may show the same text many times."""
    parts = "" if template is None else template.instruction + template.question
    times = max(1, parts.count("{query}"))
    each = 1 if template is None else max(1, template.segment.count("{text}"))
    titles = 1 if template is None else template.segment.count("{title}") + template.segment.count("{heading}")
    own = 0 if template is None else len(parts) + len(request.segments) * len(template.segment)
    return (
        own
        + times * len(request.query)
        + sum(each * len(segment.text) + titles * len(segment.title or "") for segment in request.segments)
        + sum(len(turn.content) for turn in request.history)
    )


def _with_seed(method: Method, seed: int) -> Method:
    """The method with the request's seed, where it has one and was given none."""
    for option in options_of(type(method)).values():
        if option.nature == "seed" and getattr(method, option.name) == option.default:
            method = dataclasses.replace(method, **{option.name: seed})
    return method.with_inner(lambda inner: _with_seed(inner, seed))


def _method_for_service(method: Method, settings: Settings) -> Method:
    """The method and those inside of it, if their options are fit for a service.

    File names are kept to the directory of profiles: clients have no business elsewhere on the disk.

    Raises:
        InvalidOption: see `_refuse_unfit`.
    """
    _refuse_unfit(method, settings)
    for option in options_of(type(method)).values():
        value = getattr(method, option.name)
        if option.nature == "file" and isinstance(value, str) and value:
            method = dataclasses.replace(method, **{option.name: str(directory() / value)})
    return method.with_inner(lambda inner: _method_for_service(inner, settings))


def _template_of(options: Options, default: Template | None) -> Template | None:
    """The request's own words; else the default, which shows names where they are to be cited.

    Raises:
        InvalidOption: names are to be cited, and the words don't show them.
    """
    if options.template is None:
        return CITED if options.citations and default is CHAT else default
    template = options.template.template()
    if options.citations and "{id}" not in template.segment:
        raise InvalidOption("citations need a template whose segment shows {id}")
    return template


def _fit_of(options: Options, settings: Settings, task: Task) -> Fit:
    """The request's own fit; else the service's, where that is one for the task."""
    if options.fit is not None:
        fit = find_fit(options.fit)
        _refuse_unfit(fit, settings)
        return fit
    fit = find_fit(settings.fit)
    return fit if task in fit.tasks else Refuse()


def _refuse_unfit(asking: Method | Ranker | Fit, settings: Settings) -> None:
    """Refuses options that a client has no business with; numbers of calls beyond the limit would fill the memory.

    Raises:
        InvalidOption: an option holds a path, or asks for too many calls.
    """
    for option in options_of(type(asking)).values():
        value = getattr(asking, option.name)
        if option.nature == "calls" and value > settings.max_calls:
            raise InvalidOption(f"{asking.name}: {option.name} must be at most {settings.max_calls} here, got {value}")
        if isinstance(value, str) and ("/" in value or "\\" in value or value.startswith(".")):
            raise InvalidOption(f"{asking.name}: {option.name} must not be a path here, got {value!r}")
