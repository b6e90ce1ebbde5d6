"""Triton model repositories on disk, and executors that remember what became of them."""

from __future__ import annotations

import queue
from collections.abc import Callable, Iterable
from pathlib import Path

from kedge.core.errors import LoadFailed, ServeError
from kedge.core.values import VersionManifest

CONFIG = """
platform: "pytorch_libtorch"
max_batch_size: 8
input { name: "x" data_type: TYPE_FP32 dims: [ 4 ] }
output { name: "y" data_type: TYPE_FP32 dims: [ 2 ] }
dynamic_batching {}
"""


def write_model(
    root: Path, name: str, config: str = CONFIG, versions: Iterable[int | str] = (1,)
) -> Path:
    """A model directory whose model files only say their version; the directory."""
    directory = root / name
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "config.pbtxt").write_text(config)
    for version in versions:
        write_model_file(directory, version, f"version {version}")
    return directory


def write_model_file(directory: Path, version: int | str, content: str) -> None:
    (directory / str(version)).mkdir(exist_ok=True)
    (directory / str(version) / "model.pt").write_text(content)


class MemoryExecutor:
    """An executor only by its life: what it was loaded from, and whether it is closed."""

    def __init__(self, manifest: VersionManifest) -> None:
        self.content = manifest.path.read_text()
        if "broken" in self.content:
            raise LoadFailed(f"{manifest.path}: {self.content}")
        if "bug" in self.content:
            raise RuntimeError(self.content)
        self.is_closed = False

    def close(self) -> None:
        assert not self.is_closed
        self.is_closed = True


class NoUrls:
    """`ModelFiles` of models that lie where their manifests say."""

    def fetch(self, manifest: VersionManifest) -> VersionManifest:
        assert not manifest.url
        return manifest

    def release(self, manifest: VersionManifest) -> None: ...


def outcome(call: Callable[[Callable[[ServeError | None], None]], None]) -> ServeError | None:
    """What `call` reports to the `on_done` that it is given, from whatever thread."""
    done: queue.Queue[ServeError | None] = queue.Queue()
    call(done.put)
    return done.get(timeout=10)
