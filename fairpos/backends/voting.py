"""Prompts that decode in step and vote at every token.

All prompts continue with the same tokens; each step takes the prompts' next-token distributions and makes one of them.
With prompts that show the same segments in all rotations of one canonical order, the text doesn't depend on the order
that came in, every segment has stood in every slot, and every prompt is an ordinary one.

The law of the uniform vote: the log-probability that it gives any text is never below the mean of those that the
prompts give it, since the geometric mean of distributions sums to at most 1 before it is renormalised.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from fairpos.attention.cache import CACHE, kept_in
from fairpos.backends.base import Ballot
from fairpos.errors import NonFiniteLogits

if TYPE_CHECKING:
    from transformers import GenerationConfig, LogitsProcessorList, PreTrainedModel, StoppingCriteriaList
    from transformers.cache_utils import Cache
    from transformers.generation.streamers import BaseStreamer


def pooled(log_probs: Tensor, ballot: Ballot) -> Tensor:
    """One distribution from several.

    Args:
        log_probs: Normalised, (prompts, V), float32 or better.
        ballot: How they are weighed.

    Returns:
        Normalised log-probabilities, (V,).
    """
    if ballot.weights == "uniform":
        return torch.log_softmax(log_probs.mean(dim=0), dim=-1)
    entropy = torch.special.entr(log_probs.exp()).sum(dim=-1, keepdim=True)  # nats
    return torch.logsumexp(log_probs + torch.log_softmax(-ballot.beta * entropy, dim=0), dim=0)


def pooled_steps(log_probs: Tensor, ballot: Ballot) -> Tensor:
    """The vote at each step of one reply: (tokens, V) from (prompts, tokens, V)."""
    return torch.stack([pooled(step, ballot) for step in log_probs.unbind(dim=1)])


def voting(ballot: Ballot, attention_mask: Tensor, streamer: BaseStreamer | None = None) -> Callable[..., Tensor]:
    """A decoding loop for `generate(custom_generate=...)`: one sequence for all rows of the batch.

    Args:
        ballot: How the rows' distributions become one.
        attention_mask: Of the prompts, (prompts, N); `generate` hands on none where nothing is padded.
        streamer: Gets each token once; transformers' own streamers take single sequences.
    """

    def decode(
        model: PreTrainedModel,
        input_ids: Tensor,
        logits_processor: LogitsProcessorList,
        stopping_criteria: StoppingCriteriaList,
        generation_config: GenerationConfig,
        **state: Any,
    ) -> Tensor:
        cache: Cache = state[CACHE]
        mask, rows = attention_mask, input_ids.shape[0]
        if streamer is not None:
            streamer.put(input_ids[:1].cpu())
        past = cache.get_seq_length()  # what was read for all rows at once
        new, positions = input_ids[:, past:], (mask.cumsum(-1) - 1).clamp(min=0)[:, past:]
        while True:
            logits = model(
                input_ids=new,
                attention_mask=mask,
                position_ids=positions,
                **kept_in(cache),
                use_cache=True,
                logits_to_keep=1,
            ).logits[:, -1]
            log_probs = torch.log_softmax(logits if logits.dtype == torch.float64 else logits.float(), dim=-1)
            if torch.isnan(log_probs).any():
                raise NonFiniteLogits("the model returned NaN or only infinite logits for a prompt that votes")
            # Processors and criteria see one sequence, like the caller.
            scores = logits_processor(input_ids[:1], pooled(log_probs, ballot)[None])
            if generation_config.do_sample:
                token = torch.multinomial(torch.softmax(scores, dim=-1), 1)
            else:
                token = scores.argmax(dim=-1, keepdim=True)
            new = token.expand(rows, 1)
            input_ids = torch.cat([input_ids, new], dim=1)
            if streamer is not None:
                streamer.put(token[0].cpu())
            if bool(stopping_criteria(input_ids[:1], scores).all()):
                break
            positions = mask.sum(-1, keepdim=True)
            mask = torch.cat([mask, mask.new_ones(rows, 1)], dim=1)
        if streamer is not None:
            streamer.end()
        return input_ids

    return decode
