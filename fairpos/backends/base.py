"""What a backend is asked, and what it answers.

Two kinds of calls are enough for every task: text is generated, or given continuations are scored. A backend gets a
list of calls and runs them together, batched or concurrent, as it can.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, Literal, Protocol, TypeAlias, get_args, runtime_checkable

from fairpos.attention.reading import Pairs, Reading
from fairpos.errors import InvalidOption, UnsupportedBackend
from fairpos.layout import Layout
from fairpos.prompts import Prompt
from fairpos.types import Capability, Output, Status, Usage
from fairpos.votes import Vote

# What to do about a reply that was cut off.
MORE_TOKENS = "allow more new tokens (--max-new-tokens, max_new_tokens)"

# What to do about more passages than the context holds.
WHAT_FITS = "Of passages fit='keep' (--fit keep) leaves out the least relevant, fit='groups' reads all of them in turn"

Finish: TypeAlias = Literal["stop", "length", "cancelled"]

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import GenerationConfig, LogitsProcessorList, StoppingCriteriaList
    from transformers.generation.streamers import BaseStreamer

    from fairpos.attention.layer import Attention

BatchInvariance: TypeAlias = Literal["order_free", "always", "never"]
Weights: TypeAlias = Literal["uniform", "entropy"]


def batch_invariance_named(name: str) -> BatchInvariance:
    """The setting of that name.

    Raises:
        InvalidOption: there is none.
    """
    for setting in get_args(BatchInvariance):
        if setting == name:
            found: BatchInvariance = setting
            return found
    raise InvalidOption(f"batch_invariance must be one of {', '.join(get_args(BatchInvariance))}, got {name!r}")


@dataclass(frozen=True, slots=True)
class Live:
    """Follows one generation while it runs, and can end it.

    Attributes:
        on_text: Called in the backend's thread with each new piece of text; the pieces joined are the reply's text.
            What is asked several texts at once (several requests, `route`, a majority of whole texts) gives the pieces
            of all of them: there the output alone tells which text counts.
        cancelled: Asked at every token; once it says yes, this generation ends and others of its batch go on.
    """

    on_text: Callable[[str], None]
    cancelled: Callable[[], bool]


class StepGuide(Protocol):
    """Follows one generation of a local model token by token, and may narrow what comes next. It belongs to one call.

    A generation that votes is one text, whose guide sees the vote.
    """

    @property
    def is_complete(self) -> bool:
        """Whether the text must end after the tokens so far."""

    def begin(self) -> None:
        """The generation starts, perhaps anew."""

    def narrow(self, scores: Tensor) -> Tensor:
        """Scores (V,) of the next token: as they are, or with -inf for what may not come."""

    def take(self, token: int) -> None:
        """The next token is this one. Not called for a token that ends the text."""


@dataclass(frozen=True, slots=True)
class Decoding:
    """How text is generated.

    Attributes:
        max_new_tokens: At most so many tokens.
        temperature: 0 is greedy.
        top_p: Sample from the smallest set of tokens with this probability; 1 is all.
        seed: Of the sampling; needed where temperature > 0.
        stop: Texts at which the reply ends, before them.
        guides: See every step of it, on a local model: to note probabilities, to hold it to a grammar.
        live: Follows the generation. With it (or `stop`, `guides`) a local model batches this call with others of any
            decoding; each draws from a generator of its own, so that its sample doesn't depend on the others.
        generation_config, logits_processor, stopping_criteria, streamer: transformers' own, for a local model; the
            generation config replaces temperature and top_p.
    """

    max_new_tokens: int = 64
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int | None = None
    stop: tuple[str, ...] = ()
    live: Live | None = None
    guides: tuple[StepGuide, ...] = ()
    generation_config: GenerationConfig | None = None
    logits_processor: LogitsProcessorList | None = None
    stopping_criteria: StoppingCriteriaList | None = None
    streamer: BaseStreamer | None = None

    def __post_init__(self) -> None:
        if self.max_new_tokens < 1:
            raise InvalidOption(f"max_new_tokens must be at least 1, got {self.max_new_tokens}")
        if not 0 <= self.temperature <= 10:
            raise InvalidOption(f"temperature must be in [0, 10], got {self.temperature}")
        if not 0 < self.top_p <= 1:
            raise InvalidOption(f"top_p must be in (0, 1], got {self.top_p}")
        if not all(self.stop):
            raise InvalidOption("stop must hold texts of at least 1 character, got an empty one")
        if self.by_row and not self.is_plain:
            raise InvalidOption("stop, live and guides don't go with transformers' own generation_config, ...")
        sampled = self.temperature > 0 or (self.generation_config is not None and self.generation_config.do_sample)
        if sampled and self.seed is None:
            raise InvalidOption(
                "sampling needs a seed, so that the result can be repeated; got temperature > 0 without"
            )

    @property
    def is_plain(self) -> bool:
        """Whether it is said in fairpos's own words alone, without objects of transformers."""
        return not (self.generation_config or self.logits_processor or self.stopping_criteria or self.streamer)

    @property
    def by_row(self) -> bool:
        """Whether the generation is followed row by row, so that it may share a batch with any other such."""
        return bool(self.stop or self.guides) or self.live is not None


