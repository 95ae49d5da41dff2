"""What an integration does, whatever the framework: rank documents, put them in order, answer from them.

Each is a frozen dataclass of options, checked when it is made; weights are loaded by the first call. Documents come
with a function that reads one as a segment. What the model gave no result for is an error (`NoResult`), or, for a
ranking where that is asked for, the documents as they came and a warning in the log: never a silent order.
"""

from __future__ import annotations

import logging
import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Generic, Literal, TypeAlias, TypeVar

from fairpos.backends.base import Backend, Decoding
from fairpos.backends.dry_run import DryRunBackend
from fairpos.errors import BackendError, InvalidComposition, InvalidOption, InvalidRequest, NoResult, NotCalibrated
from fairpos.integrations.documents import Named, name_documents
from fairpos.integrations.models import Model, checked_model, open_model
from fairpos.methods.base import Method
from fairpos.methods.catalogue import parse
from fairpos.outputs import descending_scores
from fairpos.prompts import SERVICE_TEMPLATES, Template
from fairpos.rankers.base import find_ranker
from fairpos.relevance.base import AUTO
from fairpos.runner import check, check_task
from fairpos.types import Output, Request, Segment, Turn

D = TypeVar("D")
OnFailure: TypeAlias = Literal["raise", "keep"]

_LOG = logging.getLogger(__name__)
_CHAT = SERVICE_TEMPLATES["answer"]  # the caller's own words say what is wanted, as in the service's chat
_QUESTION_ALONE = Template(instruction="", segment="{text}", question="{query}")  # no documents


@dataclass(frozen=True, slots=True)
class Ranked(Generic[D]):
    """A document in its place.

    Attributes:
        document: As it came.
        score: In [0, 1], strictly decreasing along the ranking, so that sorting by it changes nothing; no probability
            and no threshold. None: the model didn't rank this one.
    """

    document: D
    score: float | None


@dataclass(frozen=True, slots=True)
class Reranking:
    """Ranks documents for a query.

    COST: what the methods cost; see `fairpos methods NAME`.

    Attributes:
        model: See `models`.
        methods: In text form ("permutation:views=5").
        ranker: In text form ("pointwise", "generate:constrained=false", ...), or "auto": "first_token" where the model
            gives log-probabilities, else "generate".
        on_failure: What happens where the model gives no ranking. "raise": NoResult. "keep": the documents stay as they
            came, and the log says why.
        most: How many documents to return, at least 1; None: all.

    Raises:
        UnknownName, InvalidOption, InvalidComposition: an option that can't be.
    """

    model: Model
    methods: str
    ranker: str
    on_failure: OnFailure = "raise"
    most: int | None = None

    def __post_init__(self) -> None:
        checked_model(self.model)
        if self.most is not None and self.most < 1:
            raise InvalidOption(f"the number of documents to return must be at least 1, got {self.most}")
        if self.ranker != AUTO:
            find_ranker(self.ranker)
        check_task(checked_methods(self.methods), "rank")
        if self.on_failure not in ("raise", "keep"):
            raise InvalidOption(f"on_failure must be 'raise' or 'keep', got {self.on_failure!r}")

    def rank(self, query: str, documents: Sequence[D], read: Callable[[D], Segment]) -> list[Ranked[D]] | None:
        """The documents, best first; those that weren't ranked (no text, or a model that left them out) come last.

        Args:
            query: What they are to be relevant to.
            documents: In any order: the result is the same for each where the methods are order-free.
            read: A document as a segment.

        Returns:
            None where there is no ranking and `on_failure` is "keep".

        Raises:
            NoResult, BackendError: there is none, and it is "raise".
        """
        named = name_documents(documents, read)
        if not named.segments:
            return [Ranked(named.documents[id], None) for id in named.textless][: self.most]
        try:
            fair = open_model(self.model)
            ranker = _ranker_for(fair.backend) if self.ranker == AUTO else self.ranker
            output = useful(fair.rank(query, named.segments, self.methods, ranker=ranker))
        except (NoResult, BackendError) as error:
            if self.on_failure == "raise":
                raise
            _LOG.warning("no ranking of %d documents, which stay as they came: %s", len(named.documents), error)
            return None
        return _in_places(output, named)[: self.most]


def _ranker_for(backend: Backend) -> str:
    return "first_token" if "score" in backend.capabilities else "generate"


def _in_places(output: Output, named: Named[D]) -> list[Ranked[D]]:
    ranked = set(output.ranking)
    left = [segment.id for segment in output.segments if segment.id not in ranked]  # in canonical order
    if left or named.textless:
        _LOG.warning("not ranked, and so last: %s (%s)", ", ".join([*left, *named.textless]), output.status)
    raw = {id: score for id, score in output.scores.items() if math.isfinite(score)}
    scores = descending_scores(output.ranking, [], raw)
    return [Ranked(named.documents[id], scores.get(id)) for id in (*output.ranking, *left, *named.textless)]


