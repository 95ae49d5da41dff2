"""A model that can be asked about lists: `FairModel`; `fairpos.opening` loads and wraps one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from fairpos.backends.base import Backend, Decoding, forget_responses
from fairpos.backends.work import finish
from fairpos.errors import InvalidComposition, UnsupportedBackend
from fairpos.fitting.base import Asked, Fit, find_fit
from fairpos.judging.rubric import Rubric, Scored, score_answers
from fairpos.layout import Layout, Span
from fairpos.methods.base import Method
from fairpos.methods.catalogue import parse
from fairpos.passages import Passage, as_segments
from fairpos.prompts import EMPTY_ANSWER, Template
from fairpos.rankers.base import Ranker, find_ranker
from fairpos.rankers.verdict import VerdictForm
from fairpos.runner import check
from fairpos.types import Output, Request

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import Cache, PreTrainedModel, PreTrainedTokenizerBase

    from fairpos.backends.hf import HFBackend

Methods = str | Method | Sequence[str | Method]
Spans = Sequence[Span] | Sequence[Sequence[Span]]
_VERDICT_TOKENS = 512  # room for reasons before a verdict in words


class FairModel:
    """A model that can be asked about lists of segments, with methods against position bias.

    `methods` is a string ("permutation:views=5+set_based", outermost first), a Method, or a list of them. Passages,
    answers and options are strings, `Segment`s, mappings or other frameworks' documents (`fairpos.passages`); results
    refer to them by id ("1", "2", ... where they have none), and `Output.segments` keeps their metadata. `aanswer`,
    `arank`, `ajudge` and `achoose` ask in a thread; a call that was begun there goes on when its task is cancelled.

    `fit` says what is done where all doesn't fit into the model's context (`fairpos.fitting`): "error", "keep" (the
    most relevant; `Output.left_out` names the others) or "groups" (read in groups, then what came of them).
    """

    def __init__(self, backend: Backend) -> None:
        self.backend = backend

    @property
    def model(self) -> PreTrainedModel:
        """The transformers model, unchanged; UnsupportedBackend for a model behind an endpoint."""
        return self._local_backend.model

    @property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """Its tokenizer; UnsupportedBackend for a model behind an endpoint."""
        return self._local_backend.tokenizer

    def answer(
        self,
        question: str,
        passages: Sequence[Passage],
        methods: Methods = "none",
        *,
        max_new_tokens: int = 64,
        template: Template | None = None,
        decoding: Decoding | None = None,
        fit: str | Fit = "error",
    ) -> Output:
        """Answers a question from passages.

        Args:
            question: The question.
            passages: What the answer shall come from.
            methods: See the class.
            max_new_tokens: At most so many tokens; `decoding` has a limit of its own.
            template: How it is put into words; None takes the default.
            decoding: Sampling, and transformers' own processors, criteria and streamers; None is greedy.
            fit: See the class.

        Returns:
            Output with `.text`.
        """
        request = Request("answer", question, as_segments(passages))
        decoding = decoding or Decoding(max_new_tokens=max_new_tokens)
        return self.run([request], methods, template=template, decoding=decoding, fit=fit)[0]

    def rank(
        self,
        query: str,
        passages: Sequence[Passage],
        methods: Methods = "none",
        *,
        ranker: str | Ranker = "first_token",
        template: Template | None = None,
        fit: str | Fit = "error",
    ) -> Output:
        """Ranks passages for a query.

        Args:
            query: What they are to be relevant to.
            passages: Texts or segments.
            methods: Against position bias.
            ranker: How a view is asked: a name in `fairpos.rankers.base.RANKERS` ("first_token", "pointwise", ...),
                options after a colon ("generate:constrained=false").
            template: How it is put into words; None takes the ranker's own.
            fit: See the class; "error" or "keep".

        Returns:
            Output with `.ranking` (ids, best first; without passages that no reply ranked) and, where the ranker gives
            any, `.scores`.
        """
        request = Request("rank", query, as_segments(passages))
        return self.run([request], methods, ranker=ranker, template=template, fit=fit)[0]

    def judge(
        self,
        instruction: str,
        answers: Sequence[Passage],
        methods: Methods = "none",
        *,
        template: Template | None = None,
        verdicts: VerdictForm = "auto",
        decoding: Decoding | None = None,
        fit: str | Fit = "error",
    ) -> Output:
        """Finds the best of several answers.

        Args:
            instruction: What the answers follow.
            answers: At least 2 to be judged against each other; an empty one is judged as an empty answer.
            methods: See the class.
            template: None takes the default, without ties; `fairpos.rankers.verdict.JUDGE_WITH_TIES` allows them.
            verdicts: "distribution" over the labels, "text" with its reasons, or "auto": what the backend can.
            decoding: For "text"; None: greedy, at most 512 new tokens.
            fit: See the class; "error" or "groups".

        Returns:
            Output with `.winner` (an id; None for a tie, or where `.status` isn't "ok") and `.scores`.
        """
        request = Request("judge", instruction, as_segments(answers, empty=EMPTY_ANSWER))
        return self.run([request], methods, template=template, verdicts=verdicts, decoding=decoding, fit=fit)[0]

    def choose(
        self,
        question: str,
        options: Sequence[Passage],
        methods: Methods = "none",
        *,
        template: Template | None = None,
        fit: str | Fit = "error",
    ) -> Output:
        """Chooses one of several options. Returns Output with `.winner` and `.scores`; for `fit` see the class."""
        return self.run([Request("choose", question, as_segments(options))], methods, template=template, fit=fit)[0]

    def score(
        self,
        instruction: str,
        answer: str,
        rubric: Rubric,
        methods: Methods = "none",
        *,
        views: int | None = None,
    ) -> Scored:
        """Scores one answer by a rubric; the scale's options and the criteria change places from view to view.

        Args:
            instruction: What the answer follows.
            answer: The answer.
            rubric: `fairpos.judging.rubric.Rubric`: criteria and a scale.
            methods: Inside of each view; see the class.
            views: None: as many as the scale has options.
        """
        return score_answers([(instruction, answer)], rubric, lambda asked: self.run(asked, methods), views)[0]

    async def aanswer(
        self,
        question: str,
        passages: Sequence[Passage],
        methods: Methods = "none",
        *,
        max_new_tokens: int = 64,
        template: Template | None = None,
        decoding: Decoding | None = None,
        fit: str | Fit = "error",
    ) -> Output:
        """`answer`, while the event loop goes on."""
        ask = partial(self.answer, max_new_tokens=max_new_tokens, template=template, decoding=decoding, fit=fit)
        return await asyncio.to_thread(ask, question, passages, methods)

    async def arank(
        self,
        query: str,
        passages: Sequence[Passage],
        methods: Methods = "none",
        *,
        ranker: str | Ranker = "first_token",
        template: Template | None = None,
        fit: str | Fit = "error",
    ) -> Output:
        """`rank`, while the event loop goes on."""
        ask = partial(self.rank, ranker=ranker, template=template, fit=fit)
        return await asyncio.to_thread(ask, query, passages, methods)

    async def ajudge(
        self,
        instruction: str,
        answers: Sequence[Passage],
        methods: Methods = "none",
        *,
        template: Template | None = None,
        verdicts: VerdictForm = "auto",
        decoding: Decoding | None = None,
        fit: str | Fit = "error",
    ) -> Output:
        """`judge`, while the event loop goes on."""
        ask = partial(self.judge, template=template, verdicts=verdicts, decoding=decoding, fit=fit)
        return await asyncio.to_thread(ask, instruction, answers, methods)

    async def achoose(
        self,
        question: str,
        options: Sequence[Passage],
        methods: Methods = "none",
        *,
        template: Template | None = None,
        fit: str | Fit = "error",
    ) -> Output:
        """`choose`, while the event loop goes on."""
        return await asyncio.to_thread(self.choose, question, options, methods, template=template, fit=fit)

    def run(
        self,
        requests: Sequence[Request],
        methods: Methods = "none",
        *,
        ranker: str | Ranker = "first_token",
        template: Template | None = None,
        decoding: Decoding | None = None,
        verdicts: VerdictForm = "auto",
        fit: str | Fit = "error",
        progress: Callable[[int, int], None] | None = None,
    ) -> list[Output]:
        """Asks many requests together: their calls are batched. Outputs in the order of the requests."""
        judged = any(request.task in ("judge", "choose") for request in requests)
        default = Decoding(max_new_tokens=_VERDICT_TOKENS) if judged else Decoding()
        asked = Asked(parse(methods), self.backend, find_ranker(ranker), template, decoding or default, verdicts)
        outputs = finish(find_fit(fit).start(requests, asked, progress), self.backend)
        pairs = zip(requests, outputs, strict=True)
        return [replace(output, segments=request.canonical().segments) for request, output in pairs]

    def forget(self, output: Output) -> None:
        """Drops an endpoint's cached responses to an output's calls: for one of no use, which shall be asked for again.

        Without it a run that resumes would read the same empty, unparsable or refused replies from the cache.
        """
        forget_responses(self.backend, output)

    def next_token_logits(self, input_ids: Sequence[int], spans: Spans, methods: Methods = "none") -> Tensor:
        """Logits of the next token after a prompt given in tokens.

        Args:
            input_ids: The prompt, (N,).
            spans: (start, end) of each segment; see `Layout.of`.
            methods: At most one, which acts on the attention.

        Returns:
            (V,) float32, whatever the model's dtype.

        Raises:
            InvalidLayout, TooLong, UnsupportedModel, NonFiniteLogits: see the errors.
        """
        method = self._attention_method(methods)
        return self._local_backend.logits([Layout.of(input_ids, spans)], method)[0].float().cpu()

    def generate_ids(
        self,
        input_ids: Sequence[int],
        spans: Spans,
        methods: Methods = "none",
        *,
        max_new_tokens: int = 16,
        decoding: Decoding | None = None,
    ) -> list[int]:
        """New tokens after a prompt given in tokens, greedy unless `decoding` says otherwise; without end-of-text."""
        method = self._attention_method(methods)
        decoding = replace(decoding or Decoding(), max_new_tokens=max_new_tokens)
        return self._local_backend.generate([Layout.of(input_ids, spans)], method, decoding)[0]

    @contextmanager
    def attending(self, input_ids: Sequence[int], spans: Spans, methods: Methods) -> Iterator[tuple[Tensor, Cache]]:
        """For a generation of your own: yields the prompt's ids (1, N) in canonical order, and a cache.

        ```python
        with fair.attending(ids, spans, "pine") as (prompt, cache):
            fair.model.generate(prompt, cache=cache, num_beams=4, max_new_tokens=32)
        ```

        The method is in force wherever this cache is used, and nowhere else. Before transformers 5.24, `generate` calls
        it `past_key_values`.
        """
        method = self._attention_method(methods)
        if method is not None and method.pooling is not None:
            raise InvalidComposition(
                f"{method.name} reads a prompt in several rows that vote at every token: use generate_ids or answer"
            )
        with self._local_backend.attending([Layout.of(input_ids, spans)], method) as (batch, cache):
            yield batch.input_ids(0, self._local_backend.model.device), cache

    def _attention_method(self, methods: Methods) -> Method | None:
        chosen = parse(methods)
        for method in chosen:
            if not method.owns_attention:
                raise InvalidComposition(
                    f"prompts given in tokens take methods that act on the attention; {method.name!r} acts on the "
                    f"{method.family}: use answer, rank, judge or choose"
                )
        check(chosen, "answer", self._local_backend)
        return chosen[0] if chosen else None

    @property
    def _local_backend(self) -> HFBackend:
        from fairpos.backends.hf import HFBackend

        if not isinstance(self.backend, HFBackend):
            raise UnsupportedBackend(f"this needs a local model; {self.backend.name!r} is none")
        return self.backend
