"""The contract of file formats: `check_format(MY_FORMAT, Path("sample.jsonl"))` raises BrokenContract.

A sample is a small file (or folder) of the tool whose format it is, with pairs of answers.
"""

from __future__ import annotations

import json
import tempfile
from dataclasses import dataclass
from pathlib import Path

from fairpos.errors import InvalidRequest
from fairpos.files.formats.base import Format, Source
from fairpos.files.items import Item, judge_item, read_items
from fairpos.files.records import Record
from fairpos.files.verdict import Verdict
from fairpos.testing.contract import Contract, Fault, expect


@dataclass(frozen=True)
class FormatCase:
    """A format and a sample of it, with at least one pair.

    Attributes:
        format: The format.
        sample: The tool's file or folder.
        baseline: For formats that know one.
    """

    format: Format
    sample: Path
    baseline: str | None = None

    @property
    def source(self) -> Source:
        """What is read."""
        return Source(self.sample, self.baseline)

    def items(self) -> list[Item]:
        """The sample's items."""
        found, _ = read_items(self.format.read(self.source), lambda line, record: [judge_item(line, record)])
        return found

    def __str__(self) -> str:
        return f"{self.format.name}: {self.sample.name}"


FORMAT_CONTRACT: Contract[FormatCase] = Contract("the contract of formats")


def format_faults(format: Format, sample: Path, baseline: str | None = None) -> tuple[Fault, ...]:
    """What is wrong with a format."""
    return FORMAT_CONTRACT.faults(FormatCase(format, sample, baseline))


def check_format(format: Format, sample: Path, baseline: str | None = None) -> None:
    """Checks a format against the whole contract.

    Raises:
        BrokenContract: it has faults; the message lists them all.
    """
    FORMAT_CONTRACT.hold(FormatCase(format, sample, baseline))


@FORMAT_CONTRACT.add
def says_what_it_is(case: FormatCase) -> None:
    """A name in lower case and one line of summary."""
    name, summary = case.format.name, case.format.summary
    expect(name == name.lower() and name.replace("_", "").isalnum(), f"name must be a lower-case word, got {name!r}")
    expect(bool(summary.strip()) and "\n" not in summary, f"summary must be one line, got {summary!r}")


@FORMAT_CONTRACT.add
def reads_every_record(case: FormatCase) -> None:
    """Each record of the sample can be judged, has an id of its own and a line; no line is lost."""
    lines = case.format.read(case.source)
    items, bad = read_items(lines, lambda line, record: [judge_item(line, record)])
    expect(not bad, "bad lines in the sample: " + "; ".join(f"line {each.line}: {each.reason}" for each in bad))
    expect(bool(items), "the sample has no records")
    expect(len(items) == len(lines.records), f"{len(lines.records)} records gave {len(items)} items")


@FORMAT_CONTRACT.add
def reads_the_same_again(case: FormatCase) -> None:
    """Reading leaves the file alone and gives the same ids in the same order."""
    first, second = ([item.id for item in case.items()] for _ in range(2))
    expect(first == second, f"read twice: {first} and {second}")


@FORMAT_CONTRACT.add
def refuses_what_is_not_there(case: FormatCase) -> None:
    """A path that doesn't exist and a file of something else are InvalidRequest, or bad lines; never another error."""
    with tempfile.TemporaryDirectory() as folder:
        strange = Path(folder) / "strange.jsonl"
        strange.write_text('{"neither": "one"}\nnor the other\n[1, 2]\n"text"\n', encoding="utf-8")
        for path in (Path(folder) / "absent.jsonl", strange):
            try:
                lines = case.format.read(Source(path, case.baseline))
            except InvalidRequest as error:
                expect(len(str(error).split()) >= 3, f"{path.name} is refused without a reason: {error}")
                continue
            except Exception as error:
                raise AssertionError(f"{path.name}: {type(error).__name__}: {error}") from error
            items, bad = read_items(lines, lambda line, record: [judge_item(line, record)])
            expect(bool(bad) and not items, f"{path.name} gave {len(items)} items and {len(bad)} bad lines")


@FORMAT_CONTRACT.add
def writes_each_outcome_apart(case: FormatCase) -> None:
    """The first wins, the second wins, a tie, no verdict: four records that no reader takes for each other."""
    for item in case.items():
        first, second = item.request.ids[:2]
        written = {
            outcome: _write_verdict(case, item, winner, status)
            for outcome, winner, status in (
                (f"{first} wins", first, "ok"),
                (f"{second} wins", second, "ok"),
                ("a tie", None, "ok"),
                ("no verdict", None, "timeout"),
            )
        }
        texts = {outcome: json.dumps(record, sort_keys=True, default=str) for outcome, record in written.items()}
        alike = [(a, b) for a in texts for b in texts if a < b and texts[a] == texts[b]]
        expect(not alike, f"item {item.id}: written alike: {alike}")


@FORMAT_CONTRACT.add
def saves_what_it_writes(case: FormatCase) -> None:
    """The tool's file has every record."""
    items = case.items()
    records = [_write_verdict(case, item, item.request.ids[0], "ok") for item in items]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "out.jsonl"
        case.format.save(path, records, case.source)
        files = [file for file in Path(folder).rglob("*") if file.is_file()]
        text = "".join(file.read_text(encoding="utf-8") for file in files)
        expect(bool(text.strip()), "nothing was saved")


def _write_verdict(case: FormatCase, item: Item, winner: str | None, status: str) -> Record:
    verdict = Verdict(
        id=item.id,
        winner=winner,
        status=status,
        ids=item.request.ids,
        methods="none",
        judge="contract",
        gold=item.relevant,
    )
    return case.format.write(item, verdict, {})
