"""Looks at an audit's report in a real browser: no console error, plots drawn, readable on a phone, light and dark.

    python -m benchmarks.report_in_browser [REPORT.html ...] [--screenshots FOLDER]

Without a report, three are made on a model with a known bias: pairs, answers from ten passages, rankings. It needs
chromium (Debian: apt-get install chromium). The page is put into a frame of a phone's width and measured there by a
script of ours; exit status 1 if anything is wrong.
"""

from __future__ import annotations

import argparse
import html
import json
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
FLAGS = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--enable-logging=stderr")
SCHEMES = {"light": 1, "dark": 0}
WIDTHS = {"phone": 390, "desk": 1100}
_PHONE = 500  # below it nothing may have to be scrolled sideways

_MEASURE = """
addEventListener("load", () => {
  const frame = document.querySelector("iframe"), view = frame.contentWindow, page = frame.contentDocument;
  const all = (what) => [...page.querySelectorAll(what)];
  const plots = all("svg").map((svg) => {
    const box = svg.getBoundingClientRect();
    return {width: box.width, height: box.height, marks: svg.querySelectorAll("circle, rect").length};
  });
  const wide = all("body > *, .card, img").filter((e) => e.getBoundingClientRect().right > frame.width + 1);
  const cut = all(".wide").filter((e) => e.scrollWidth > e.clientWidth + 1);
  const body = view.getComputedStyle(page.body);
  const sizes = all("p, td, th, summary, pre").map((e) => parseFloat(view.getComputedStyle(e).fontSize));
  const names = all("[src], [href]").map((e) => e.getAttribute("src") || e.getAttribute("href"))
    .concat([performance, view.performance].flatMap((p) => p.getEntriesByType("resource").map((e) => e.name)));
  const out = document.createElement("pre");
  out.id = "measured";
  out.textContent = JSON.stringify({plots, overflow: page.documentElement.scrollWidth - frame.width, wide: wide.length,
    cut: cut.length, background: body.backgroundColor, ink: body.color, smallest: Math.min(...sizes),
    loaded: names.filter((name) => !name.startsWith("data:"))});
  document.body.append(out);
});
"""


@dataclass(frozen=True)
class Seen:
    """What the browser made of the page at one width in one colour scheme."""

    width: int
    plots: list[dict[str, float]]
    overflow: float
    wide: int
    cut: int
    background: str
    ink: str
    smallest: float
    loaded: list[str]
    errors: list[str]

    def problems(self) -> list[str]:
        """In words; none if all is well."""
        found = [f"console: {line}" for line in self.errors]
        found += [f"loads {name}" for name in self.loaded]
        if len(self.plots) < 2:
            found.append(f"{len(self.plots)} plots")
        for plot in self.plots:
            if not (
                float(plot["width"]) > 0.6 * min(self.width, 500) and float(plot["height"]) > 100 and plot["marks"]
            ):
                found.append(f"a plot is {plot}")
        if self.overflow > 1 or self.wide:
            found.append(f"{self.wide} parts are wider than the page, by {self.overflow:.0f} px")
        if self.cut and self.width < _PHONE:
            found.append(f"{self.cut} tables are cut at the right")
        if self.smallest < 12:
            found.append(f"text of {self.smallest} px")
        if contrast(self.ink, self.background) < 7:
            found.append(f"contrast {contrast(self.ink, self.background):.1f} of {self.ink} on {self.background}")
        return found


