"""The page in a real browser: `python -m benchmarks.page_in_browser --screenshot docs/page.png`.

Needs Chromium on the path. Starts the service with a model on a free port, opens its page, asks the first example in
every rotation, and checks what a user would see: answers for every method and order, flips marked where answers differ
from the first and nowhere else, no console error, nothing wider than a phone, light and dark.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import itertools
import json
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from websockets.sync.client import ClientConnection, connect

from demo.service import serving

_FLAGS = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run",
          "--remote-debugging-port=0", "--hide-scrollbars")  # fmt: skip
SEEN = """
[...document.querySelectorAll('.method')].map((card) => ({
  methods: card.dataset.methods,
  sum: card.querySelector('.sum').textContent,
  answers: [...card.querySelectorAll('li')].map((li) => ({text: li.firstChild.textContent, flip: li.className})),
}))
"""


class Browser:
    """One page of a headless Chromium, over its debugging protocol.

    Attributes:
        errors: What the console and uncaught exceptions said.
    """

    def __init__(self, connection: ClientConnection) -> None:
        self._connection = connection
        self._ids = itertools.count(1)
        self.errors: list[str] = []
        for domain in ("Runtime", "Log", "Page"):
            self.do(f"{domain}.enable")

    def do(self, method: str, **parameters: object) -> dict[str, Any]:
        id = next(self._ids)
        self._connection.send(json.dumps({"id": id, "method": method, "params": parameters}))
        while True:
            message = json.loads(self._connection.recv(timeout=60))
            if message.get("id") == id:
                if "error" in message:
                    raise RuntimeError(f"{method}: {message['error']}")
                return dict(message["result"])
            self._note(message)

    def _note(self, message: dict[str, Any]) -> None:
        kind, params = message.get("method"), message.get("params", {})
        if kind == "Runtime.exceptionThrown":
            self.errors.append(json.dumps(params["exceptionDetails"])[:500])
        elif kind == "Runtime.consoleAPICalled" and params["type"] in ("error", "warning"):
            self.errors.append(json.dumps(params["args"])[:500])
        elif kind == "Log.entryAdded" and params["entry"]["level"] in ("error", "warning"):
            self.errors.append(params["entry"]["text"])

    def see(self, expression: str) -> Any:
        """The value of an expression."""
        found = self.do("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in found:
            raise RuntimeError(str(found["exceptionDetails"])[:500])
        return found["result"].get("value")

    def until(self, expression: str, timeout_s: float) -> None:
        end = time.monotonic() + timeout_s
        while not self.see(expression):
            if time.monotonic() > end:
                raise AssertionError(f"not within {timeout_s} s: {expression}; the console said {self.errors}")
            time.sleep(0.1)

    def look(self, width: int, *, dark: bool = False, phone: bool = False) -> bytes:
        """The whole page as PNG."""
        self.do("Emulation.setEmulatedMedia",
                features=[{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}])  # fmt: skip
        self.do("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=phone)
        shot = self.do("Page.captureScreenshot", captureBeyondViewport=True)
        return base64.b64decode(shot["data"])


@contextlib.contextmanager
def chromium() -> Iterator[Browser]:
    """A browser with an empty page."""
    command = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if command is None:
        sys.exit("no Chromium on the path (Debian: apt-get install chromium)")
    with tempfile.TemporaryDirectory() as folder:
        process = subprocess.Popen([command, *_FLAGS, f"--user-data-dir={folder}", "about:blank"],
                                   stderr=subprocess.DEVNULL)  # fmt: skip
        try:
            port_file = Path(folder) / "DevToolsActivePort"
            _wait(port_file.exists, 60)
            _wait(lambda: "\n" in port_file.read_text(), 10)
            port = port_file.read_text().split("\n")[0]
            pages = json.load(urllib.request.urlopen(f"http://127.0.0.1:{port}/json/list"))
            [page] = [p for p in pages if p["type"] == "page"]
            with connect(page["webSocketDebuggerUrl"], max_size=2**26) as connection:
                yield Browser(connection)
        finally:
            process.terminate()
            process.wait(20)


def _wait(true: Callable[[], bool], timeout_s: float) -> None:
    end = time.monotonic() + timeout_s
    while not true():
        if time.monotonic() > end:
            raise AssertionError(f"not within {timeout_s} s")
        time.sleep(0.1)


def _plain(text: str) -> str:
    return " ".join(text.lower().split()).strip(" .,;:!?\"'")


def check(browser: Browser, url: str, tokens: int) -> list[dict[str, Any]]:
    """Asks the first example and checks what is shown. Returns it."""
    browser.do("Page.navigate", url=url)
    browser.until("document.querySelector('#model')?.options.length > 0", 60)
    browser.until("document.querySelectorAll('#methods input:checked').length > 1", 20)
    browser.see(f"document.querySelector('#tokens').value = {tokens}")
    browser.see("document.querySelector('#ask').click()")
    browser.until("document.querySelector('#status').textContent === 'done'", 600)
    cards: list[dict[str, Any]] = browser.see(SEEN)
    passages = browser.see("document.querySelector('#passages').value.split(/\\n\\s*\\n/).length")
    assert len(cards) > 1
    for card in cards:
        assert len(card["answers"]) == passages, card
        first = _plain(card["answers"][0]["text"])
        for answer in card["answers"]:
            assert (answer["flip"] == "flip") == (_plain(answer["text"]) != first), card
        flips = sum(answer["flip"] == "flip" for answer in card["answers"])
        assert card["sum"].startswith(f"{flips} flip"), card
    assert browser.errors == [], browser.errors
    return cards


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="smollm2")
    parser.add_argument("--screenshot", type=Path, help="a PNG; beside it -dark and -phone")
    parser.add_argument("--tokens", type=int, default=20, help="of an answer")
    options = parser.parse_args()
    with serving(options.model) as service, chromium() as browser:
        service.wait_until_ready()
        cards = check(browser, service.url, options.tokens)
        for card in cards:
            print(f"{card['methods']:24} {card['sum']}")
        looks = {"": (1200, False, False), "-dark": (1200, True, False), "-phone": (390, False, True)}
        for name, (width, dark, phone) in looks.items():
            picture = browser.look(width, dark=dark, phone=phone)
            assert browser.see("document.documentElement.scrollWidth <= innerWidth"), f"wider than {width} pixels"
            if options.screenshot:
                path = options.screenshot.with_stem(options.screenshot.stem + name)
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(picture)
        assert browser.errors == [], browser.errors
    print("no console error; fits 390 pixels; light and dark")


if __name__ == "__main__":
    main()
