"""What a method is: three optional seams, identity by default.

    arrange   input level     one request -> views, the same segments in other orders
    attend    attention level owns the attention while the backend scores or generates (`AttentionMethod`)
    combine   output level    the views' outputs -> one output

`steps` ties the first and the last together; a method that works in rounds (windows, two passes) overrides it.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal, Self, TypeAlias

from fairpos.layout import Layout
from fairpos.options import Checked
from fairpos.registry import Registry
from fairpos.types import TASKS, Capability, Output, Request, Task, Usage

if TYPE_CHECKING:
    from fairpos.attention.layer import Attention
    from fairpos.backends.base import Backend, Ballot
    from fairpos.prompts import Template

Family: TypeAlias = Literal["none", "input", "attention", "output"]
Steps: TypeAlias = Generator[list[Request], list[Output], Output]


@dataclass(frozen=True)
class Method(Checked):
    """Base class. A method is a frozen dataclass; its fields are its options (`fairpos.options`), checked when made.

    Class attributes:
        name: The published short name, by which users call it.
        family: Where it acts.
        summary: One line for tables and help texts.
        source: Paper and arXiv id.
        tasks: What it can be used for.
        requires: Capabilities that the backend must have.
        order_free: The result doesn't depend on the order of the segments, whatever is composed inside it.
        places_segments: It shows the segments in an order of its own, which the attention inside shall take as it is.
        needs_whole_prompt: The attention looks at the prompt's end, so two prompts can't share what they begin with.
        needs_confidence: Texts come with their probability (`Output.confidence`), and rankings from one distribution.
        repeats_query: Some view says the query a second time.
    """

    name: ClassVar[str]
    family: ClassVar[Family]
    summary: ClassVar[str]
    source: ClassVar[str] = ""
    tasks: ClassVar[frozenset[Task]] = frozenset(TASKS)
    requires: ClassVar[frozenset[Capability]] = frozenset()
    order_free: ClassVar[bool] = False
    places_segments: ClassVar[bool] = False
    needs_whole_prompt: ClassVar[bool] = False
    needs_confidence: ClassVar[bool] = False
    repeats_query: ClassVar[bool] = False

    def ready(self, requests: Sequence[Request], backend: Backend, template: Template | None) -> Self:
        """The method with all that it needs for these requests, before anything runs.

        Args:
            requests: All requests of the run.
            backend: The model.
            template: None: each task's own.

        Raises:
            NotCalibrated: it needs a profile, and there is none for this model, template and number of segments.
        """
        return self

    def arrange(self, request: Request, backend: Backend) -> list[Request]:
        """The views in which the request is to be asked."""
        return [request]

    def most_shown(self, count: int) -> int:
        """How many of so many segments one view shows, at most."""
        return count

    def combine(self, request: Request, views: Sequence[Request], outputs: Sequence[Output]) -> Output:
        """One output from the views' outputs."""
        [output] = outputs
        return output

    def steps(self, request: Request, backend: Backend) -> Steps:
        """Yields lists of views, receives their outputs, returns the combined output."""
        views = self.arrange(request, backend)
        outputs = yield views
        return self.combine(request, views, outputs)

    @property
    def inner_methods(self) -> tuple[Method, ...]:
        """Methods that it brings along for some of its views; they are checked like those that the caller named."""
        return ()

    def with_inner(self, change: Callable[[Method], Method]) -> Self:
        """The method with each of these changed: limited, seeded, made ready."""
        return self

    def inside(self, number: int) -> tuple[Method, ...]:
        """Which of these come first inside of the view of this number, from 0, in the list that `steps` yields."""
        return ()

    def ballot(self, request: Request, backend: Backend) -> Ballot | None:
        """How the views' texts are voted on token by token; None: every view has a text of its own."""
        return None

    def attend(self, layouts: Sequence[Layout]) -> Attention | None:
        """The attention of one call over these prompts; None leaves the model's own."""
        return None

    @property
    def pooling(self) -> Ballot | None:
        """How the rows in which the attention reads one prompt become one distribution; None: a prompt is one row."""
        return None

    def cost(self, layout: Layout, new: int) -> Usage:
        """Tokens read and written for a prompt and `new` tokens after it."""
        return Usage(len(layout), new, calls=1)

    @property
    def reuses_segments(self) -> bool:
        """Whether keys and values of a segment depend on the prefix and itself alone, so that a store can keep them."""
        return False

    def in_order_shown(self) -> Method:
        """What takes its place inside of a method that places the segments; itself, where it makes no order itself."""
        return self

    @property
    def owns_attention(self) -> bool:
        """Whether the method replaces the model's attention."""
        return self.family == "attention"


@dataclass(frozen=True)
class AttentionMethod(Method):
    """Base of the methods that own the attention of a local model; one of them at a time."""

    family: ClassVar[Family] = "attention"
    requires: ClassVar[frozenset[Capability]] = frozenset({"attention"})

    @abstractmethod
    def attend(self, layouts: Sequence[Layout]) -> Attention | None:
        """The attention of one call over these prompts; None where the options change nothing."""


METHODS: Registry[type[Method]] = Registry(
    "method", "fairpos.methods", "fairpos.methods", needs=("family", "summary", "tasks", "requires", "steps")
)
register = METHODS.register
