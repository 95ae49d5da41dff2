"""lm-evaluation-harness: the model `fairpos`, so that a published multiple-choice task runs under a method.

    python -m fairpos.integrations.lm_eval --model fairpos \
        --model_args pretrained=smollm2,methods=permutation:views=2 --tasks NAME

takes every argument of `lm_eval`, which has no entry point for models of others. In Python, importing this module
registers the model: `lm_eval.simple_evaluate(model="fairpos", model_args={...}, tasks=[...])`.

With methods=none it is the harness's own `hf` model on the weights that `fairpos.load` gives. With a method, the
options of a question must be listed in its prompt (`fairpos.integrations.listed_options`) and be the task's own: texts
of its document where labels are scored, the scored continuations elsewhere. They become segments; the rest of the
prompt (description, examples, chat template) stays as it is. What lists no options is refused, with the reason.
"""

from __future__ import annotations

import copy
import itertools
import re
import sys
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from inspect import signature
from typing import TYPE_CHECKING, TypeAlias

from fairpos.backends.base import Call, Reply, Score
from fairpos.backends.hf import HFBackend
from fairpos.errors import FairposError, InvalidComposition, InvalidOption, InvalidRequest
from fairpos.extras import missing_extra
from fairpos.integrations.listed_options import Listing, find_listing
from fairpos.layout import Layout
from fairpos.methods.catalogue import parse
from fairpos.model import FairModel
from fairpos.opening import load
from fairpos.prompts import Prompt, Template, slot_labels
from fairpos.runner import check
from fairpos.types import Output, Request, Segment

try:
    import torch
    from lm_eval.api.registry import register_model
    from lm_eval.models.huggingface import HFLM
except ImportError as error:
    raise missing_extra("the harness isn't installed", "lm-eval", error) from None

if TYPE_CHECKING:
    from lm_eval.api.instance import Instance
    from lm_eval.api.model import CacheHook

Answer: TypeAlias = tuple[float, bool]  # log-likelihood of a continuation, and whether greedy decoding gives it

_LABEL = re.compile(r"[(\[]?\w{1,2}[)\].:]?")
_MARK = "fairpos:model and methods"  # in the harness's response cache, whose keys hold neither


@dataclass(frozen=True, slots=True)
class Question:
    """What the harness asks of one document: the likelihood of each option after one prompt.

    Attributes:
        listing: The prompt.
        before, after: What stands around a label in a continuation.
        continuations: By the option's text, where they say the option itself; empty where they say its label.
    """

    listing: Listing
    before: str
    after: str
    continuations: Mapping[str, str]


def question_of(requests: Sequence[Instance]) -> Question:
    """The question that requests of one document are about.

    Args:
        requests: The document's, by index.

    Raises:
        InvalidRequest: the task doesn't say which parts of the prompt are the options; says why.
    """
    where = f"task {requests[0].task_name!r}, document {requests[0].doc_id}"
    contexts = {str(request.args[0]) for request in requests}
    continuations = [str(request.args[1]) for request in requests]
    if len(requests) < 2:
        raise InvalidRequest(f"{where}: one continuation, so there are no options whose order could play a part")
    if [request.idx for request in requests] != list(range(len(requests))):
        raise InvalidRequest(f"{where}: some of its continuations are asked without the others")
    if len(contexts) > 1:
        raise InvalidRequest(f"{where}: every option has a prompt of its own, so none lists them")
    [context] = contexts
    said = [continuation.strip() for continuation in continuations]
    if len(set(said)) < len(said):
        raise InvalidRequest(f"{where}: continuations must differ, got {continuations}")
    if all(_LABEL.fullmatch(text) for text in said):
        labels = [text.strip("()[].:") for text in said]
        listing = find_listing(context, [_texts_of(requests[0].doc)] * len(said), labels)
        if listing is not None:
            around = {each.partition(label)[::2] for each, label in zip(continuations, labels, strict=True)}
            if len(around) == 1:
                return Question(listing, *around.pop(), {})
            raise InvalidRequest(f"{where}: continuations must be labels in one frame, got {continuations}")
    listing = find_listing(context, [(text,) for text in said], None)
    if listing is None:
        raise InvalidRequest(
            f"{where}: the prompt doesn't list the options {said} one after the other, with texts of the document, so "
            "their order plays no part in it or can't be changed; run it with methods=none"
        )
    return Question(listing, "", "", dict(zip(said, continuations, strict=True)))


def _texts_of(value: object) -> set[str]:
    """All texts and numbers in a document, as a prompt shows them."""
    if isinstance(value, Mapping):
        return set().union(*map(_texts_of, value.values()), ())
    if isinstance(value, list | tuple):
        return set().union(*map(_texts_of, value), ())
    return {text} if isinstance(value, str | int | float) and (text := str(value).strip()) else set()


