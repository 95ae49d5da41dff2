"""A Set-Encoder: a BERT-like cross-encoder whose passages see one token of each other.

Schlatt et al., "Set-Encoder: Permutation-Invariant Inter-Passage Attention", arXiv 2404.06912. A set of k passages is k
rows of one batch, every row on the positions 0, 1, 2, ...:

    row i:   [CLS] [INT] query [SEP] passage i [SEP]

In every layer each token of row i sees all of row i, and [INT] alone of every other row. The score is a linear function
of the last state of [CLS]. Checkpoints without a token of its own for that let [CLS] do it.

Checkpoints are lightning-ir's (webis/set-encoder-base, -large); what differs from its inference on purpose:

- It fills a set up to the training's size (`depth`) with [INT] states drawn at random, so that two runs of one set
  differ. Here only passages that are there are seen: its `sample_missing_docs=False`.
- It takes at most `depth` passages; here any number.
- It decodes what is left of a text that was cut and reads that anew, so that a word cut in two may get other tokens.
  Here the tokens themselves are cut, and so much that a row never passes the model's last position.
- Text that spells a control token ("[SEP]") is text here, and no token.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention
from transformers import (
    AttentionInterface,
    AutoTokenizer,
    BertModel,
    ElectraModel,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from fairpos.errors import ModelUnavailable
from fairpos.models.loading import device_named, here_alone, quiet_loading

NAME = "fairpos_set_encoder"  # of the attention, in transformers' registry
BACKBONES: dict[str, type[PreTrainedModel]] = {"bert": BertModel, "electra": ElectraModel}

# What a checkpoint may say, and what is computed here; absent means the same.
_SETTINGS: dict[str, object] = {
    "model_type": "set-encoder",
    "pooling_strategy": "first",
    "scoring_strategy": "rank",
    "position_embedding_type": "absolute",
    "use_adapter": False,
    "_bert_pool": False,
}


@dataclass(frozen=True)
class Sight:
    """What a set's tokens see, beside their own row's keys.

    Attributes:
        place: Of the token of a row that other rows see.
        mask: (k, 1, 1, longest + k) bool: a row's own tokens without padding, then the k rows' tokens at `place`.
    """

    place: int
    mask: Tensor


def attend_to_set(
    _module: nn.Module, query: Tensor, key: Tensor, value: Tensor, _mask: Tensor | None, **given: Any
) -> tuple[Tensor, None]:
    """One layer's attention over a set: (k, heads, longest, width) each; registered with transformers as `NAME`."""
    sight: Sight = given["sight"]

    def with_others(own: Tensor) -> Tensor:
        others = own[:, :, sight.place].transpose(0, 1)  # (heads, k, width)
        return torch.cat([own, others.expand(len(own), *others.shape)], dim=2)

    seen = scaled_dot_product_attention(
        query, with_others(key), with_others(value), attn_mask=sight.mask, scale=given["scaling"]
    )
    return seen.transpose(1, 2).contiguous(), None


AttentionInterface.register(NAME, attend_to_set)


@dataclass(frozen=True)
class SetReading:
    """What a set's reading gave.

    Attributes:
        scores: Of the passages, in the order given.
        cut: Which passages were cut, by their index.
        passage_tokens: So many tokens of a passage were read at most.
        query_was_cut: The query was.
    """

    scores: tuple[float, ...]
    cut: tuple[int, ...]
    passage_tokens: int
    query_was_cut: bool


@dataclass(frozen=True)
class SetEncoder:
    """A loaded checkpoint."""

    network: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase

    @property
    def depth(self) -> int:
        """The number of passages of a set in training."""
        return int(getattr(self.network.config, "depth", 100))

    @torch.inference_mode()
    def read(self, query: str, passages: Sequence[str]) -> SetReading:
        """Scores all passages in one forward pass of as many rows; other orders give the same up to rounding."""
        config = self.network.config
        head, query_was_cut = self._head_of(query)
        room = config.max_position_embeddings - len(head) - 1
        limit = min(room, config.doc_length or room)
        texts = [self._tokens_of(passage) for passage in passages]
        rows = [[*head, *text[:limit], self.tokenizer.sep_token_id] for text in texts]
        longest = max(map(len, rows))
        device = self.network.device
        ids, kinds = ids_and_kinds(rows, len(head), config.pad_token_id)
        there = torch.arange(longest)[None] < torch.tensor([len(row) for row in rows])[:, None]
        others = ~torch.eye(len(rows), dtype=torch.bool)
        mask = torch.cat([there, others], dim=1)[:, None, None].to(device)
        state = self.network(
            input_ids=ids.to(device), token_type_ids=kinds.to(device), sight=Sight(self._interaction_place, mask)
        ).last_hidden_state
        scores = self.network.linear(state[:, 0])[:, 0]
        cut = tuple(index for index, text in enumerate(texts) if len(text) > limit)
        return SetReading(tuple(scores.tolist()), cut, limit, query_was_cut)

    @property
    def _interaction_place(self) -> int:
        return int(bool(getattr(self.network.config, "add_extra_token", False)))

    def _head_of(self, query: str) -> tuple[list[int], bool]:
        """What every row begins with, up to the first [SEP], and whether the query was cut."""
        limit = self.network.config.query_length or self.network.config.max_position_embeddings // 2
        tokens = self._tokens_of(query)
        first = [self.tokenizer.cls_token_id]
        if self._interaction_place:
            first.append(self.tokenizer.convert_tokens_to_ids("[INT]"))
        return [*first, *tokens[:limit], self.tokenizer.sep_token_id], len(tokens) > limit

    def _tokens_of(self, text: str) -> list[int]:
        found = self.tokenizer(text, add_special_tokens=False, split_special_tokens=True, verbose=False)
        return list(found["input_ids"])


