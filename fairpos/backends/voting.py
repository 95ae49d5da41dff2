"""Prompts that decode in step and vote at every token.

All prompts continue with the same tokens; each step takes the prompts' next-token distributions and makes one of them.
With prompts that show the same segments in all rotations of one canonical order, the text doesn't depend on the order
that came in, every segment has stood in every slot, and every prompt is an ordinary one.

The law of the uniform vote: the log-probability that it gives any text is never below the mean of those that the
prompts give it, since the geometric mean of distributions sums to at most 1 before it is renormalised.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor

from fairpos.backends.base import Ballot
from fairpos.backends.tally import Tally

if TYPE_CHECKING:
    from transformers import GenerationConfig, LogitsProcessorList, PreTrainedModel, StoppingCriteriaList
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


class InStep(Protocol):
    """Prompts that take the same tokens."""

    def read_prompts(self) -> Tensor:
        """Next-token logits after each prompt, (B, V)."""

    def take(self, token: Tensor) -> Tensor:
        """Next-token logits after one more token (1, 1), the same for all: (B, V)."""


def voting(
    ballot: Ballot, prompts: Sequence[InStep], tally: Tally, streamer: BaseStreamer | None = None
) -> Callable[..., Tensor]:
    """A decoding loop for `generate(custom_generate=...)`: one sequence for all prompts.

    Args:
        ballot: How the prompts' distributions become one.
        prompts: In batches.
        tally: Gets what the prompts said, token by token.
        streamer: Gets each token once; transformers' own streamers take single sequences.
    """

    def decode(
        model: PreTrainedModel,  # noqa: ARG001
        input_ids: Tensor,
        logits_processor: LogitsProcessorList,
        stopping_criteria: StoppingCriteriaList,
        generation_config: GenerationConfig,
        **_: object,
    ) -> Tensor:
        tokens = input_ids[:1]  # processors and criteria see one sequence, like the caller: (1, tokens so far)
        if streamer is not None:
            streamer.put(tokens.cpu())
        logits = torch.cat([each.read_prompts() for each in prompts])  # (prompts, V)
        while True:
            log_probs = torch.log_softmax(logits, dim=-1)
            voted = pooled(log_probs, ballot)
            tally.take(log_probs, voted)
            scores = logits_processor(tokens, voted[None])
            if generation_config.do_sample:
                token = torch.multinomial(torch.softmax(scores, dim=-1), 1)
            else:
                token = scores.argmax(dim=-1, keepdim=True)
            tokens = torch.cat([tokens, token], dim=1)
            if streamer is not None:
                streamer.put(token[0].cpu())
            if bool(stopping_criteria(tokens, scores).all()):
                break
            logits = torch.cat([each.take(token) for each in prompts])
        if streamer is not None:
            streamer.end()
        return tokens

    return decode
