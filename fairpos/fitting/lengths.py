"""How long a request's prompts are, in tokens, and how much room the model's context has for segments.

Tokens are counted by the backend where it can count them; else they are reckoned from the text's bytes, which is told.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from fairpos.backends.base import Backend, Call, CountsTokens, Generate
from fairpos.backends.reckoned import reckoned_tokens
from fairpos.errors import InvalidOption, TooLong
from fairpos.methods.base import Method
from fairpos.rankers.base import Asking, Ranker
from fairpos.runner import ask
from fairpos.types import Request, Segment


class _Blanks(NamedTuple):
    """What blank segments take: so many of them with the rest of the prompt, and each."""

    number: int
    all: int
    each: int


@dataclass(frozen=True)
class Lengths:
    """Lengths of the prompts of one way of asking.

    Attributes:
        context: Tokens that prompt and reply may have together.
        together: Segments that ever meet in one prompt, by the number that there are.
        is_counted: Whether tokens are counted, not reckoned.
    """

    methods: tuple[Method, ...]
    backend: Backend
    ranker: Ranker
    asking: Asking
    context: int

    @classmethod
    def of(
        cls, methods: Sequence[Method], backend: Backend, ranker: Ranker, asking: Asking, context: int | None
    ) -> Lengths:
        """The lengths, where the context is known.

        Raises:
            InvalidOption: it isn't.
        """
        known = backend.context if isinstance(backend, CountsTokens) else None
        limits = [limit for limit in (known, context) if limit is not None]
        if not limits:
            raise InvalidOption(
                f"{backend.name!r} doesn't say how many tokens its context holds: say it, "
                "fit='keep:context=8192' (--fit keep:context=8192)"
            )
        return cls(tuple(methods), backend, ranker, asking, min(limits))

    @property
    def is_counted(self) -> bool:
        """Whether tokens are counted, not reckoned."""
        return isinstance(self.backend, CountsTokens) and self.backend.counts_tokens

    def together(self, request: Request) -> int:
        """Segments that meet in one prompt, at most."""
        count = len(request.segments)
        for method in self.methods:
            count = method.most_shown(count)
        if request.task == "rank":
            count = min(count, getattr(self.ranker, "most_shown", count))
        return max(1, count)

    def needed(self, request: Request) -> int:
        """Tokens of the longest prompt about these segments, as many at once as the ranker shows, and of its reply."""
        return self._needed_each([request])[0]

    def sizes(self, request: Request) -> list[int]:
        """Tokens that each segment adds to a prompt, aligned with the segments; `frame` has the rest.

        Each is measured beside blank ones, so that its place and its neighbours play no part.
        """
        blanks, alone = self._blanks(request)[:-1], self._needed_blanks(request)
        own = self._needed_each([_shown(request, (*blanks[1:], segment)) for segment in request.segments])
        return [max(1, needed - alone.all + alone.each) for needed in own]

    def frame(self, request: Request) -> int:
        """Tokens of a prompt without its segments, and of its reply."""
        alone = self._needed_blanks(request)
        return max(0, alone.all - alone.number * alone.each)

    def _needed_blanks(self, request: Request) -> _Blanks:
        blanks = self._blanks(request)
        fewer, more = self._needed_each([_shown(request, blanks[:-1]), _shown(request, blanks)])
        return _Blanks(len(blanks) - 1, fewer, max(1, more - fewer))

    def _blanks(self, request: Request) -> tuple[Segment, ...]:
        """One more than are asked about at once where that is one or two: pairs are asked about in any list."""
        count = min(2, self.together(request))
        return tuple(Segment(id=f"blank {i}", text=".") for i in range(count + 1))

    def _needed_each(self, requests: Sequence[Request]) -> list[int]:
        twice = any(each.repeats_query for method in self.methods for each in (method, *method.inner_methods))
        views = [replace(request, query_twice=request.query_twice or twice) for request in requests]
        steps = [next(ask(view, self.ranker, self.asking), []) for view in views]
        prompts = [call.prompt for calls in steps for call in calls]
        if isinstance(self.backend, CountsTokens):
            counts = iter(self.backend.count_tokens(prompts))
        else:
            counts = iter([reckoned_tokens(prompt) for prompt in prompts])
        return [max((next(counts) + _reply_tokens(call) for call in calls), default=0) for calls in steps]

    def largest(self, request: Request, sizes: Sequence[int]) -> Request:
        """The part with the longest segments, as many as meet in one prompt."""
        count = self.together(request)
        places = sorted(range(len(sizes)), key=lambda i: (-sizes[i], request.segments[i].content))[:count]
        return request.part(sorted(places))

    def refusal(self, request: Request, needed: int) -> TooLong:
        """The error for a request that can't be made to fit."""
        return TooLong(
            f"{len(request.segments)} of the segments ({', '.join(request.ids[:5])}) need {needed} tokens with the "
            f"question and the reply; the context is {self.context}: shorten them, or allow fewer new tokens"
        )


def _shown(request: Request, segments: tuple[Segment, ...]) -> Request:
    """The request with other segments, which have no labels of their own."""
    return replace(request, segments=segments, labels=None)


def _reply_tokens(call: Call) -> int:
    """Tokens that a reply may have; a token of a given one has at least a byte."""
    if isinstance(call, Generate):
        return call.decoding.max_new_tokens
    return max(len(reply.encode("utf-8", "replace")) for reply in call.replies)
