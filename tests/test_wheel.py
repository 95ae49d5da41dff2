"""The wheel as a stranger gets it: built from the sdist, that from what the image copies; outside of the repository.

Packages of others come from this environment, fairpos from the wheel alone, so that a file that it lacks shows.
`make wheel-test` does the same in an environment made from nothing, with the README's commands too.
"""

import os
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from dataclasses import dataclass
from email import message_from_bytes
from pathlib import Path

import pytest

import fairpos

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
BUILD = "from setuptools import build_meta; import sys; getattr(build_meta, sys.argv[1])(sys.argv[2])"
pytestmark = pytest.mark.xdist_group("wheel")


@dataclass(frozen=True)
class Built:
    """What there is of one version, and a Python that has fairpos from its wheel."""

    sdist: Path
    wheel: Path
    python: Path
    folder: Path


def run(*command, cwd):
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def build(hook, source, out):
    run(sys.executable, "-c", BUILD, hook, str(out), cwd=source)
    (made,) = out.iterdir()
    return made


def copied_by_the_image():
    """What the Dockerfile says is needed for a build."""
    lines = re.findall(r"^COPY (?!--from)(.*)$", (ROOT / "Dockerfile").read_text(encoding="utf-8"), re.M)
    return [name for line in lines for name in line.split()[:-1]]


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    source, unpacked = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("unpacked")
    for name in copied_by_the_image():
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, source / name)
    sdist = build("build_sdist", source, tmp_path_factory.mktemp("sdist"))
    with tarfile.open(sdist) as packed:
        packed.extractall(unpacked, filter="data")
    (inner,) = unpacked.iterdir()
    wheel = build("build_wheel", inner, tmp_path_factory.mktemp("wheel"))

    environment, folder = tmp_path_factory.mktemp("environment"), tmp_path_factory.mktemp("elsewhere")
    run(sys.executable, "-m", "venv", "--without-pip", str(environment), cwd=folder)
    (packages,) = environment.glob("lib/*/site-packages")
    with zipfile.ZipFile(wheel) as packed:
        packed.extractall(packages)
    beside = [path for path in sys.path if path.endswith("site-packages")]
    (packages / "packages_of_others.pth").write_text("\n".join(beside), encoding="utf-8")
    return Built(sdist, wheel, environment / "bin" / "python", folder)


def test_the_wheel_has_every_file_of_the_packages(built):
    kept = {
        f"{package}/{path.relative_to(ROOT / folder).as_posix()}"
        for folder, package in (("fairpos", "fairpos"), ("service", "fairpos_service"))
        for path in (ROOT / folder).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    names = {name for name in zipfile.ZipFile(built.wheel).namelist() if ".dist-info/" not in name}
    assert names == kept


def test_its_metadata(built):
    packed = zipfile.ZipFile(built.wheel)
    (name,) = [name for name in packed.namelist() if name.endswith(".dist-info/METADATA")]
    fields = message_from_bytes(packed.read(name))
    assert fields["Version"] == PROJECT["version"] == fairpos.__version__
    assert fields["Description-Content-Type"] == "text/markdown"
    assert fields["Author"]
    assert {line.split(",")[0] for line in fields.get_all("Project-URL")} >= {
        "Repository",
        "Documentation",
        "Changelog",
    }
    text = fields.get_payload()
    links = re.findall(r"\]\(([^)\s]+)\)", text)
    assert len(links) == len(re.findall(r"\]\(([^)\s]+)\)", README))
    assert [link for link in links if not link.startswith(("https://", "http://", "#"))] == []
    assert f"/raw/v{PROJECT['version']}/docs/position.svg)" in text


def test_the_readmes_python_runs_from_the_wheel(built):
    blocks = re.findall(r"```python\n(.*?)```", README, re.S)
    assert len(blocks) >= 3
    said = "import fairpos, fairpos_service.app; print(fairpos.__file__)"
    script = built.folder / "readme.py"
    script.write_text("\n".join([*blocks, said]), encoding="utf-8")
    lines = run(str(built.python), "-W", "error::SyntaxWarning", str(script), cwd=built.folder).splitlines()
    assert all(id in lines[0] for id in ("loom", "engine", "program"))
    assert lines[-1].startswith(str(built.python.parents[1]))


def test_its_commands_are_there(built):
    said = run(str(built.python), "-m", "fairpos", "methods", "--json", cwd=built.folder)
    assert '"placements"' in said
