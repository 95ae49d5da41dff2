"""inspect_ai's logs as containers of samples: `.eval` (a zip archive of JSON files) and `.json` (one JSON object).

The newest releases pack the members of an archive with Zstandard, which `zipfile` can't read before Python 3.14; that
takes the package zstandard. Archives are written with plain deflate, which every release reads.
"""

from __future__ import annotations

import io
import json
import struct
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from fairpos.errors import InvalidRequest
from fairpos.extras import missing_extra
from fairpos.files.records import Json, Record, objects_of
from fairpos.files.text import json_text, read_text, write_text

_ZSTANDARD = 93  # the archive format's number for it
_SUMMARIES = "summaries.json"
_HEADER = "header.json"

Change = Callable[[Record], Record]


@dataclass(frozen=True, slots=True)
class EvalLog:
    """A log.

    Attributes:
        header: All but the samples.
        samples: In the log's order.
        members: The other files of an archive by name.
        names: The archive's file of each sample; empty for a `.json` log.
    """

    header: Record
    samples: list[Record]
    members: dict[str, bytes]
    names: list[str]

    def changed(self, sample: Change, header: Change) -> EvalLog:
        """The log with other samples (in its summaries as well) and another header."""
        members = dict(self.members)
        if _SUMMARIES in members:
            summaries = json.loads(members[_SUMMARIES])
            members[_SUMMARIES] = json_text([sample(summary) for summary in summaries]).encode()
        return EvalLog(header(self.header), [sample(each) for each in self.samples], members, self.names)


def is_eval_log(path: Path) -> bool:
    """Whether a file is a log: an archive, or a JSON object with `eval` and `samples`."""
    if path.suffix == ".eval":
        return True
    return path.suffix == ".json" and read_text(path).lstrip().startswith("{") and _is_log(path)


def read_eval_log(path: Path) -> EvalLog:
    """Reads a log whole.

    Raises:
        InvalidRequest: it isn't one, or is damaged.
        MissingDependency: it is packed with Zstandard, and the package zstandard isn't installed.
    """
    if path.suffix != ".eval":
        log = json.loads(read_text(path))
        samples = objects_of(log.get("samples") or [], f"the samples of {path}")
        return EvalLog({key: log[key] for key in log if key != "samples"}, samples, {}, [])
    try:
        with zipfile.ZipFile(path) as archive:
            found = {info.filename: _member_of(archive, info) for info in archive.infolist() if not info.is_dir()}
        names = [name for name in found if name.startswith("samples/") and name.endswith(".json")]
        header = json.loads(found[_HEADER]) if _HEADER in found else {}
        packed: list[Json] = [json.loads(found[name]) for name in names]
    except (OSError, zipfile.BadZipFile, zlib.error, ValueError, struct.error) as error:
        raise InvalidRequest(f"can't read {path} as a log of inspect_ai: {error}") from None
    others = {name: data for name, data in found.items() if name not in names and name != _HEADER}
    [told] = objects_of([header], f"the header of {path}")
    return EvalLog(told, objects_of(packed, f"the samples of {path}"), others, names)


def write_eval_log(path: Path, log: EvalLog) -> None:
    """Writes a log: an archive where the name ends in `.eval`, else one JSON object.

    Raises:
        InvalidRequest: it can't be written.
    """
    if path.suffix != ".eval":
        write_text(path, json_text({**log.header, "samples": log.samples}, indent=2) + "\n")
        return
    out = io.BytesIO()
    names = log.names or [f"samples/{sample['id']}_epoch_{sample.get('epoch', 1)}.json" for sample in log.samples]
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, sample in zip(names, log.samples, strict=True):
            archive.writestr(name, json_text(sample, indent=2))
        for name, data in log.members.items():
            archive.writestr(name, data)
        archive.writestr(_HEADER, json_text(log.header, indent=2))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(out.getvalue())
    except OSError as error:
        raise InvalidRequest(f"can't write {path}: {error}") from None


def _is_log(path: Path) -> bool:
    try:
        found = json.loads(read_text(path))
    except (ValueError, RecursionError):
        return False
    return isinstance(found, dict) and "eval" in found and "samples" in found


def _member_of(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> bytes:
    if info.compress_type != _ZSTANDARD:
        return archive.read(info)
    try:
        import zstandard
    except ImportError as error:
        raise missing_extra(f"{archive.filename} is packed with Zstandard", "inspect", error) from None
    file = archive.fp
    assert file is not None
    file.seek(info.header_offset + 26)  # in the member's own header: the lengths of its name and of its extra field
    name, extra = struct.unpack("<HH", file.read(4))
    file.seek(name + extra, io.SEEK_CUR)
    packed = io.BytesIO(file.read(info.compress_size))
    try:
        with zstandard.ZstdDecompressor().stream_reader(packed, read_across_frames=True) as reader:
            return bytes(reader.read())
    except zstandard.ZstdError as error:
        raise zipfile.BadZipFile(f"{info.filename}: {error}") from None
