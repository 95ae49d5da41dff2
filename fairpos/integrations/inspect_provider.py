"""The model provider of `fairpos.integrations.inspect_ai`: `fairpos/NAME`, which answers in text or names a choice."""

from __future__ import annotations

import string
import threading
from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeVar

from fairpos.backends.base import Decoding
from fairpos.errors import InvalidOption, InvalidRequest, NoResult
from fairpos.extras import missing_extra
from fairpos.integrations.listed_options import find_listing
from fairpos.methods.catalogue import parse
from fairpos.opening import load
from fairpos.prompts import Template
from fairpos.runner import check
from fairpos.types import Output, Request, Segment, Turn, Usage

try:
    import anyio
    from inspect_ai.model import ChatMessage, GenerateConfig, ModelAPI, ModelOutput, ModelUsage, modelapi
    from inspect_ai.solver._task_state import sample_state
    from inspect_ai.tool import ToolChoice, ToolInfo
except ImportError as error:
    raise missing_extra("inspect_ai isn't installed", "inspect-ai", error) from None

T = TypeVar("T")

_MAX_TOKENS = 512  # of a text, where neither the task nor the command line says
_HONOURED = {"max_tokens", "temperature", "top_p", "seed", "stop_seqs", "system_message"}
# What would change a text and can't be done here; other settings are about transport, or about other providers.
_REFUSED = (
    *("best_of", "frequency_penalty", "presence_penalty", "logit_bias", "top_k", "num_choices", "response_schema"),
    *("logprobs", "top_logprobs", "prompt_logprobs"),
)
_ROLES = ("system", "user", "assistant")
_PLAIN = Template(instruction="", segment="{text}", question="{query}")


class FairposAPI(ModelAPI):
    """`fairpos/NAME`, where NAME is what `fairpos.load` takes: smollm2, a folder, openai:http://host:8000/v1#model.

    Model arguments (`-M`): methods (text form; "none"), dtype, device. Texts are greedy unless a temperature is given,
    which takes a seed as well, and have at most 512 tokens where nobody says.

    COST: a method's, per prompt.
    HURTS: with methods the answer is a letter alone: a prompt that asks for reasons first gets none.

    Raises:
        FairposError: the model can't be loaded, or the methods can't be used on it.
        InvalidOption: a setting that would change the text and can't be kept.
        InvalidRequest: with methods, a prompt that doesn't list the choices of its sample; tools.
    """

    def __init__(
        self,
        model_name: str,
        base_url: str | None = None,
        api_key: str | None = None,
        config: GenerateConfig = GenerateConfig(),
        methods: str = "none",
        dtype: str = "float32",
        device: str | None = None,
        **model_args: object,
    ) -> None:
        super().__init__(model_name, base_url, api_key, [], config)
        if model_args or base_url is not None:
            given = sorted([*model_args, *([] if base_url is None else ["base_url"])])
            raise InvalidOption(f"model arguments are methods, dtype and device; got {', '.join(given)}")
        self.fair = load(model_name, dtype=dtype, device=device)
        self.methods = parse(methods)
        self.methods_text = methods
        self.is_plain = all(method.family == "none" for method in self.methods)
        if not self.is_plain:
            check(self.methods, "choose", self.fair.backend)
        self._one_at_a_time = threading.Lock()

    def max_connections(self) -> int:
        """A local model reads one prompt at a time; an endpoint several."""
        return 1 if "attention" in self.fair.backend.capabilities else 10

    async def generate(
        self, input: list[ChatMessage], tools: list[ToolInfo], tool_choice: ToolChoice, config: GenerateConfig
    ) -> ModelOutput:
        """A text; with methods, the letter of one of the choices that the last message lists."""
        if tools:
            raise InvalidRequest(f"fairpos/{self.model_name} calls no tools; got {', '.join(t.name for t in tools)}")
        history, question = _turns_of(input)
        decoding = _decoding_of(config)
        if self.is_plain:
            ask = partial(self._write_text, history, question, decoding)
        else:
            state = sample_state()
            choices = [] if state is None else [choice.value for choice in state.choices]
            request, template = _listed_request(history, question, choices)
            ask = partial(self._name_choice, request, template)
        output, text, is_cut = await anyio.to_thread.run_sync(self.ask_alone, ask)
        made = ModelOutput.from_content(self.model_name, text, "max_tokens" if is_cut else "stop")
        made.usage = _usage_of(output.usage)
        made.metadata = {"fairpos": output.to_dict() | {"methods": self.methods_text}}
        return made

    def ask_alone(self, ask: Callable[[], T]) -> T:
        """Calls a function, on a local model one at a time."""
        if "attention" not in self.fair.backend.capabilities:
            return ask()
        with self._one_at_a_time:
            return ask()

    def _write_text(self, history: tuple[Turn, ...], question: str, decoding: Decoding) -> tuple[Output, str, bool]:
        request = Request("answer", question, (), history=history)
        [output] = self.fair.run([request], template=_PLAIN, decoding=decoding)
        _refuse_lost_text(output)
        return output, output.text or "", any(view.status == "cut_off" for view in output.views)

    def _name_choice(self, request: Request, template: Template) -> tuple[Output, str, bool]:
        [output] = self.fair.run([request], self.methods, template=template)
        text = f"ANSWER: {output.winner}" if output.winner is not None else f"No answer: {reason_of(output)}"
        return output, text, False