class HarnessBackend(HFBackend):
    """Shows prompts as the harness has them: no chat template around them, the task's own labels and delimiters.

    Args:
        harness: Whose tokenizer, beginning of text included, is used.
        fair: The model.
    """

    question: Question
    greedy: dict[str, bool]

    def __init__(self, harness: HFLM, fair: FairModel) -> None:
        super().__init__(fair.model, fair.tokenizer, name=fair.backend.name)
        self.harness = harness

    def asking(self, question: Question) -> HarnessBackend:
        """The same for one question."""
        found = copy.copy(self)
        found.question = question
        found.greedy = {}
        return found

    def layout(self, prompt: Prompt) -> Layout:
        """Prefix, options and suffix, each in tokens; blanks at the end go to the continuation, as in the harness."""
        listing = self.question.listing
        slots = self._slots_of(prompt)
        segments = prompt.request.segments
        pieces = [listing.piece(slot, segment.text) for slot, segment in zip(slots, segments, strict=True)]
        parts = [self.harness.tok_encode(prompt.instruction)]
        texts = [*pieces, (prompt.question + prompt.answer_start).rstrip()]
        parts += [self.harness.tok_encode(text, add_special_tokens=False) for text in texts]
        bounds = list(itertools.accumulate(map(len, parts)))
        tokens = [token for part in parts for token in part]
        return Layout.of(tokens, [list(itertools.pairwise(bounds[:-1]))], prompt.request.ids)

    def run(self, calls: Sequence[Call]) -> list[Reply]:
        """Scores the task's continuations in the place of labels."""
        asked = [self._exact_call(call) for call in calls if isinstance(call, Score)]
        replies = super().run(asked)
        for call, reply in zip(asked, replies, strict=True):
            for id, is_greedy in zip(call.prompt.request.ids, reply.greedy, strict=True):
                self.greedy[id] = self.greedy.get(id, True) and is_greedy
        return replies

    def _exact_call(self, call: Score) -> Score:
        question, prompt = self.question, call.prompt
        texts = [segment.text for segment in prompt.request.segments]
        if question.continuations:
            if not question.continuations.keys() >= set(texts):
                raise InvalidComposition("a method that asks without the options can't be used where they are scored")
            said = [question.continuations[text] for text in texts]
        else:
            labels = [question.listing.labels[slot] for slot in self._slots_of(prompt)]
            said = [question.before + label + question.after for label in labels]
        ending = prompt.question + prompt.answer_start
        blanks = ending[len(ending.rstrip()) :]
        return Score(prompt, tuple(blanks + text for text in said), call.attend, call.batch_invariant)

    def _slots_of(self, prompt: Prompt) -> list[int]:
        """Which of the task's labels each segment has."""
        letters = slot_labels("choose", len(prompt.labels))
        return [letters.index(label) for label in prompt.labels]


