"""Text held to a JSON schema while a local model writes it, by llguidance's grammars.

llguidance was chosen over xgrammar and outlines-core: it needs neither torch nor numpy, its one wheel is 3 MB and takes
0.1 s to import, and it tells which parts of a schema it can't enforce.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import lru_cache
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from fairpos.backends.base import Decoding, StepGuide
from fairpos.backends.generation_config import end_tokens, generation_config_of
from fairpos.backends.local_model import LocalModel
from fairpos.errors import InvalidOption, UnsupportedModel
from fairpos.extras import missing_extra

if TYPE_CHECKING:
    from llguidance import LLMatcher, LLTokenizer
    from llguidance._lib import JsonCompileOptions

ANY_OBJECT: Mapping[str, object] = {"type": "object"}


class GrammarGuide(StepGuide):
    """Leaves each step only the tokens that go on with a text of the schema.

    It looks at scores and not at the attention or at orders, so that every method keeps its promise under it.

    COST: 0.1 to 1 ms for each token, and about 1 s once for each tokenizer.
    HURTS: a model that was about to say something else; the text is well-formed, and no more true.

    Args:
        local: The model.
        schema: A JSON schema.

    Raises:
        MissingDependency: llguidance isn't installed.
        UnsupportedModel: the tokenizer isn't one that it can read; or, while it writes, has no token to go on with.
        InvalidOption: the schema is none, or has what can't be enforced.
    """

    def __init__(self, local: LocalModel, schema: Mapping[str, object]) -> None:
        self._ends = sorted(filter(local.has_token, end_tokens(generation_config_of(local, Decoding()))))
        self._tokenizer = _grammar_tokenizer(local.tokenizer)
        self._grammar = _compiled_schema(schema, self._tokenizer)
        self._matcher: LLMatcher
        self.begin()

    @property
    def is_complete(self) -> bool:
        """Whether nothing can follow."""
        return bool(self._matcher.is_stopped())

    def begin(self) -> None:
        """Starts at the beginning of the grammar."""
        from llguidance import LLMatcher

        self._matcher = LLMatcher(self._tokenizer, self._grammar)

    def narrow(self, scores: Tensor) -> Tensor:
        """Scores (V,), -inf where the grammar forbids; where the text may end, the tokens that end it too."""
        allowed = torch.frombuffer(bytearray(self._matcher.compute_bitmask()), dtype=torch.uint8)
        bits = (allowed[:, None] >> torch.arange(8, dtype=torch.uint8)) & 1
        mask = torch.zeros(len(scores), dtype=torch.bool)
        known = bits.flatten().bool()[: len(scores)]
        mask[: len(known)] = known
        mask[self._ends] = bool(self._matcher.is_accepting())
        if not bool(mask.any()):
            raise UnsupportedModel("no token of this model goes on with a text of the schema")
        return scores.masked_fill(~mask.to(scores.device), -torch.inf)

    def take(self, token: int) -> None:
        """Goes on in the grammar."""
        self._matcher.consume_token(token)


@lru_cache(maxsize=8)
def _grammar_tokenizer(tokenizer: PreTrainedTokenizerBase) -> LLTokenizer:
    try:
        from llguidance.hf import from_tokenizer
    except ImportError as error:
        raise missing_extra("grammars need llguidance", "grammar", error) from None
    try:
        return from_tokenizer(tokenizer)
    except Exception as error:  # of its own, for tokenizers that aren't "fast" ones
        raise UnsupportedModel(f"llguidance can't read this model's tokenizer: {error}") from error


def _compiled_schema(schema: Mapping[str, object], tokenizer: LLTokenizer) -> str:
    from llguidance import LLMatcher

    # Compact: with white space of any length a model can fill its reply with it.
    overrides: JsonCompileOptions = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}
    try:
        grammar: str = LLMatcher.grammar_from_json_schema(json.dumps(schema), overrides=overrides)
    except Exception as error:
        raise InvalidOption(f"the schema can't be read: {error}") from None
    wrong = LLMatcher.validate_grammar(grammar, tokenizer)
    if wrong:
        raise InvalidOption(f"the schema can't be enforced: {wrong}")
    matcher = LLMatcher(tokenizer, grammar)
    matcher.compute_bitmask()
    if matcher.is_stopped():  # a reference to itself, say: nothing may be written, nor may the text be empty
        raise InvalidOption("the schema can't be enforced: no text of this model meets it")
    return grammar
