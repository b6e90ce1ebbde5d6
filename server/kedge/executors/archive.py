"""Model files seen from outside: which format a file is, and whether its zip archive is sound.

Nothing here loads a model or imports torch. An archive is refused where two readers could see two
contents in it, because what is inspected here is read by torch's own reader afterwards.
"""

from __future__ import annotations

import re
import zipfile
from collections.abc import Iterator
from pathlib import Path

from kedge.core.errors import LoadFailed
from kedge.core.values import ModelFormat, VersionManifest

MODEL_PY = "model.py"
# A model of 100,000 tensors is larger than any that is known; reading the directory takes 1 s.
ENTRIES_MAX = 200_000
# Only code and debug information are ever compressed, 10 to 1 at most; weights never are.
INFLATED_BYTES_MAX = 256 * 1024 * 1024
# One JSON or code entry; the graph of a large model has 50 MB.
TEXT_BYTES_MAX = 256 * 1024 * 1024
END_BYTES = 22
END_MAGIC = b"PK\x05\x06"
LOCAL_HEADER_BYTES = 30
# TorchScript operators that read or write files. Everything else only computes.
_FILE_OPERATORS = re.compile(rb"\.(?:\s|\\|#[^\n]*)*(save|from_file|load_tensor)\b")


def detect(path: Path) -> ModelFormat:
    """What the file or folder holds, by its content. Raises LoadFailed if it is no known format.

    A folder and a file that is Python by its name are a Python model.
    """
    if path.is_dir() or path.suffix == ".py":
        return ModelFormat.PYTHON
    with open_archive(path) as archive:
        names = {_below_root(name) for name in archive.namelist()}
    if any(name.startswith("data/aotinductor/") for name in names):
        return ModelFormat.AOTINDUCTOR
    if any(re.fullmatch(r"models/[^/]+\.json", name) for name in names):
        return ModelFormat.EXPORTED
    if "constants.pkl" in names:
        return ModelFormat.TORCHSCRIPT
    if "serialized_exported_program.json" in names or "data.pkl" in names:
        kind = "data.pkl" if "data.pkl" in names else "serialized_exported_program.json"
        raise LoadFailed(
            f"{path}: entry '{kind}': a pickled file, which is never loaded; save the model with "
            "torch.export.save, or its weights with safetensors beside a model.py"
        )
    raise LoadFailed(
        f"{path}: is neither TorchScript nor torch.export nor an AOTInductor package: none of "
        "code/, models/*.json and data/aotinductor/ is in it"
    )


def resolve_format(manifest: VersionManifest) -> ModelFormat:
    """The format that the file of `manifest` has. Raises LoadFailed if another was declared."""
    found = detect(manifest.path)
    if manifest.is_format_declared and found is not manifest.format:
        raise LoadFailed(
            f"{manifest.path}: declared as {manifest.format.value}, but it is {found.value}"
        )
    return found


def open_archive(path: Path) -> zipfile.ZipFile:
    """The archive, its directory checked; entries are read with `read_entry`.

    Refused with LoadFailed: what is no zip file, is cut off, has something behind its directory,
    entries that appear twice, lie over each other, lead out of a folder, are encrypted, or inflate
    beyond `INFLATED_BYTES_MAX`.
    """
    try:
        with path.open("rb") as file:
            file_bytes = file.seek(0, 2)
            file.seek(max(file_bytes - END_BYTES, 0))
            end = file.read(END_BYTES)
    except OSError as error:
        raise LoadFailed(f"{path}: cannot be read: {error.strerror}") from None
    if not end.startswith(END_MAGIC) or end[-2:] != b"\0\0":
        raise LoadFailed(
            f"{path}: is no zip archive, or cut off: models are archives of torch.jit.save, "
            "torch.export.save or aoti_compile_and_package"
        )
    try:
        archive = zipfile.ZipFile(path)
    except Exception as error:
        raise LoadFailed(f"{path}: is no sound zip archive: {error}") from None
    for problem in _problems(archive, file_bytes):
        archive.close()
        raise LoadFailed(f"{path}: {problem}")
    return archive


def _problems(archive: zipfile.ZipFile, file_bytes: int) -> Iterator[str]:
    entries = archive.infolist()
    if not 0 < len(entries) <= ENTRIES_MAX:
        yield f"has {len(entries)} entries, expected 1 to {ENTRIES_MAX}"
    seen: set[str] = set()
    inflated_bytes = 0
    position = 0
    for entry in sorted(entries, key=lambda entry: entry.header_offset):
        # `orig_filename` is what stands in the file: zipfile cuts at NUL, torch may not.
        name = entry.orig_filename
        parts = name.split("/")
        if not name.isprintable() or "\\" in name or parts[0] in ("", "..") or ".." in parts:
            yield f"entry {name!r}: expected a relative path without '..'"
        if name in seen:
            yield f"entry '{name}': is there twice"
        seen.add(name)
        if entry.flag_bits & 1:
            yield f"entry '{name}': is encrypted"
        if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            yield f"entry '{name}': unknown compression {entry.compress_type}"
        if entry.compress_type == zipfile.ZIP_STORED and entry.file_size != entry.compress_size:
            yield f"entry '{name}': is stored with two different sizes"
        if entry.compress_type == zipfile.ZIP_DEFLATED:
            inflated_bytes += entry.file_size
        if entry.header_offset < position:
            yield f"entry '{name}': lies over another one"
        header_bytes = LOCAL_HEADER_BYTES + len(name.encode())
        position = entry.header_offset + header_bytes + entry.compress_size
        if position > file_bytes:
            yield f"entry '{name}': is cut off"
    if inflated_bytes > INFLATED_BYTES_MAX:
        yield f"inflates to {inflated_bytes} bytes, at most {INFLATED_BYTES_MAX} are read"


def read_entry(archive: zipfile.ZipFile, name: str, bytes_max: int = TEXT_BYTES_MAX) -> bytes:
    """An entry's whole content. Raises LoadFailed if it is larger, damaged, or longer than said."""
    where = f"{archive.filename}: entry '{name}'"
    try:
        size = archive.getinfo(name).file_size
        if size > bytes_max:
            raise LoadFailed(f"{where}: has {size} bytes, at most {bytes_max} are read")
        with archive.open(name) as file:
            content = file.read(size + 1)
    except LoadFailed:
        raise
    except Exception as error:
        raise LoadFailed(f"{where}: {error}") from None
    if len(content) != size:
        raise LoadFailed(f"{where}: has {len(content)} bytes, its directory says {size}")
    return content


def check_torchscript(path: Path) -> None:
    """Raise LoadFailed if the archive's code calls an operator that reads or writes files.

    `torch.jit.load` cannot reach Python, but a `__setstate__` in the archive runs while it loads,
    and TorchScript has operators for files.
    """
    with open_archive(path) as archive:
        for name in archive.namelist():
            if not name.endswith(".py"):
                continue
            found = _FILE_OPERATORS.search(read_entry(archive, name))
            if found:
                raise LoadFailed(
                    f"{path}: entry '{name}': calls '{found[1].decode()}', which reads or writes "
                    "files; a model may only compute"
                )


def _below_root(name: str) -> str:
    """torch's writer puts everything into one folder, named after the file."""
    return name.partition("/")[2]