def ids_and_kinds(rows: Sequence[Sequence[int]], head: int, padding: int) -> tuple[Tensor, Tensor]:
    """Token ids and token types of rows, padded at the end: (k, longest) each; type 1 from place `head` on."""
    longest = max(map(len, rows))
    ids = torch.tensor([[*row, *[padding] * (longest - len(row))] for row in rows])
    kinds = torch.tensor([[int(head <= place < len(row)) for place in range(longest)] for row in rows])
    return ids, kinds


@lru_cache(maxsize=4)
def load_set_encoder(model: str) -> SetEncoder:
    """A Set-Encoder in float32, on a GPU where there is one; loaded once a process.

    Args:
        model: A folder or a hub id of a checkpoint as lightning-ir saves it.

    Raises:
        ModelUnavailable: it can't be loaded, or computes something that isn't computed here.
    """
    try:
        with quiet_loading():
            here = here_alone(model)
            settings, _ = PreTrainedConfig.get_config_dict(model, local_files_only=here)
            kind = _refuse_other_settings(model, settings)
            config = BACKBONES[kind].config_class.from_dict({**settings, "model_type": kind, "dtype": "float32"})
            network, report = _with_head(BACKBONES[kind]).from_pretrained(
                model,
                config=config,
                attn_implementation=NAME,
                ignore_mismatched_sizes=True,  # they are told below, with what is missing
                output_loading_info=True,
                local_files_only=here,
            )
            tokenizer = AutoTokenizer.from_pretrained(model, local_files_only=here, trust_remote_code=False)
    except ModelUnavailable:
        raise
    except Exception as error:  # configs, weights and tokenizers are read by libraries with errors of their own
        lines = str(error).splitlines() or [type(error).__name__]
        raise ModelUnavailable(f"can't load {model!r} as a Set-Encoder: {lines[0]}") from error
    missing, unused = set(report["missing_keys"]), set(report["unexpected_keys"])
    if "linear.bias" in missing:  # a checkpoint without one
        nn.init.zeros_(network.linear.bias)
    strange = sorted(missing - {"linear.bias"} | {key for key in unused if not key.endswith("position_ids")})
    strange += [str(key) for key, *_ in report["mismatched_keys"]]
    if strange:
        raise ModelUnavailable(
            f"{model!r} doesn't fit its config: {len(strange)} weights are missing, unused or of other sizes, "
            f"{', '.join(strange[:3])}"
        )
    if config.add_extra_token and tokenizer.convert_tokens_to_ids("[INT]") in (None, tokenizer.unk_token_id):
        raise ModelUnavailable(f"the tokenizer of {model!r} must have the token [INT] that its config promises")
    return SetEncoder(network.to(device_named(None)).eval(), tokenizer)


def _refuse_other_settings(model: str, settings: Mapping[str, Any]) -> str:
    """The kind of the encoder; ModelUnavailable where a checkpoint computes what isn't computed here."""
    if settings.get("model_type") != "set-encoder":
        got = settings.get("model_type")
        raise ModelUnavailable(
            f"{model!r} must have the config of a Set-Encoder (model_type 'set-encoder'), got {got!r}"
        )
    for name, known in _SETTINGS.items():
        if settings.get(name, known) not in (known, None):
            raise ModelUnavailable(f"{model!r} has {name}={settings[name]!r}; only {known!r} can be computed")
    kind = settings.get("backbone_model_type")
    if kind not in BACKBONES:
        raise ModelUnavailable(f"{model!r} must be built on {' or '.join(BACKBONES)}, its config says {kind!r}")
    return str(kind)


def _with_head(backbone: type[PreTrainedModel]) -> type[PreTrainedModel]:
    """The encoder with the one linear layer that scores; weights are named as lightning-ir names them."""

    class Headed(backbone):  # type: ignore[misc]
        def __init__(self, config: PreTrainedConfig) -> None:
            super().__init__(config)
            self.pooler = None  # BERT's own, which isn't trained here
            self.linear = nn.Linear(config.hidden_size, 1)
            self.post_init()

    return Headed
