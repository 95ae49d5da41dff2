"""What a fit is: what is done where a request is longer than the model's context.

    error    refuse it, and say so (the default)
    keep     leave out the least relevant segments, and say which
    groups   ask about groups that fit, then about what came of them

What is kept, and which groups there are, follows from contents, relevance and lengths: never from the order shown.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, cast

from fairpos.backends.base import Backend, Decoding
from fairpos.backends.work import Work
from fairpos.errors import InvalidComposition
from fairpos.fitting.lengths import Lengths
from fairpos.methods.base import Method
from fairpos.options import Checked, option
from fairpos.prompts import Template
from fairpos.rankers.base import Ranker
from fairpos.rankers.verdict import VerdictForm
from fairpos.registry import Registry
from fairpos.runner import asking_of, check, start
from fairpos.types import Output, Request, Task


@dataclass(frozen=True)
class Asked:
    """How requests are asked: what `fairpos.runner.start` takes beside them."""

    methods: tuple[Method, ...]
    backend: Backend
    ranker: Ranker
    template: Template | None = None
    decoding: Decoding = field(default_factory=Decoding)
    verdicts: VerdictForm = "auto"

    def start(
        self, requests: Sequence[Request], progress: Callable[[int, int], None] | None = None
    ) -> Work[list[Output]]:
        """The work of asking them, whatever their length."""
        return start(
            requests,
            self.methods,
            self.backend,
            ranker=self.ranker,
            template=self.template,
            decoding=self.decoding,
            verdicts=self.verdicts,
            progress=progress,
        )

    def lengths(self, requests: Sequence[Request], context: int | None) -> Lengths:
        """How long their prompts are; `context` tokens are the limit, None: what the backend says."""
        judged = any(request.task in ("judge", "choose") for request in requests)
        verdicts = self.verdicts if judged else None
        asking = asking_of(self.methods, self.backend, self.template, self.decoding, verdicts)
        return Lengths.of(self.methods, self.backend, self.ranker, asking, context)


@dataclass(frozen=True)
class Fit(Checked, ABC):
    """Base class. A fit is a frozen dataclass; its fields are its options.

    Class attributes:
        name: By which users call it.
        summary: One line for tables.
        tasks: What it can be used for.
        in_one: Whether what is asked about is asked at once, so that a text can be followed as it is written.

    Attributes:
        context: Tokens that prompt and reply may have together; None: as many as the model or its server says.
    """

    name: ClassVar[str]
    summary: ClassVar[str]
    tasks: ClassVar[frozenset[Task]]
    in_one: ClassVar[bool] = True
    instead: ClassVar[str] = ""  # what to do for other tasks, in words
    context: int | None = option(None, minimum=1)

    def start(
        self, requests: Sequence[Request], asked: Asked, progress: Callable[[int, int], None] | None = None
    ) -> Work[list[Output]]:
        """The work of asking requests of any length. Prompts are counted here, before the work begins.

        Raises:
            InvalidComposition: a task that it isn't for, or methods that can't work.
            TooLong: a request can't be made to fit; of what came of groups, while the work runs.
        """
        for task in dict.fromkeys(request.task for request in requests):
            if task not in self.tasks:
                raise InvalidComposition(
                    f"fit={self.name!r} is for {', '.join(sorted(self.tasks))}; got task {task!r}{self.instead}"
                )
            check(asked.methods, task, asked.backend)
        return self.work(requests, asked, progress)

    @abstractmethod
    def work(
        self, requests: Sequence[Request], asked: Asked, progress: Callable[[int, int], None] | None
    ) -> Work[list[Output]]:
        """Outputs in the order of the requests; they refer to the requests' segments by id."""


FITS: Registry[type[Fit]] = Registry("fit", "fairpos.fitting", "fairpos.fits", needs=("summary", "tasks", "work"))
register = FITS.register


def find_fit(spec: str | Fit) -> Fit:
    """A fit from its text form: "error", "keep:relevance=bm25", "groups:context=8192".

    Raises:
        UnknownName: no such fit.
        InvalidOption: an option that it doesn't have, or a value outside of its range.
    """
    return cast(Fit, FITS.build(spec)) if isinstance(spec, str) else spec