@dataclass(frozen=True, slots=True)
class Ballot:
    """How prompts that decode in step agree on each token.

    Attributes:
        weights: "uniform": the mean of the log-probabilities, renormalised. "entropy": the mean of the probabilities,
            weighted by softmax(-beta * entropy), so that the prompts speak that know.
        beta: Of the entropy weights, at least 0; 0 weighs all alike.
    """

    weights: Weights = "uniform"
    beta: float = 4.0


class AttentionOwner(Protocol):
    """Whoever replaces the model's attention for a call: a method of the attention family. Hashable and comparable.

    Class attributes:
        name: By which users call it.
        order_free: The result doesn't depend on the order of the segments.
        needs_whole_prompt: The attention looks at the prompt's end, so two prompts can't share what they begin with.

    Attributes:
        reuses_segments: Keys and values of a segment depend on the prefix and itself alone, so a store can keep them.
        pooling: How the rows in which it reads one prompt become one distribution; None: every prompt is one row.
    """

    name: ClassVar[str]
    order_free: ClassVar[bool]
    needs_whole_prompt: ClassVar[bool]

    @property
    def reuses_segments(self) -> bool:
        """See above."""
        return False

    @property
    def pooling(self) -> Ballot | None:
        """See above."""
        return None

    def cost(self, layout: Layout, new: int) -> Usage:
        """What it takes to read a prompt and to write `new` tokens after it."""
        return Usage(len(layout), new, calls=1)

    def attend(self, layouts: Sequence[Layout]) -> Attention | None:
        """The attention of one call over these prompts; None leaves the model's own."""


@dataclass(frozen=True, slots=True)
class Generate:
    """Continue the prompt.

    Attributes:
        prompt: The prompt.
        decoding: How.
        attend: The method that owns the attention.
        voters: Further prompts, which continue with the same text and vote on each of its tokens; only for a backend
            that can "vote". The reply's usage is that of all.
        ballot: How they vote.
        listing: Labels; a local model can then write nothing but a list of them, each once: "[2] > [1]". An endpoint
            can't be held to that.
        batch_invariant: Whether the reply shall be the same to the bit whichever calls run together with this one; a
            promise that only a local model can keep.
    """

    prompt: Prompt
    decoding: Decoding = Decoding()
    attend: AttentionOwner | None = None
    voters: tuple[Prompt, ...] = ()
    ballot: Ballot = Ballot()
    listing: tuple[str, ...] = ()
    batch_invariant: bool = False


@dataclass(frozen=True, slots=True)
class Score:
    """How probable is each of these replies?

    Attributes:
        prompt: The prompt.
        replies: At least 1.
        attend: The method that owns the attention.
        batch_invariant: As in `Generate`.
        branched: Many long replies: a local model may read them all in one pass, beside each other. Up to rounding the
            scores are the same.
    """

    prompt: Prompt
    replies: tuple[str, ...]
    attend: AttentionOwner | None = None
    batch_invariant: bool = False
    branched: bool = False


Call: TypeAlias = Generate | Score


