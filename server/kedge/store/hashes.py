"""What a cache entry's key says about its content, and the list of a folder's files.

A file's key is its sha256 and its suffix, since some loaders go by that. A folder's key is the
sha256 of its SHA256SUMS, which has the hash of every file in it, and `.d`.
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path, PurePosixPath

from kedge.core.paths import is_confined
from kedge.core.urls import FOLDER_MODEL, SUMS_FILENAME, name_of
from kedge.store.transfer import TransferFailed

FOLDER_SUFFIX = ".d"
_SUFFIX = re.compile(r"\.[A-Za-z0-9]{1,8}")
# As sha256sum writes it; the star says that it read the file as binary.
_LINE = re.compile(r"([0-9a-f]{64}) [ *](?:\./)?(.+)")
# A thousand files with long names.
SUMS_BYTES_MAX = 1 << 20


def key_of_file(sha256: str, url: str) -> str:
    """The key of the file behind `url` with this hash."""
    suffix = PurePosixPath(name_of(url)).suffix
    return sha256 + (suffix if _SUFFIX.fullmatch(suffix) and suffix != FOLDER_SUFFIX else "")


def key_of_folder(sha256: str) -> str:
    """The key of the folder whose SHA256SUMS has this hash."""
    return sha256 + FOLDER_SUFFIX


def model_path(folder: Path, key: str) -> Path:
    """What is loaded of the entry in `folder`."""
    if key.endswith(FOLDER_SUFFIX):
        return folder / FOLDER_MODEL
    return folder / f"model{PurePosixPath(key).suffix}"


def is_intact(folder: Path, key: str) -> bool:
    """Whether every file that `key` promises is there and has its hash."""
    sha256 = key.partition(".")[0]
    try:
        if not key.endswith(FOLDER_SUFFIX):
            return sha256_of(model_path(folder, key)) == sha256
        sums = folder / SUMS_FILENAME
        return sha256_of(sums) == sha256 and all(
            sha256_of(folder / path) == wanted for path, wanted in parse_sums(sums, 1 << 30).items()
        )
    except (OSError, TransferFailed):
        return False


def sha256_of(path: Path) -> str:
    """A file's hash, 1 to 2 GB/s and without the GIL. Raises OSError; a link is no file."""
    if path.is_symlink():
        raise OSError(f"{path} is a link")
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def parse_sums(path: Path, files_max: int) -> dict[str, str]:
    """Relative paths and hashes in a SHA256SUMS. Raises TransferFailed for what is no list of at
    most `files_max` files inside the folder, model.py among them.
    """
    size = path.stat().st_size
    if size > SUMS_BYTES_MAX:
        raise TransferFailed(f"{SUMS_FILENAME} has {size} bytes, at most {SUMS_BYTES_MAX} are read")
    sums: dict[str, str] = {}
    text = path.read_text(encoding="utf-8", errors="replace")
    for number, line in enumerate(text.splitlines(), 1):
        match = _LINE.fullmatch(line)
        if not match:
            raise TransferFailed(
                f"{SUMS_FILENAME}:{number}: expected a hash, two blanks and a name, as "
                f"`sha256sum * > {SUMS_FILENAME}` writes them"
            )
        sha256, name = match.groups()
        if not is_confined(name) or name in (SUMS_FILENAME, *sums):
            raise TransferFailed(
                f"{SUMS_FILENAME}:{number}: expected a path inside the folder, each once, got "
                f"{name!r}"
            )
        sums[name] = sha256
    if len(sums) > files_max:
        raise TransferFailed(f"{SUMS_FILENAME} lists {len(sums)} files, at most {files_max} are")
    if FOLDER_MODEL not in sums:
        raise TransferFailed(f"{SUMS_FILENAME} does not list {FOLDER_MODEL}, which is loaded")
    return sums