@modelapi(name="fairpos")
def fairpos_api() -> type[FairposAPI]:
    """Registers the provider; on the class itself the decorator would make a function of it."""
    return FairposAPI


def _turns_of(messages: Sequence[ChatMessage]) -> tuple[tuple[Turn, ...], str]:
    """Earlier messages, and the last one, which must be a user's."""
    for message in messages:
        if message.role not in _ROLES:
            raise InvalidRequest(f"messages must be of {', '.join(_ROLES)}, got one of {message.role!r}")
        if not isinstance(message.content, str) and any(part.type != "text" for part in message.content):
            raise InvalidRequest(f"messages must be text, got {[part.type for part in message.content]}")
    if not messages or messages[-1].role != "user":
        raise InvalidRequest("the last message must be a user's")
    return tuple(Turn(message.role, message.text) for message in messages[:-1]), messages[-1].text


def _decoding_of(config: GenerateConfig) -> Decoding:
    given = [name for name in _REFUSED if getattr(config, name, None) is not None]
    if given:
        raise InvalidOption(f"{', '.join(given)}: can't be kept; a text may have {', '.join(sorted(_HONOURED))}")
    return Decoding(
        max_new_tokens=config.max_tokens or _MAX_TOKENS,
        temperature=config.temperature or 0.0,
        top_p=1.0 if config.top_p is None else config.top_p,
        seed=config.seed,
        stop=tuple(config.stop_seqs or ()),
    )


def _listed_request(history: tuple[Turn, ...], text: str, choices: Sequence[str]) -> tuple[Request, Template]:
    """The question of a prompt that lists the sample's choices; ids are the letters that they have there."""
    listing = find_listing(text, [(choice,) for choice in choices], None) if len(choices) > 1 else None
    if listing is None or listing.labels != tuple(string.ascii_uppercase[: len(choices)]):
        raise InvalidRequest(
            f"methods need a prompt that lists the sample's choices as A, B, ...; got {len(choices)} choices and the "
            f"prompt {text[-200:]!r}. Run it with methods=none"
        )
    opening, closing, separator, suffix = (
        part.replace("{", "{{").replace("}", "}}")
        for part in (listing.opening, listing.closing, listing.separator, listing.suffix)
    )
    shown = f"{opening}{{label}}{closing}{{text}}"
    segment = separator + shown if listing.leading else shown + separator
    template = Template("{query}", segment, suffix, answer_start="ANSWER:", repeat="{query}")
    segments = tuple(Segment(id=label, text=each) for label, each in zip(listing.labels, listing.texts, strict=True))
    return Request("choose", listing.prefix, segments, history=history), template


def _usage_of(usage: Usage) -> ModelUsage:
    total = usage.prompt_tokens + usage.completion_tokens
    return ModelUsage(input_tokens=usage.prompt_tokens, output_tokens=usage.completion_tokens, total_tokens=total)


def reason_of(output: Output) -> str:
    """Why an output has no winner or no text, in words."""
    details = [view.detail for view in output.views if view.detail]
    return "; ".join(dict.fromkeys([*output.notes, *details])) or ("a tie" if output.status == "ok" else output.status)


def _refuse_lost_text(output: Output) -> None:
    if output.status != "ok":
        raise NoResult(f"no text came back ({output.status}): {reason_of(output)}", status=output.status)
