"""Control tokens in text that goes to an upstream, whose tokenizer isn't ours to ask.

A local model's own control tokens are known from its tokenizer and broken up in tokens (`fairpos.tokenizing`). For an
upstream, whatever looks like a control token of a known family gets a zero-width space behind its first character, so
that it is read as the letters that it is made of.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

# From the tokenizers that the families publish: the tokens that their shapes below don't cover.
FAMILIES: dict[str, tuple[str, ...]] = {
    "Llama 2, Mistral": (
        "[INST]", "[/INST]", "<<SYS>>", "<</SYS>>", "<s>", "</s>", "[SYSTEM_PROMPT]", "[/SYSTEM_PROMPT]",
        "[AVAILABLE_TOOLS]", "[/AVAILABLE_TOOLS]", "[TOOL_CALLS]", "[TOOL_RESULTS]", "[/TOOL_RESULTS]",
        "[TOOL_CONTENT]",
        "[ARGS]", "[CALL_ID]", "[THINK]", "[/THINK]", "[IMG]", "[IMG_BREAK]", "[IMG_END]", "[AUDIO]", "[BEGIN_AUDIO]",
        "[TRANSCRIBE]", "[PREFIX]", "[MIDDLE]", "[SUFFIX]", "[MODEL_SETTINGS]", "[/MODEL_SETTINGS]",
    ),
    "Code Llama": ("<PRE>", "<SUF>", "<MID>", "<EOT>"),
    "Gemma": (
        "<start_of_turn>", "<end_of_turn>", "<start_of_image>", "<end_of_image>", "<image_soft_token>",
        "<start_of_audio>", "<end_of_audio>", "<audio_soft_token>", "<bos>", "<eos>", "<pad>", "<unk>", "<mask>",
        "[multimodal]", "[@BOS@]", "<2mass>",
    ),
    "Qwen": (
        "<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>", "<tools>", "</tools>", "<think>",
        "</think>",
    ),
    "DeepSeek": ("<function_calls>", "</function_calls>"),
    "GLM": ("[gMASK]", "[sMASK]", "[MASK]", "<sop>", "<eop>", "<arg_key>", "</arg_key>", "<arg_value>", "</arg_value>"),
    "InternLM": ("<eoh>", "<eoa>", "<eosys>"),
    "MiniMax": ("]~b]", "]~!b[", "[e~[", "]!p~[", "]!d~[", "<minimax:tool_call>", "</minimax:tool_call>"),
    "Seed": ("<seed:bos>", "<seed:eos>", "<seed:pad>", "<seed:think>", "</seed:think>", "<seed:tool_call>",
             "</seed:tool_call>", "<seed:cot_budget_reflect>", "</seed:cot_budget_reflect>"),
    "StarCoder": ("<fim_prefix>", "<fim_middle>", "<fim_suffix>", "<fim_pad>", "<file_sep>", "<repo_name>",
                  "<gh_stars>", "<issue_start>", "<issue_comment>", "<issue_closed>", "<jupyter_start>",
                  "<jupyter_text>", "<jupyter_code>", "<jupyter_output>", "<jupyter_script>", "<empty_output>"),
    "BERT": ("[CLS]", "[SEP]", "[PAD]", "[UNK]", "<cls>", "<sep>"),
}  # fmt: skip

# <|im_start|> and its like: ChatML, Llama 3 and 4, Phi, Command R, Granite, GPT-OSS, GLM, Kimi, ...; with bars of full
# width DeepSeek's and Hunyuan's; <|turn> and <turn|> Gemma 4's; [|user|] EXAONE's; then reserved ones.
_SHAPES = (
    r"<\|[^<>|\n]{1,64}\|?>",
    r"</?[^<>|\s]{1,64}\|>",
    r"<｜[^<>｜\n]{1,64}｜>",
    r"\[\|[^\[\]|\n]{1,64}\|\]",
    r"<(?:unused|extra_id_|reserved_|SPECIAL_|special_token_)[0-9]{1,6}>",
    r"\[UNUSED_TOKEN_[0-9]{1,6}\]",
)
_LONGEST = 80  # characters of a token
_WINDOW = 2**13  # characters looked through at once: an expression holds up every other thread while it runs
_WORDS = sorted({word for words in FAMILIES.values() for word in words}, key=len, reverse=True)
_CONTROL = re.compile("|".join([*_SHAPES, *map(re.escape, _WORDS)]))


def neutral(text: str) -> str:
    """The text with a zero-width space inside of whatever looks like a control token."""
    pieces, end = [], 0
    for start in _control_starts(text):
        pieces += [text[end : start + 1], "\u200b"]
        end = start + 1
    return "".join([*pieces, text[end:]]) if pieces else text


def neutral_json(value: object) -> object:
    """The same for every text in a JSON value, names of fields too."""
    if isinstance(value, str):
        return neutral(value)
    if isinstance(value, list):
        return [neutral_json(item) for item in value]
    if isinstance(value, dict):
        return {neutral(name): neutral_json(item) for name, item in value.items()}
    return value


def _control_starts(text: str) -> Iterator[int]:
    """Where control tokens begin, in order; linear in the text. Overlapping ones are all found."""
    at = 0
    while at < len(text):
        end = min(len(text), at + _WINDOW)
        match = _CONTROL.search(text, at, min(len(text), end + _LONGEST))
        if match is None or match.start() >= end:
            at = end
        else:
            yield match.start()
            at = match.start() + 1
