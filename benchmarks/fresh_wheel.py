"""All that the README shows, from the wheel, in an environment made from nothing and outside of the repository.

Run it with `make wheel-test`: sdist and wheel are built and pass `twine check --strict`; then come a stranger's three
commands (an environment, the wheel with its extras, a first answer) with their seconds, and after them the README's
Python and commands. Then each example of a framework: LangChain, LlamaIndex and Haystack in the same environment,
inspect_ai, lm-evaluation-harness and MCP in one of their own, since they want other versions of two packages. It takes
minutes and some gigabytes: torch is installed twice, by constraints.txt.
"""

import argparse
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
import venv
from pathlib import Path

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
# Two packages of which inspect_ai and lm-evaluation-harness want other versions than the rest does.
OTHER_VERSIONS = ("fsspec==", "python-dateutil==")
EVALUATION = {
    "inspect_ai": ["-m", "inspect_ai", "eval", "examples/evaluation/inspect_task.py", "--model", "fairpos/smollm2",
                   "--display", "plain"],
    "lm-evaluation-harness": ["-m", "fairpos.integrations.lm_eval", "--model", "fairpos", "--model_args",
                              "pretrained=smollm2,methods=permutation:views=3", "--tasks", "colours", "--include_path",
                              "examples/evaluation"],
    "MCP": ["examples/evaluation/ask_over_mcp.py", "smollm2"],
}  # fmt: skip
FIRST = ["rank", "examples/questions.jsonl", "--methods", "permutation:views=2", "-o", "first.jsonl"]


def readme_commands() -> list[list[str]]:
    """What the README types, but for what serves until it is stopped."""
    lines = [line for block in re.findall(r"```sh\n(.*?)```", README, re.S) for line in block.splitlines()]
    typed = [shlex.split(line, comments=True) for line in lines if line.startswith("fairpos ")]
    return [words[1:] for words in typed if words[1] not in ("serve", "mcp")]


def timed(what: str, *command: str | Path, cwd: Path) -> None:
    """Runs a command without the caller's PYTHONPATH; prints its seconds, and all it said where it failed."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    start = time.perf_counter()
    done = subprocess.run([str(part) for part in command], cwd=cwd, env=environment, capture_output=True, text=True)
    print(f"{time.perf_counter() - start:7.1f} s  {what}", flush=True)
    if done.returncode:
        sys.exit(f"{done.stdout}\n{done.stderr}\n{what} ended with {done.returncode}")


def built_wheel(folder: Path) -> Path:
    """sdist, and the wheel from it, with their descriptions checked as an index checks them."""
    tools = folder / "tools" / "bin"
    venv.create(tools.parent, with_pip=True)
    timed("tools: build, twine", tools / "pip", "install", "-q", "build", "twine", cwd=folder)
    timed("sdist and wheel", tools / "python", "-m", "build", "-o", folder / "dist", ROOT, cwd=folder)
    made = sorted((folder / "dist").iterdir())
    timed("twine check --strict", tools / "twine", "check", "--strict", *made, cwd=folder)
    return next(path for path in made if path.suffix == ".whl")


def run_evaluation_examples(wheel: Path, folder: Path) -> None:
    """Installs the wheel beside the evaluation tools, in an environment of its own, and runs their examples."""
    bin = folder / "evaluation" / "bin"
    timed("python3 -m venv evaluation", sys.executable, "-m", "venv", "evaluation", cwd=folder)
    pins = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    constraints = folder / "constraints.txt"
    constraints.write_text("\n".join(pin for pin in pins if not pin.startswith(OTHER_VERSIONS)), encoding="utf-8")
    wanted = f"{wheel}[local,remote,inspect-ai,lm-eval,mcp]"
    install = [bin / "pip", "install", "-q", "--constraint", constraints, wanted]
    timed("pip install fairpos[local,remote,inspect-ai,lm-eval,mcp]", *install, cwd=folder)
    for name, arguments in EVALUATION.items():
        timed(f"example of {name}", bin / "python", *arguments, cwd=folder)


def main() -> None:
    """Builds, installs, runs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--extras", default="all,langchain", help="of the wheel; the README's snippets need both")
    extras = parser.parse_args().extras
    with tempfile.TemporaryDirectory(prefix="fairpos-wheel-") as name:
        folder, elsewhere = Path(name), Path(name) / "elsewhere"
        wheel = built_wheel(folder)
        elsewhere.mkdir()
        shutil.copytree(ROOT / "examples", elsewhere / "examples")
        start, bin = time.perf_counter(), elsewhere / "env" / "bin"
        timed("1. python3 -m venv env", sys.executable, "-m", "venv", "env", cwd=elsewhere)
        install = [bin / "pip", "install", "-q", "--constraint", ROOT / "constraints.txt", f"{wheel}[{extras}]"]
        timed(f"2. pip install fairpos[{extras}]", *install, cwd=elsewhere)
        timed(f"3. fairpos {shlex.join(FIRST)}", bin / "fairpos", *FIRST, cwd=elsewhere)
        print(f"{time.perf_counter() - start:7.1f} s  until the first answer", flush=True)
        script = elsewhere / "readme.py"
        script.write_text("\n".join(re.findall(r"```python\n(.*?)```", README, re.S)), encoding="utf-8")
        timed("the README's Python", bin / "python", script, cwd=elsewhere)
        for words in readme_commands():
            timed(f"fairpos {shlex.join(words)}", bin / "fairpos", *words, cwd=elsewhere)
        install[-1] = f"{wheel}[{extras},llama-index,haystack]"
        timed("pip install fairpos[llama-index,haystack]", *install, cwd=elsewhere)
        for example in sorted((ROOT / "examples" / "frameworks").glob("*.py")):
            timed(example.name, bin / "python", Path("examples", "frameworks", example.name), cwd=elsewhere)
        run_evaluation_examples(wheel, elsewhere)
    print("all that the README shows and each example of a framework runs from the wheel")


if __name__ == "__main__":
    main()
