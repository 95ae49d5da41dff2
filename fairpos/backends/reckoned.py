"""Tokens of a prompt where nobody can count them: reckoned from its bytes, rather too many than too few."""

from __future__ import annotations

from fairpos.prompts import Prompt

BYTES_OF_A_TOKEN = 3  # English has 4 to 5, most other scripts 2 to 4
TURN_TOKENS = 16  # what a chat template writes around a message


def reckoned_tokens(prompt: Prompt) -> int:
    """Tokens of a prompt and of what a chat template writes around it, each text rounded up."""
    texts = [*(turn.content for turn in prompt.request.history), prompt.text, prompt.answer_start]
    return sum(-(-len(text.encode("utf-8", "replace")) // BYTES_OF_A_TOKEN) + TURN_TOKENS for text in texts)
