"""A reply as plain text: without a thinking trace, mark-up and the many ways to write a bracket or an arrow.

"<think>[1] > [2]?</think>**Ranking:** `［2］ → ［1］`"   becomes   "Ranking: [2] > [1]"
"""

from __future__ import annotations

import re

from fairpos.backends.thinking import without_thinking

# One character for another: fullwidth forms, brackets, arrows. What points to the left is "<", which no list has.
_CHARACTERS = (
    {0xFF01 + i: 0x21 + i for i in range(94)}
    | dict.fromkeys(map(ord, "【〔［「『"), "[")
    | dict.fromkeys(map(ord, "】〕］」』"), "]")
    | dict.fromkeys(map(ord, "→⟶➔➜➝➞➡⇒⟹⇨≻▶►▷≫⋙»›"), ">")
    | dict.fromkeys(map(ord, "←⟵⇐⟸≺◀◄≤⩽≪«‹"), "<")
    | dict.fromkeys(map(ord, "≈≃≡∼~～"), "=")
    | dict.fromkeys(map(ord, "、，"), ",")
    | dict.fromkeys(map(ord, "\u00a0\u2002\u2003\u2009\u202f\u3000"), " ")
    | dict.fromkeys(map(ord, "\u200b\u200c\u200d\u2060\ufeff\ufe0f$"), "")
    | {
        ord("。"): ". ",
        ord("！"): "! ",
        ord("？"): "? ",
        ord("："): ": ",
        ord("；"): "; ",
        ord("’"): "'",
        ord("–"): "-",
        ord("—"): "-",
        ord("−"): "-",
        ord("\r"): "\n",
    }
)
_EMOJI = (
    "\U0001f000-\U0001faff\u2600-\u2712\u2715-\u2793\u2b05-\u2b07"
    "\u2b1b\u2b1c\u2b50\u2b55\u231a\u231b\u23e9-\u23fa\u2705\u2713\u2714\u20e3"
)
_NEXT_PLACE = r"(?:second|third|fourth|fifth|2nd|3rd|[4-9]th|last)(?:[ \t](?:place|rank))?|(?:rank|place)[ \t]?\d{1,3}"
_SIGNS = tuple(  # before characters are replaced one by one
    (re.compile(pattern, re.MULTILINE), by)
    for pattern, by in (
        (r"«([^«»\n]*)»", r'"\1"'),  # a French quotation
        (r"^([ \t]*)\U0001f947[ \t:.]*", r"\g<1>1. "),
        (r"^([ \t]*)\U0001f948[ \t:.]*", r"\g<1>2. "),
        (r"^([ \t]*)\U0001f949[ \t:.]*", r"\g<1>3. "),
        (r"^([ \t]*)([1-9])\ufe0f?\u20e3[ \t:.]*(?=[\w\[({#*])", r"\g<1>\g<2>. "),
        (rf"[ \t]?[{_EMOJI}]", ""),
    )
)
_REWRITTEN = tuple(
    (re.compile(pattern, re.MULTILINE | re.IGNORECASE), by)
    for pattern, by in (
        (r"</?(?:b|i|u|em|strong|code|span|mark)>", ""),
        (r"<\|(?:im_start|start_header_id)\|>[ \t]*assistant\b", "\n"),
        (r"<\|[a-z_]{1,30}\|>", "\n"),  # a control token that was left in
        (r"</?[a-z][a-z0-9_-]{0,30}/?>", "\n"),  # <answer>, <ranking>, ... stand for lines of their own
        (r"&gt;|\\(?:succ|gt|rightarrow|to)\b", ">"),
        (r"&lt;|\\(?:prec|lt|leftarrow)\b", "<"),
        (r"[-=]{1,3}>", ">"),
        (r"<[-=]{1,3}", "<"),
        (r"\\(?:boxed|text|mathrm)\b|\\[\[\]()]", ""),
        (r"^[ \t]*(?:```|~~~)[ \t]*\w{0,20}[ \t]*$", ""),  # a fence
        (r"^[ \t]*\*[ \t]+", "- "),  # a bullet
        (r"\(((?:\[\w{1,12}\][ \t]*=[ \t]*)+\[\w{1,12}\])\)", r"\1"),  # a tie in parentheses
        (r"[*`]|_{1,3}(?=\[)|(?<=\])_{1,3}", ""),
        (r":[ \t]*(?=(?:1[.)]|\(1\)|#1:|(?:rank|place) 1:)[ \t])", ":\n"),  # "Ranking: 1. [2]"
        # First: [2], Second: [1] stand a line each
        (rf"(?<=\S)[,;.]?[ \t]+(?:and[ \t]+)?(?=(?:{_NEXT_PLACE})[ \t]?:)", "\n"),
        (r"^[ \t]{0,3}#{1,6}[ \t]{1,3}([^\n\d\[\]:]{1,80})(?<=\S):?[ \t]*$", r"\1:"),  # a heading leads in what follows
    )
)


def plain_text(reply: str) -> str:
    """The reply without its thinking trace, mark-up taken off, signs spelled one way; "" where the trace never ends."""
    said = without_thinking(reply)
    if said.unfinished:
        return ""
    text = said.text
    for pattern, by in _SIGNS:
        text = pattern.sub(by, text)
    text = text.translate(_CHARACTERS)
    for pattern, by in _REWRITTEN:
        text = pattern.sub(by, text)
    return text