def contrast(one: str, other: str) -> float:
    """Contrast ratio of two CSS colours rgb(r, g, b) (WCAG 2)."""

    def luminance(colour: str) -> float:
        parts = [int(x) / 255 for x in re.findall(r"\d+", colour)[:3]]
        red, green, blue = (x / 12.92 if x <= 0.03928 else ((x + 0.055) / 1.055) ** 2.4 for x in parts)
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def look(browser: str, report: Path, width: int, scheme: str, folder: Path) -> Seen:
    """Opens the page in a frame and measures it."""
    page = folder / f"{width}-{scheme}.html"
    text = html.escape(report.read_text(encoding="utf-8"), quote=True)
    frame = f'<iframe width="{width}" height="3000" srcdoc="{text}"></iframe>'
    page.write_text(f"<!doctype html><meta charset=utf-8><script>{_MEASURE}</script><body>{frame}", encoding="utf-8")
    command = [browser, *FLAGS, f"--blink-settings=preferredColorScheme={SCHEMES[scheme]}", "--dump-dom", page.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    found = re.search(r'<pre id="measured">(.*?)</pre>', done.stdout, flags=re.S)
    if found is None:
        raise SystemExit(f"{browser} showed nothing: {done.stderr[-500:]}")
    errors = [line for line in done.stderr.splitlines() if ":CONSOLE" in line]
    return Seen(width=width, errors=errors, **json.loads(html.unescape(found.group(1))))


def screenshot(browser: str, report: Path, width: int, scheme: str, path: Path) -> None:
    """The page as a picture, in a frame, as browsers make no window as narrow as a phone."""
    text = html.escape(report.read_text(encoding="utf-8"), quote=True)
    frame = f'<iframe width="{width}" height="3800" style="border: 0" srcdoc="{text}"></iframe>'
    page = path.with_suffix(".html")
    page.write_text(f'<!doctype html><meta charset=utf-8><body style="margin: 0">{frame}', encoding="utf-8")
    flags = [*FLAGS, f"--blink-settings=preferredColorScheme={SCHEMES[scheme]}", f"--window-size={width + 20},3800"]
    command = [browser, *flags, f"--screenshot={path.absolute()}", page.absolute().as_uri()]
    subprocess.run(command, capture_output=True, timeout=120, check=True)
    page.unlink()


def examples(folder: Path) -> list[Path]:
    """Reports on a model that favours the first slot, the last one a little, and the letter B."""
    import fairpos
    from fairpos.audit.audit import AuditRun, Source
    from fairpos.audit.gate import Gate
    from fairpos.audit.report import write_report
    from fairpos.audit.runs import Plan
    from fairpos.audit.tasks import TASKS, read_items
    from fairpos.backends.fake import FakeBackend

    fake = FakeBackend(
        quality=lambda _, s: len(s.text) / 200,
        slot_bias=lambda slot, count: 1.5 * (slot == 0) + 0.7 * (slot == count - 1 > 1),
        label_bias={"B": 0.5},
        noise=0.5,
    )
    data = Path(__file__).parent / "data"
    pairs = ["swap", "swap:verdict=mean", "swap:verdict=mean+cross_labels", "contextual", "batch_calibration"]
    found = []
    for task, file, segments, cross, names in (
        ("judge", "llmbar_short.jsonl", None, True, pairs),
        ("qa", "nq_groups10.jsonl", 10, False, ["permutation:views=3", "query_twice"]),
        ("rank", "nq_groups10.jsonl", 5, False, ["permutation:views=5,aggregation=kemeny"]),
    ):
        items, bad = read_items(TASKS[task], data / file, segments=segments, limit=40 if task == "judge" else 12)
        audit = AuditRun(fake, TASKS[task], Plan(cross=cross)).audit(items, names, source=Source(file), skipped=bad)
        write_report(audit.gated(Gate(0.05), names[:1]), folder / task, fairpos.__version__)
        found.append(folder / task / "report.html")
    return found


def look_at_all(browser: str, report: Path, folder: Path, pictures: Path | None) -> bool:
    """Looks at one report at every width in both schemes; returns whether anything is wrong."""
    failed, backgrounds = False, set()
    for place, width in WIDTHS.items():
        for scheme in SCHEMES:
            seen = look(browser, report, width, scheme, folder)
            backgrounds.add(seen.background)
            problems = seen.problems()
            failed = failed or bool(problems)
            print(f"{report.parent.name}, {place} ({width} px), {scheme}: {'; '.join(problems) or 'well'}")
            if pictures:
                pictures.mkdir(parents=True, exist_ok=True)
                screenshot(browser, report, width, scheme, pictures / f"{report.parent.name}-{place}-{scheme}.png")
    if len(backgrounds) < 2:
        print("light and dark look the same")
    return failed or len(backgrounds) < 2


def main() -> int:
    """Looks at every width in both schemes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("reports", nargs="*", type=Path)
    parser.add_argument("--screenshots", type=Path, help="folder for pictures of the page")
    options = parser.parse_args()
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        print(f"no browser: install one of {', '.join(BROWSERS)}", file=sys.stderr)
        return 1
    failed = False
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for report in options.reports or examples(folder):
            failed = look_at_all(browser, report, folder, options.screenshots) or failed
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