@dataclass(frozen=True, slots=True)
class Reordering:
    """Puts documents in the order in which a model should be shown them; nothing is generated.

    COST: what the methods' relevance costs; "edges", "ascending" and "descending" of scores that came with the
    documents need no model at all.

    Attributes:
        methods: Order-free ones of the input level, in text form: "edges", "descending", "attn_rank", ...
        model: For methods that look at one, or have a profile of it; None: they don't.

    Raises:
        UnknownName, InvalidOption, InvalidComposition: an option that can't be.
    """

    methods: str
    model: Model | None = None

    def __post_init__(self) -> None:
        if self.model is not None:
            checked_model(self.model)
        for method in checked_methods(self.methods):
            if method.family != "input" or not method.order_free:
                raise InvalidComposition(
                    f"method {method.name!r} gives no order to show documents in; edges, descending, attn_rank, ... do"
                )

    def reorder(self, documents: Sequence[D], read: Callable[[D], Segment], query: str | None = None) -> list[D]:
        """The documents in the order to be shown.

        Args:
            documents: With scores, or the most relevant first: where one has no score, their places stand for scores.
            read: A document as a segment.
            query: For methods whose relevance reads it.

        Raises:
            InvalidRequest: a method reads the query, and there is none.
            NotCalibrated, UnsupportedBackend: see the methods.
        """
        methods = parse(self.methods)
        named = name_documents(documents, read)
        if not named.segments or not methods:
            return list(named.documents.values())
        needs_query = any(getattr(method, "relevance", "") not in (AUTO, "given") for method in methods)
        if needs_query and not (query or "").strip():
            raise InvalidRequest(f"{self.methods} reads the query, and got none; relevance=given needs none")
        request = Request("answer", query if query and query.strip() else "-", _with_scores(named.segments))
        backend = DryRunBackend("no model") if self.model is None else open_model(self.model).backend
        check(methods, "answer", backend)
        for method in methods:
            views = _ready_for(method, request, backend).arrange(request, backend)
            if len(views) != 1:
                raise InvalidComposition(f"method {method.name!r} shows {len(views)} orders; a reorderer takes one")
            request = views[0]
        return [named.documents[id] for id in (*request.ids, *named.textless)]


def _ready_for(method: Method, request: Request, backend: Backend) -> Method:
    """The method with its profile: of the library's words, else of the service's; the prompt to come isn't known."""
    try:
        return method.ready([request], backend, None)
    except NotCalibrated as error:
        try:
            return method.ready([request], backend, _CHAT)
        except NotCalibrated:
            raise error from None


def _with_scores(segments: Sequence[Segment]) -> tuple[Segment, ...]:
    """Segments that all have a score: their own, or by their places where one has none."""
    if all(segment.score is not None for segment in segments):
        return tuple(segments)
    return tuple(replace(segment, score=-float(place)) for place, segment in enumerate(segments))


@dataclass(frozen=True, slots=True)
class Answer:
    """A text, and how it was come by.

    Attributes:
        text: What the model wrote.
        output: The library's.
        told: What was done, ready for JSON, in the words of the service's `fairpos` object: methods, order (None:
            several), orders (ids as shown), calls, notes; and status, failed (calls by their status).
    """

    text: str
    output: Output
    told: dict[str, object]

    @property
    def is_cut_off(self) -> bool:
        """Whether it ends at the limit of its tokens."""
        return any(view.status == "cut_off" for view in self.output.views)


@dataclass(frozen=True, slots=True)
class Answering:
    """Answers from documents.

    COST: what the methods cost; see `fairpos methods NAME`.

    Attributes:
        model: See `models`.
        methods: In text form ("permutation:views=5").
        decoding: How text is generated.

    Raises:
        UnknownName, InvalidOption, InvalidComposition: an option that can't be.
    """

    model: Model
    methods: str
    decoding: Decoding

    def __post_init__(self) -> None:
        checked_model(self.model)
        check_task(checked_methods(self.methods), "answer")

    def answer(
        self,
        query: str,
        documents: Sequence[D],
        read: Callable[[D], Segment],
        history: Sequence[Turn] = (),
        decoding: Decoding | None = None,
    ) -> Answer:
        """The model's answer; without documents that of the plain model, which the notes say.

        Args:
            query: The user's words.
            documents: In any order.
            read: A document as a segment.
            history: Messages before the query.
            decoding: Instead of the one above.

        Raises:
            NoResult: the model gave none.
        """
        named = name_documents(documents, read)
        methods = self.methods if named.segments else "none"
        request = Request("answer", query, named.segments, history=tuple(history))
        template = _CHAT if named.segments else _QUESTION_ALONE
        [found] = open_model(self.model).run([request], methods, template=template, decoding=decoding or self.decoding)
        output = useful(found)
        notes = [f"without text, and so not shown: {', '.join(named.textless)}"] if named.textless else []
        if methods != self.methods:
            notes.append("no documents: no method was applied")
        return Answer(output.text or "", output, _told_of(output, methods, notes))


def checked_methods(text: str) -> tuple[Method, ...]:
    """Methods from their text form, in which a configuration holds them.

    Raises:
        InvalidOption: something else than text, or an option that can't be.
        UnknownName: no such method.
    """
    if not isinstance(text, str):
        raise InvalidOption(f"methods must be text ('permutation:views=5'), got {type(text).__name__}")
    return parse(text)


def useful(output: Output) -> Output:
    """The output, if there is a result in it.

    Raises:
        NoResult: there is none.
    """
    if output.status in ("ok", "partial"):
        return output
    detail = next((view.detail for view in output.views if view.detail), "")
    words = f"the model's reply can't be used: {output.status}{f' ({detail})' if detail else ''}"
    raise NoResult(words, status=output.status)


def _told_of(output: Output, methods: str, notes: Sequence[str]) -> dict[str, object]:
    orders = [list(view.order) for view in output.views if view.order]
    failed = Counter(view.status for view in output.views if view.status not in ("ok", "partial", "cut_off"))
    return {
        "methods": methods,
        "status": output.status,
        "order": orders[0] if orders and all(order == orders[0] for order in orders) else None,
        "orders": orders,
        "calls": output.usage.calls,
        "failed": dict(failed),
        "notes": [*output.notes, *notes],
    }
