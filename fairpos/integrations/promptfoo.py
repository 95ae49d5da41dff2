"""promptfoo: a provider that answers from a test's documents, the same in every order.

    providers:
      - id: file://promptfoo_provider.py     # from fairpos.integrations.promptfoo import call_api
        config: { model: smollm2, methods: "placements:views=3" }

promptfoo runs providers in the Python that `PROMPTFOO_PYTHON` names, with what the YAML says; no package of it is
needed. A mistake is an `error` in its table, which it counts apart from failed assertions, and never a traceback.
"""

from __future__ import annotations

from collections.abc import Mapping

from fairpos.backends.base import Decoding
from fairpos.errors import FairposError, InvalidOption, InvalidRequest
from fairpos.integrations.work import Answering
from fairpos.passages import as_segments
from fairpos.types import Segment

_OURS = {"model": "smollm2", "methods": "permutation:views=5", "max_tokens": 256, "documents": "documents"}
_PROMPTFOOS = {"basePath", "pythonExecutable", "workers", "timeout"}  # which it adds, or reads itself


def call_api(prompt: str, options: Mapping[str, object], context: Mapping[str, object]) -> dict[str, object]:
    """What promptfoo calls for every test.

    COST: what the methods cost; see `fairpos methods NAME`.

    Args:
        prompt: The question, as the prompt's template made it; without the documents, which are shown beside it.
        options: `config` has model (default smollm2), methods (permutation:views=5), max_tokens (256), and documents:
            the name of the variable with the passages ("documents").
        context: `vars` has that variable: a list of texts or of `{id?, title?, text, score?}`. Without it, or with an
            empty list, the plain model answers.

    Returns:
        output, tokenUsage and metadata (what was done, in the words of the service's `fairpos` object); or error.
    """
    try:
        config = _checked_config(options.get("config") or {})
        variables = context.get("vars")
        given = variables.get(str(config["documents"])) if isinstance(variables, Mapping) else None
        documents = _checked_documents(given, str(config["documents"]))
        decoding = Decoding(max_new_tokens=_whole_number(config["max_tokens"]))
        answering = Answering(str(config["model"]), str(config["methods"]), decoding)
        answer = answering.answer(prompt, documents, lambda segment: segment)
    except FairposError as error:
        return {"error": f"{type(error).__name__}: {error}"}
    usage = answer.output.usage
    tokens = {"prompt": usage.prompt_tokens, "completion": usage.completion_tokens}
    return {
        "output": answer.text,
        "tokenUsage": tokens | {"total": sum(tokens.values()), "numRequests": usage.calls},
        "metadata": {"fairpos": answer.told},
    }


def _checked_config(config: object) -> dict[str, object]:
    if not isinstance(config, Mapping):
        raise InvalidOption(f"config must be a mapping, got {type(config).__name__}")
    unknown = sorted(map(str, config.keys() - _OURS.keys() - _PROMPTFOOS))
    if unknown:
        raise InvalidOption(f"config has {', '.join(unknown)}; it may have {', '.join(_OURS)}")
    return _OURS | {name: config[name] for name in _OURS if name in config}


def _checked_documents(given: object, name: str) -> tuple[Segment, ...]:
    """The passages; one alone is what promptfoo makes of a list unless it is told not to: a test for each."""
    if given is None or given == []:
        return ()
    if not isinstance(given, list):
        raise InvalidRequest(
            f"variable {name!r} must be a list of passages, got {type(given).__name__}; promptfoo makes a test of "
            "every element unless the test has options: {disableVarExpansion: true}"
        )
    return as_segments(given)


def _whole_number(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise InvalidOption(f"max_tokens must be a whole number, got {value!r}")
    return value
