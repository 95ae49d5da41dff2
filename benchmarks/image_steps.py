"""The image's steps without an engine for images: each stage of the Dockerfile in a Debian root made from nothing.

    python -m benchmarks.image_steps --mirror http://deb.debian.org/debian [--arg NAME=VALUE] [--bind FILE]

Needs root, debootstrap, and some gigabytes for a while. A stage starts as Debian bookworm with python3, 3.11 as
in the image that the Dockerfile names. What `docker build` does is done here: ARG, WORKDIR, COPY, RUN, USER, ENV. Then
the entry point runs as the image's user with nothing of this machine's environment, until the image's own HEALTHCHECK
says that it is well; it arranges by BM25 and by embeddings, reranks with the embedded model, and ends on SIGTERM. A
missing extra, a path that the user can't write or a module that the image forgot shows here.
"""

from __future__ import annotations

import argparse
import json
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

PROJECT = Path(__file__).parents[1]
WAIT = 180  # seconds until the service must be well
DOCUMENTS = ["Bananas are yellow.", "The Eiffel Tower stands in Paris.", "Rust never sleeps."]
# What the image has extras for: BM25, embeddings, a local model.
REQUESTS: list[tuple[str, dict[str, object]]] = [
    ("/v1/arrange", {"fairpos": {"methods": "descending:relevance=bm25"}}),
    ("/v1/arrange", {"fairpos": {"methods": "descending:relevance=embedding"}}),
    ("/v1/rerank", {"model": "smollm2"}),
]


@dataclass
class Stage:
    """What one FROM of the Dockerfile has built so far.

    Attributes:
        root: Its root filesystem.
        folder: WORKDIR.
        user: Number of the user; 0 is root.
        environment: What ENV and ARG set.
        health: The command of HEALTHCHECK.
        entry: The words of ENTRYPOINT.
    """

    root: Path
    folder: str = "/"
    user: str = "0"
    environment: dict[str, str] = field(
        default_factory=lambda: {
            "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "HOME": "/root",
        }
    )
    health: str = ""
    entry: list[str] = field(default_factory=list)

    def command(self, *words: str) -> list[str]:
        """A command line that runs words in this root, as its user, with its environment alone."""
        settings = [f"{name}={value}" for name, value in self.environment.items()]
        inside = ["env", "-i", *settings, "sh", "-c", f'cd {shlex.quote(self.folder)} && exec "$@"', "sh", *words]
        return ["chroot", f"--userspec={self.user}:{self.user}", str(self.root), *inside]


def instructions(text: str) -> list[tuple[str, str]]:
    """The Dockerfile's instructions with their arguments, lines joined."""
    lines = re.sub(r"\\\n", " ", re.sub(r"^#.*\n", "", text, flags=re.M)).splitlines()
    return [(word, rest.strip()) for word, _, rest in (line.strip().partition(" ") for line in lines) if word]


def expanded(value: str, environment: dict[str, str]) -> str:
    """A value of ENV with the variables that stand in it."""
    return re.sub(r"\$\{?(\w+)\}?", lambda found: environment.get(found[1], ""), value)


def copy_files(stage: Stage, stages: dict[str, Stage], words: list[str]) -> None:
    """COPY: files of the project or of another stage."""
    source = PROJECT
    if words[0].startswith("--from="):
        source = stages[words.pop(0).removeprefix("--from=")].root
    *names, target = words
    into = stage.root / Path(stage.folder, target).relative_to("/")
    for name in names:
        path = source / name.lstrip("/")
        if path.is_dir():
            shutil.copytree(path, into, symlinks=True, dirs_exist_ok=True)
        else:
            into.mkdir(parents=True, exist_ok=True)
            shutil.copy2(path, into / path.name)


