"""The service, as a process of its own, and a question put to it the way any OpenAI client would."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from tempfile import TemporaryFile
from typing import IO

from openai import OpenAI

from demo.data import Question

_PATIENCE_S = 180


@dataclass(frozen=True)
class Service:
    """A running `fairpos serve`.

    Attributes:
        url: Of its page; the API is below /v1.
        model: What it serves.
        process: It.
        said: Its log.
    """

    url: str
    model: str
    process: subprocess.Popen[bytes]
    said: IO[bytes]

    def wait_until_ready(self) -> None:
        """Returns when it takes requests.

        Raises:
            RuntimeError: it ended, or doesn't get ready.
        """
        end = time.monotonic() + _PATIENCE_S
        while time.monotonic() < end and self.process.poll() is None:
            with contextlib.suppress(OSError), urllib.request.urlopen(f"{self.url}health/ready", timeout=5):
                return
            time.sleep(0.2)
        self.said.seek(0)
        raise RuntimeError(f"the service didn't get ready: {self.said.read().decode()[-2000:]}")

    def answer(self, question: Question, order: list[int], methods: str, tokens: int) -> str:
        """The first line of the answer to a question with its passages in this order."""
        passages = [question.passages[i] for i in order]
        with OpenAI(base_url=f"{self.url}v1", api_key="none", timeout=_PATIENCE_S) as client:
            reply = client.chat.completions.create(
                model=self.model,
                messages=[{"role": "user", "content": f"Question: {question.text}\nAnswer with a few words."}],
                max_tokens=tokens,
                temperature=0,
                extra_body={
                    "documents": [{"id": p.id, "title": p.title, "text": p.text} for p in passages],
                    "fairpos": {"methods": methods},
                },
            )
        return (reply.choices[0].message.content or "").split("\n")[0]


@contextlib.contextmanager
def serving(model: str) -> Iterator[Service]:
    """Starts the service on a free port, and stops it."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with TemporaryFile() as said:
        command = [sys.executable, "-m", "fairpos", "serve", "--model", model, "--port", str(port)]
        process = subprocess.Popen(command, stderr=said)
        try:
            yield Service(f"http://127.0.0.1:{port}/", model, process, said)
        finally:
            process.terminate()
            process.wait(60)