@dataclass(frozen=True, slots=True)
class Reply:
    """The answer to one call.

    Attributes:
        status: "ok", or why there is nothing.
        text: Generated text.
        log_probs: Natural log-probability of each reply that was to be scored, summed over its tokens.
        tokens: Number of tokens of each of those; empty where an endpoint doesn't tell.
        greedy: Whether greedy decoding would give that reply.
        bounded: Of each reply, whether its log-probability is only an upper bound, because an endpoint lists few
            alternatives; the status is then "partial". Empty: none is.
        usage: Tokens and calls.
        finish: Why a generated text ends: "stop" (end of text, or a stop text), "length" or "cancelled".
        stopped_by: The stop text at which a local model's text ended; empty: it ended otherwise.
        detail: What went wrong, in words.
        resolution: Nats; log-probabilities that differ by less are equal, because the backend rounds. See
            `fairpos.backends.resolution`.
        started: Whether the reply was made to start with the prompt's `answer_start`; some endpoints can't do that.
        key: Under which an endpoint's response is cached.
        http_status: Of an endpoint's last response; None: there was none, or a local model replied.
        text_tokens: Of the text, where `usage` counts others, too: those of all prompts that vote on it.
        is_shared: Whether several prompts that vote continue with this text.
        retry_after_s: Seconds after which an endpoint that refused wants to be asked again; None: it didn't say.
        vote: What the orders said that voted on it; of scored replies in the words of the call.
    """

    status: Status = "ok"
    text: str = ""
    log_probs: tuple[float, ...] = ()
    tokens: tuple[int, ...] = ()
    greedy: tuple[bool, ...] = ()
    usage: Usage = field(default_factory=lambda: Usage(calls=1))
    bounded: tuple[bool, ...] = ()
    detail: str = ""
    finish: Finish | None = None
    resolution: float = 0.0
    started: bool = True
    key: str = ""
    http_status: int | None = None
    retry_after_s: float | None = None
    stopped_by: str = ""
    vote: Vote | None = None
    is_shared: bool = False
    text_tokens: int | None = None

    @property
    def mean_log_prob(self) -> float | None:
        """Of the tokens of the one reply that was scored; None where it is a bound, or their number isn't known."""
        if not self.log_probs or any(self.bounded) or not self.tokens or not self.tokens[0]:
            return None
        return self.log_probs[0] / self.tokens[0]

    @property
    def mass(self) -> float | None:
        """The probability, 0 to 1, that the reply is one of those that were scored; bounds are left out."""
        if not self.log_probs:
            return None
        bounded = self.bounded or (False,) * len(self.log_probs)
        surely = (math.exp(p) for p, bound in zip(self.log_probs, bounded, strict=True) if not bound)
        return min(1.0, math.fsum(surely))


@runtime_checkable
class AttentionReader(Protocol):
    """A backend with the capability "attention" can also tell where the model looked."""

    def read_attention(
        self,
        prompts: Sequence[Prompt],
        *,
        heads: Sequence[int] = (),
        pairs: Pairs = (),
        last_only: bool = False,
        replies: Sequence[str] = (),
    ) -> list[Reading]:
        """One forward pass a prompt, in the order shown; prompts that differ only in the question share most of it.

        Args:
            prompts: In the orders in which they are to be read.
            heads: Query heads to sum over, in every layer; empty: all.
            pairs: Instead, heads of layers to read one by one, by layer and head; "all": every one that there is. The
                pass ends after the last layer that is needed, unless a reply is to be scored.
            last_only: Only the last token of the prompt, which is about to be answered, not the whole question.
            replies: One for each prompt, to be scored in the same pass; empty: none.
        """


@runtime_checkable
class CountsTokens(Protocol):
    """A backend that knows how long prompts may be, or how long they are."""

    @property
    def context(self) -> int | None:
        """Tokens that prompt and reply may have together; None: it isn't known."""

    @property
    def counts_tokens(self) -> bool:
        """Whether `count_tokens` counts; else it reckons (`fairpos.backends.reckoned`)."""

    def count_tokens(self, prompts: Sequence[Prompt]) -> list[int]:
        """Tokens of each prompt, with all that the model's chat template writes around it."""


@runtime_checkable
class KeepsResponses(Protocol):
    """A backend that keeps the responses it got, each under the key of its reply."""

    def forget(self, keys: Collection[str]) -> None:
        """Drops responses, so that the same call is made again."""


def forget_responses(backend: object, output: Output) -> None:
    """Drops what a backend keeps of an output's calls: for one of no use, which shall be asked for again.

    Without it a run that resumes would read the same empty, unparsable or refused replies from the cache.
    """
    if isinstance(backend, KeepsResponses):
        backend.forget({view.key for view in output.views if view.key})


class Backend(Protocol):
    """A model, wherever it runs: it gets lists of calls and gives replies in their order."""

    @property
    def name(self) -> str:
        """What the model is called in reports."""

    @property
    def capabilities(self) -> frozenset[Capability]:
        """Which kinds of calls it can answer; see `Capability`."""

    def run(self, calls: Sequence[Call]) -> list[Reply]:
        """Replies in the order of the calls."""


def attention_reader(backend: Backend) -> AttentionReader:
    """The backend as one whose attention can be read.

    Raises:
        UnsupportedBackend: it has no attention to read (an endpoint).
    """
    if "attention" not in backend.capabilities:
        raise UnsupportedBackend(
            f"reading attention needs a local model; {backend.name!r} can {', '.join(sorted(backend.capabilities))}"
        )
    if not isinstance(backend, AttentionReader):
        raise TypeError(f"{type(backend).__name__} says that it can read attention, and has no read_attention")
    return backend
