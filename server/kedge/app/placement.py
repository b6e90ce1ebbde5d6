"""Whether a version may run inline, and how long its batches took when a worker measured them.

What was measured is kept per model file and hardware, so that the choice is made once and replicas
do not differ.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import platform
import tempfile
from importlib import metadata
from pathlib import Path
from typing import Any

from kedge.core.settings import Compile
from kedge.core.values import ModelFormat, VersionManifest

log = logging.getLogger("kedge.app")
FILE_NAME = "placement.json"
_CHUNK_BYTES = 1 << 20


def inline_refusal(manifest: VersionManifest) -> str:
    """Why a version cannot run in the gateway process; "" if it can."""
    execution = manifest.execution
    if manifest.format is not ModelFormat.TORCHSCRIPT:
        return f"{manifest.format.value} may hold the GIL, only TorchScript runs inline"
    if execution.compile is Compile.AOTINDUCTOR:
        return "AOTInductor holds the GIL for its whole call, only TorchScript runs inline"
    if execution.devices != ("cpu",):
        return f"it runs one instance on the CPU, not {', '.join(execution.devices)}"
    return ""


class PlacementStore:
    """`placement.json` of the state directory. A file that cannot be read is measured anew."""

    def __init__(self, state_dir: Path) -> None:
        self._path = state_dir / FILE_NAME

    def find(self, manifest: VersionManifest) -> float | None:
        """The time of a full batch in us, None if it was never measured on this machine."""
        try:
            return float(self._read()[_key(manifest)]["batch_us"])
        except (KeyError, TypeError, ValueError, OSError):
            return None

    def keep(self, manifest: VersionManifest, batch_us: float) -> None:
        """Remember a measurement; a directory that cannot be written is said once, not fatal."""
        try:
            values = self._read()
            values[_key(manifest)] = {"model": str(manifest.ref), "batch_us": round(batch_us, 1)}
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=self._path.parent) as folder:
                path = Path(folder) / FILE_NAME
                path.write_text(json.dumps(values, indent=1))
                os.replace(path, self._path)
        except OSError as error:
            log.warning("placement.not_kept %s: %s", self._path, error)

    def _read(self) -> dict[str, dict[str, Any]]:
        try:
            values = json.loads(self._path.read_text())
        except (FileNotFoundError, ValueError):
            return {}
        return values if isinstance(values, dict) else {}


def _key(manifest: VersionManifest) -> str:
    """The model's content, how it is run, and the machine. Raises OSError."""
    digest = hashlib.sha256()
    with manifest.path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
    for part in (manifest.schema, manifest.execution, _hardware(), metadata.version("torch")):
        digest.update(repr(part).encode())
    return digest.hexdigest()


def _hardware() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    names = {line.partition(":")[2].strip() for line in lines if line.startswith("model name")}
    return f"{platform.machine()} {sorted(names)} {os.cpu_count()}"