@register_model("fairpos")
class FairposLM(HFLM):
    """The harness's `hf` model, with methods against position bias.

    COST: a method's, per question; prompts are read question by question. A model behind an endpoint can't be used: the
    harness wants log-likelihoods of any text.

    Args:
        pretrained: What `fairpos.load` takes: an embedded model, a folder, a hub id.
        methods: Text form; one with several options takes `--model_args` as JSON, where commas are no separators.
        dtype: See `fairpos.load`; the harness's own `hf` model takes "auto".
        device: See `fairpos.load`; a CUDA device (the harness's default) that isn't there is the CPU, as for `hf`.
        options: Further ones of `hf` that act on a loaded model: batch_size, max_length, add_bos_token, ...

    Raises:
        InvalidOption: an option that there isn't, or that `hf` would ignore on a loaded model.
        FairposError: the model can't be loaded, or the methods can't be used on it.
    """

    def __init__(
        self,
        pretrained: str = "smollm2",
        methods: str | None = "none",
        dtype: str = "float32",
        device: str | None = None,
        **options: object,
    ) -> None:
        _refuse_unknown_options(options)
        if device is not None and device.startswith("cuda") and not torch.cuda.is_available():
            device = None
        fair = load(str(pretrained), dtype=dtype, device=device)
        self.methods = parse(methods or "none")
        check(self.methods, "choose", fair.backend)
        super().__init__(pretrained=fair.model, tokenizer=fair.tokenizer, **options)
        self.methods_text = methods or "none"
        self.is_plain = all(method.family == "none" for method in self.methods)
        self.fairpos_backend = HarnessBackend(self, fair)

    def loglikelihood(self, requests: list[Instance], disable_tqdm: bool = False) -> list[Answer]:
        """Log-likelihoods of continuations; under a method, those of a question's options by what the method finds.

        Raises:
            InvalidRequest: a task doesn't say which parts of a prompt are the options.
        """
        # An empty prompt asks for a continuation's own likelihood, which no order can sway.
        plain = [request for request in requests if self.is_plain or request.args[0] == ""]
        found = dict(zip(map(id, plain), super().loglikelihood(plain, disable_tqdm) if plain else (), strict=True))
        documents: dict[tuple[object, object], dict[int, Instance]] = defaultdict(dict)
        for request in requests:
            if id(request) not in found:
                documents[request.task_name, request.doc_id][request.idx] = request
        for by_index in documents.values():
            asked = [by_index[index] for index in sorted(by_index)]
            answers = self._answers_of(question_of(asked))
            for request, answer in zip(asked, answers, strict=True):
                found[id(request)] = answer
                self.cache_hook.add_partial("loglikelihood", request.args, answer)
        return [found[id(request)] for request in requests]

    def loglikelihood_rolling(self, requests: list[Instance], disable_tqdm: bool = False) -> list[float]:
        """As `hf`; refused under a method: a text alone has no options."""
        self._refuse_methods("a text's own likelihood", requests)
        found: list[float] = super().loglikelihood_rolling(requests, disable_tqdm)
        return found

    def generate_until(self, requests: list[Instance], disable_tqdm: bool = False) -> list[str]:
        """As `hf`; refused under a method: a text that names a label says nothing of another order."""
        self._refuse_methods("a generated text", requests)
        found: list[str] = super().generate_until(requests, disable_tqdm)
        return found

    def set_cache_hook(self, cache_hook: CacheHook) -> None:
        """Refuses a response cache of other methods or another model, which the harness would take for this one's.

        Raises:
            InvalidOption: it is one.
        """
        kept = cache_hook.dbdict
        if kept is not None:
            own = f"{self.fairpos_backend.name} {self.fairpos_backend.revision} {self.methods_text}"
            had = kept.get(_MARK) or ("another model" if len(kept) else own)
            if had != own:
                raise InvalidOption(f"this response cache is of {had}, not of {own}: name another --use_cache")
            kept[_MARK] = own
        super().set_cache_hook(cache_hook)

    def _answers_of(self, question: Question) -> list[Answer]:
        """Of each option, in the order of the document."""
        listing = question.listing
        backend = self.fairpos_backend.asking(question)
        template = Template("{query}", "{label}{text}", "", answer_start=listing.suffix, chat=False, repeat="{query}")
        segments = tuple(Segment(id=str(number), text=text) for number, text in enumerate(listing.texts))
        request = Request("choose", listing.prefix, segments)
        [output] = FairModel(backend).run([request], self.methods, template=template, verdicts="distribution")
        _refuse_lost_scores(output)
        return [(output.scores[segment.id], backend.greedy.get(segment.id, False)) for segment in segments]

    def _refuse_methods(self, what: str, requests: Sequence[Instance]) -> None:
        if not self.is_plain:
            raise InvalidRequest(
                f"task {requests[0].task_name!r} asks for {what}, in which methods={self.methods_text} has no options "
                "to act on; run it with methods=none"
            )


def _refuse_unknown_options(options: Mapping[str, object]) -> None:
    """Options that `hf` would drop in silence, because they are no names of it or are about loading a model."""
    loading = {"pretrained", "tokenizer", "backend", "revision", "subfolder", "trust_remote_code", "use_fast_tokenizer"}
    loading |= {"parallelize", "max_memory_per_gpu", "max_cpu_memory", "offload_folder", "tp_plan", "peft", "delta"}
    loading |= {"autogptq", "gptqmodel", "gguf_file", "kwargs", "self"}
    known = set(signature(HFLM.__init__).parameters) - loading
    names = ", ".join(sorted({*known, "pretrained", "methods"}))
    for name in sorted(options.keys() - known):
        raise InvalidOption(
            f"model argument {name!r} isn't one of {names}. Methods with "
            'several options need JSON: --model_args \'{"methods": "permutation:views=4,design=latin"}\''
        )


def _refuse_lost_scores(output: Output) -> None:
    if output.status != "ok" or len(output.scores) < len(output.segments):
        raise InvalidRequest(f"an option has no likelihood under this method ({output.status}): {output.notes}")


def main() -> None:
    """`lm_eval` with the model `fairpos`; a mistake is one line and exit status 2."""
    from lm_eval.__main__ import cli_evaluate

    try:
        cli_evaluate()
    except FairposError as error:
        sys.stderr.write(f"error: {error}\n")
        sys.exit(2)


if __name__ == "__main__":
    main()
