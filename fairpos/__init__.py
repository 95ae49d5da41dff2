"""Answers, rankings and verdicts of language models that do not depend on the order of what they are shown.

    fair = fairpos.load("smollm2")
    fair.answer("Who wrote it?", passages, methods="set_based").text

Importing fairpos needs no torch; loading a local model does.
"""

from fairpos import aggregate, errors
from fairpos.backends.base import Decoding
from fairpos.errors import FairposError
from fairpos.layout import Layout
from fairpos.model import FairModel
from fairpos.opening import load, wrap
from fairpos.prompts import Template
from fairpos.types import Output, Request, Segment, Usage, View

__version__ = "0.2.0"

__all__ = [
    "Decoding",
    "FairModel",
    "FairposError",
    "Layout",
    "Output",
    "Request",
    "Segment",
    "Template",
    "Usage",
    "View",
    "__version__",
    "aggregate",
    "errors",
    "load",
    "wrap",
]
