"""An audit as a recipe: is there a bias, what helps, what it costs per request, and the lines that put it to work."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from fairpos.audit.advice import shown
from fairpos.audit.audit import Audit
from fairpos.audit.statistics import MethodFigures
from fairpos.backends.dry_run import Price

_CODE: Mapping[str, str] = {
    "judge": 'fair.judge(instruction, answers, methods="{methods}")',
    "choice": 'fair.choose(question, options, methods="{methods}")',
    "rank": 'fair.rank(query, passages, methods="{methods}", ranker="{ranker}")',
    "qa": 'fair.answer(question, passages, methods="{methods}")',
    "kv": 'fair.answer(key, pairs, methods="{methods}", template=fairpos.prompts.KEY_VALUE)',
    "shots": 'fair.answer(text, examples, methods="{methods}", template=fairpos.prompts.FEW_SHOT)',
}
_SETTINGS: Mapping[str, str] = {
    "judge": 'FAIRPOS_JUDGE_METHODS="{methods}"',
    "rank": 'FAIRPOS_RERANK_METHODS="{methods}"',
    "qa": 'FAIRPOS_METHODS="{methods}"',
    "kv": 'FAIRPOS_METHODS="{methods}"',
    "shots": 'FAIRPOS_METHODS="{methods}"',
}
_CHAT = """\
from langchain_openai import ChatOpenAI
chat = ChatOpenAI(base_url="http://127.0.0.1:8000/v1", api_key="none", model="{model}",
                  extra_body={{"documents": documents, "fairpos": {{"methods": "{methods}"}}}})"""
_SNIPPETS: Mapping[str, str] = {
    "judge": """\
import requests
body = {{"model": "{model}", "instruction": instruction, "answers": answers, "fairpos": {{"methods": "{methods}"}}}}
verdict = requests.post("http://127.0.0.1:8000/v1/judge", json=body).json()""",
    "rank": """\
import cohere
client = cohere.ClientV2("none", base_url="http://127.0.0.1:8000")  # with the service's setting above
ranked = client.rerank(model="{model}", query=query, documents=documents)""",
    "qa": _CHAT,
    "kv": _CHAT,
    "shots": _CHAT,
}


@dataclass(frozen=True, slots=True)
class Recipe:
    """What to do after an audit.

    Attributes:
        audit: What was found.
        price: Of tokens; None: not known.
    """

    audit: Audit
    price: Price | None = None

    @property
    def method(self) -> str:
        """What to use: "none" where nothing is recommended."""
        return self.audit.advice.method or "none"

    @property
    def bias(self) -> str:
        """Whether there is one, in a sentence."""
        plain = self.audit.plain
        tests = ", ".join(f"{name} p = {test.p:.3f}" for name, test in plain.tests.items()) or "too few orders to test"
        consistency = f"the same verdict in all orders on {plain.figures['consistency'].estimate:.0%} of the items"
        if not plain.biases:
            return f"No bias was found ({tests}); {consistency}."
        return f"There is a bias of {' and '.join(plain.biases)} ({tests}); {consistency}."

    @property
    def hurting(self) -> str:
        """Methods that cost accuracy here, in a sentence; empty where none does."""
        worse = self.audit.advice.hurting()
        if not worse:
            return ""
        said = ", ".join(f"{each.method} ({shown(each.accuracy, signed=True)})" for each in worse if each.accuracy)
        return f"These lower accuracy on your data: {said}."

    def cost_of(self, figures: MethodFigures) -> dict[str, float]:
        """Per request: calls, tokens, seconds and, where a price is known, money."""
        cost = figures.cost
        found = {
            "calls": cost.calls,
            "prompt_tokens": cost.prompt_tokens,
            "completion_tokens": cost.completion_tokens,
            "seconds": cost.seconds,
        }
        return found | {"money": self.price.of(cost)} if self.price else found

    @property
    def code(self) -> str:
        """The line for Python."""
        return self._fill_template(_CODE)

    @property
    def setting(self) -> str:
        """The service's setting; empty where the service has no such task."""
        return self._fill_template(_SETTINGS)

    @property
    def snippet(self) -> str:
        """The same from a framework's client, through the service; empty where the service has no such task."""
        return self._fill_template(_SNIPPETS)

    def to_record(self) -> dict[str, object]:
        """As JSON values."""
        return {
            "method": self.method,
            "verdict": self.audit.advice.verdict,
            "reason": self.audit.advice.reason,
            "bias": self.bias,
            "hurting": [each.method for each in self.audit.advice.hurting()],
            "cost": {figures.method: self.cost_of(figures) for figures in self.audit.methods},
            "code": self.code,
            "setting": self.setting,
            "snippet": self.snippet,
        }

    def _fill_template(self, templates: Mapping[str, str]) -> str:
        text = templates.get(self.audit.task.name, "")
        return text.format(methods=self.method, ranker=self.audit.plan.ranker, model=self._served_name)

    @property
    def _served_name(self) -> str:
        """A model behind an endpoint is called by its own name in the service."""
        return self.audit.model.rpartition("#")[2]
