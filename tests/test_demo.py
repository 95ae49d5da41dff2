"""The demonstration shows the method that its own audit chose, and one that hurts, as such."""

from dataclasses import replace

from demo.audit import METHODS, audit_of, methods_shown
from demo.data import Answered, Ranked, questions
from demo.report import write_report
from fairpos import FairModel
from fairpos.backends.fake import FakeBackend


class Looking(FakeBackend):
    """Finds a key among the first three pairs; under a method of the attention it finds nothing."""

    def run(self, calls):
        return [
            replace(reply, text="nothing" if call.attend else self.value(call.prompt.request))
            for call, reply in zip(calls, super().run(calls), strict=True)
        ]

    def value(self, request):
        pairs = [segment.text.split('"')[1::2] for segment in request.segments]
        return next((value for key, value in pairs[:3] if key == request.query), "nothing")


def test_the_audit_chooses_and_names_what_hurts(tmp_path):
    looking = Looking(capabilities=frozenset({"generate", "score", "attention"}))
    audit = audit_of(FairModel(looking), 10, lambda done, total: None)
    helps, hurts = METHODS
    shown = methods_shown(audit)
    assert shown == {"none": "the plain model", helps: "what the audit chose", hurts: "lowers accuracy"}
    [question, *_] = questions()
    ranked = Ranked([0, 1, 2, 3, 4], [True, False, False, False, False], [True] * 5)
    answered = Answered(question, {name: ["a", "b", "a", "a", "a"] for name in shown}, shown)
    write_report(tmp_path / "report.html", "fake", ranked, audit, answered)
    text = (tmp_path / "report.html").read_text()
    assert audit.advice.headline in text
    assert f"These lower accuracy on your data: {hurts} (" in text
    assert "what the audit chose" in text
    assert f"methods=&#34;{helps}&#34;" in text


def test_what_is_lower_on_too_few_lists_is_shown_as_that():
    looking = Looking(capabilities=frozenset({"generate", "score", "attention"}))
    audit = audit_of(FairModel(looking), 2, lambda done, total: None)
    assert not audit.advice.hurting()
    assert methods_shown(audit)[METHODS[1]] == "lower here, by no more than chance could"
