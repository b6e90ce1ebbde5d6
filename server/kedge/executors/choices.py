"""What was chosen for a model on this machine, kept: `STATE/compiled/KEY/choice.json` and package.

One process decides, others that want the same wait for it. A store that cannot be read is decided
anew. The folder is the user's own: what lies in it is run, so nobody else may write there.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import platform
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import torch

from kedge.core.errors import LoadFailed
from kedge.core.settings import Compile
from kedge.core.values import VersionManifest

COMPILED = "compiled"
CHOICE = "choice.json"
PACKAGE = "model.pt2"
CHOICE_BYTES_MAX = 1024 * 1024
# Longer than one compilation may take (600 s), so that who waits gets its result.
WAIT_S_MAX = 660.0
WAIT_STEP_S = 0.05
CHUNK_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Choice:
    """chosen: a value of `Compile`. times_us: per way, the medians of one row and a full batch.
    refused: why a way was not taken. package_rows: the least and the most rows of the compiled
    package, None if there is none; package_sha256: its hash.
    """

    chosen: str
    times_us: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    refused: Mapping[str, str] = field(default_factory=dict)
    package_rows: tuple[int, int] | None = None
    package_sha256: str = ""


def choose_once(
    manifest: VersionManifest, state_dir: Path, decide: Callable[[Path], Choice]
) -> tuple[Path, Choice]:
    """The stored choice for `manifest` and its folder, or that of `decide(folder)`, then stored.

    decide: may leave a package in the folder that it is given. Raises LoadFailed if another process
    is at it for longer than `WAIT_S_MAX`, or the folder cannot be written.
    """
    key = choice_key(manifest)
    root = state_dir / COMPILED
    folder = root / key
    try:
        root.mkdir(parents=True, exist_ok=True, mode=0o700)
        with _locked(root / f"{key}.lock"):
            stored = _read(folder)
            if stored is not None:
                return folder, stored
            with tempfile.TemporaryDirectory(dir=root, prefix=f"{key[:16]}.") as new:
                choice = _write(Path(new), decide(Path(new)), manifest)
                shutil.rmtree(folder, ignore_errors=True)
                folder.mkdir(mode=0o700)
                for name in (PACKAGE, CHOICE):  # the choice last: it says that all is there
                    if (Path(new) / name).exists():
                        (Path(new) / name).replace(folder / name)
            return folder, choice
    except OSError as error:
        raise LoadFailed(f"{root}: cannot keep what is compiled: {error}") from None


def choice_key(manifest: VersionManifest) -> str:
    """The hash of all that a choice depends on: content, interface, configuration, machine."""
    parts = [
        _content_sha256(manifest.path),
        repr(manifest.schema),
        manifest.execution.compile.value,
        json.dumps(fingerprint(), sort_keys=True),
    ]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def fingerprint(device: str = "cpu") -> dict[str, str]:
    """The machine, as far as it decides what is fastest."""
    return {
        "cpu": _cpu_model(),
        "cores": str(len(os.sched_getaffinity(0))),
        "threads": str(torch.get_num_threads()),
        "torch": torch.__version__,
        "device": device,
    }


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    wanted = ("model name", "flags")
    found = {line.partition(":")[0].strip(): line.partition(":")[2].strip() for line in lines[:60]}
    return " ".join(found.get(name, "") for name in wanted)


def _content_sha256(path: Path) -> str:
    """Of the model file; of a Python model, of everything in its folder."""
    if path.suffix != ".py" and not path.is_dir():
        return sha256_of(path)
    folder = path if path.is_dir() else path.parent
    files = sorted(
        file for file in folder.rglob("*") if file.is_file() and "__pycache__" not in file.parts
    )
    digests = [f"{file.relative_to(folder)} {sha256_of(file)}" for file in files]
    return hashlib.sha256("\n".join(digests).encode()).hexdigest()


def sha256_of(path: Path) -> str:
    """The hash of a file, in hexadecimal digits."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def _read(folder: Path) -> Choice | None:
    """The stored choice; None if there is none, or not one that can be trusted."""
    try:
        with (folder / CHOICE).open("rb") as file:
            stored = json.loads(file.read(CHOICE_BYTES_MAX))
        choice = Choice(**stored["choice"])
        rows = choice.package_rows
        if rows is not None:
            least, most = map(int, rows)
            choice = replace(choice, package_rows=(least, most))
        if choice.chosen not in {way.value for way in Compile} - {Compile.AUTO.value}:
            return None
        if choice.package_sha256 and sha256_of(folder / PACKAGE) != choice.package_sha256:
            return None
        if choice.chosen == Compile.AOTINDUCTOR.value and not (choice.package_sha256 and rows):
            return None
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None
    return choice


def _write(folder: Path, choice: Choice, manifest: VersionManifest) -> Choice:
    package = folder / PACKAGE
    if choice.chosen != Compile.AOTINDUCTOR.value:
        package.unlink(missing_ok=True)
    digest = sha256_of(package) if package.exists() else ""
    choice = replace(choice, package_sha256=digest)
    document = {"choice": asdict(choice), "model": str(manifest.ref), "machine": fingerprint()}
    (folder / CHOICE).write_text(json.dumps(document, indent=2))
    return choice


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold the lock of `path`, which the system lets go of when a process ends."""
    end_s = time.monotonic() + WAIT_S_MAX
    with path.open("w") as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > end_s:
                    raise LoadFailed(
                        f"{path}: another process is compiling for longer than {WAIT_S_MAX:.0f} s"
                    ) from None
                time.sleep(WAIT_STEP_S)
        yield