def build(text: str, base: Path, folder: Path, arguments: dict[str, str], bind: list[Path], stack: ExitStack) -> Stage:
    """All stages, one after the other; the last one."""
    stages: dict[str, Stage] = {}
    stage = Stage(base)
    for word, rest in instructions(text):
        if word == "FROM":
            stage = Stage(folder / f"stage-{len(stages)}")
            stages[rest.partition(" AS ")[2] or str(len(stages))] = stage
            subprocess.run(["cp", "-a", base, stage.root], check=True)
            for path in bind:
                bind_into(stage.root, path, stack)
        elif word == "ARG":
            stage.environment |= {name: value for name, value in arguments.items() if name == rest}
        elif word == "WORKDIR":
            stage.folder = rest
            (stage.root / rest.lstrip("/")).mkdir(parents=True, exist_ok=True)
        elif word == "COPY":
            copy_files(stage, stages, rest.split())
        elif word == "RUN":
            start = time.monotonic()
            subprocess.run(stage.command("sh", "-c", rest), check=True)
            print(f"{time.monotonic() - start:7.1f} s  RUN {rest[:90]}", flush=True)
        elif word == "USER":
            stage.user, stage.environment["HOME"] = rest, "/home/fairpos"
        elif word == "ENV":
            for name, _, value in (pair.partition("=") for pair in shlex.split(rest)):
                stage.environment[name] = expanded(value, stage.environment)
        elif word == "HEALTHCHECK":
            stage.health = rest.partition("CMD ")[2]
        elif word == "ENTRYPOINT":
            stage.entry = json.loads(rest)
        elif word not in ("VOLUME", "EXPOSE"):
            sys.exit(f"the Dockerfile has {word}, which this script can't do")
    return stage


def bind_into(root: Path, path: Path, stack: ExitStack) -> None:
    """Lends a file or folder of this machine to a root, at the same place."""
    target = root / path.relative_to("/")
    if path.is_dir():
        target.mkdir(parents=True, exist_ok=True)
    else:
        target.parent.mkdir(parents=True, exist_ok=True)
        target.touch()
    subprocess.run(["mount", "--bind", path, target], check=True)
    stack.callback(lambda: subprocess.run(["umount", target], check=True))


def answer(route: str, body: dict[str, object]) -> str:
    """The service's first document: that of the best result, or the one to show first."""
    whole = {"query": "Where is the Eiffel Tower?", "documents": DOCUMENTS, **body}
    headers = {"Content-Type": "application/json"}
    request = urllib.request.Request("http://127.0.0.1:8000" + route, json.dumps(whole).encode(), headers)
    with urllib.request.urlopen(request, timeout=WAIT) as reply:
        found = json.load(reply)
    return str(found["documents"][0] if route == "/v1/arrange" else DOCUMENTS[found["results"][0]["index"]])


def serve(stage: Stage, options: list[str]) -> None:
    """Runs the entry point until it is well and has answered; sys.exit with what was wrong."""
    start = time.monotonic()
    service = subprocess.Popen(stage.command(*stage.entry, *options))
    try:
        while subprocess.run(stage.command("sh", "-c", stage.health), capture_output=True).returncode:
            if service.poll() is not None or time.monotonic() - start > WAIT:
                sys.exit(f"not well after {time.monotonic() - start:.0f} s; the service's exit code: {service.poll()}")
            time.sleep(0.5)
        print(f"{time.monotonic() - start:7.1f} s  until HEALTHCHECK was well", flush=True)
        for route, body in REQUESTS:
            print(f"           {route} {json.dumps(body)}: {answer(route, body)}", flush=True)
    finally:
        service.terminate()
        code = service.wait(60)
    print(f"           SIGTERM: exit code {code}", flush=True)


def main() -> None:
    """Builds and runs the image's steps."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mirror", required=True, help="address of a Debian mirror")
    parser.add_argument(
        "--bind", type=Path, nargs="*", default=[], help="this machine's settings of pip, lent to the roots"
    )
    parser.add_argument("--options", default="", help="of `fairpos serve`")
    parser.add_argument("--arg", nargs="*", default=[], help="NAME=VALUE, as docker's --build-arg")
    options = parser.parse_args()
    arguments = dict(pair.split("=", 1) for pair in options.arg)
    with tempfile.TemporaryDirectory(prefix="fairpos-image-") as name, ExitStack() as stack:
        base = Path(name) / "base"
        packages = "python3,python3-venv,ca-certificates"
        command = ["debootstrap", "--variant=minbase", f"--include={packages}", "bookworm", base, options.mirror]
        start = time.monotonic()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        print(f"{time.monotonic() - start:7.1f} s  Debian bookworm", flush=True)
        text = (PROJECT / "Dockerfile").read_text(encoding="utf-8")
        last = build(text, base, Path(name), arguments, options.bind, stack)
        serve(last, shlex.split(options.options))


if __name__ == "__main__":
    main()
