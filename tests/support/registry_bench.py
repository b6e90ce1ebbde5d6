"""A registry over a folder, and what it announced, for tests that change the folder."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

from kedge.core.errors import ServeError
from kedge.core.ports import Executor, ModelFiles
from kedge.core.sources import ModelSource
from kedge.core.values import Catalog, ServedVersion, VersionManifest
from kedge.models.registry import Registry
from kedge.models.repository import sources_of_repository
from kedge.store.uploads import Uploads
from support.repositories import MemoryExecutor, NoUrls, outcome

Rows = list[tuple[str, str, str]]


class Bench:
    """A registry over `root`, with every catalog that it announced."""

    def __init__(self, root: Path, files: ModelFiles | None = None) -> None:
        self.root = root
        self.sources: Callable[[], Sequence[ModelSource]] = lambda: sources_of_repository(root)
        self.catalogs: list[Catalog] = []
        self.before_load: Callable[[VersionManifest], None] = lambda manifest: None
        self.on_change: Callable[[Catalog], None] = lambda catalog: None
        self.uploads = Uploads(root.parent / "state", is_allowed=True)
        self.registry = Registry(
            self._sources, self._make_executor, self._changed, files or NoUrls(), self.uploads
        )

    def _sources(self) -> Sequence[ModelSource]:
        return self.sources()

    def _make_executor(self, manifest: VersionManifest) -> Executor:
        self.before_load(manifest)
        return MemoryExecutor(manifest)  # type: ignore[return-value]  # never submitted to

    def _changed(self, catalog: Catalog) -> None:
        self.on_change(catalog)
        self.catalogs.append(catalog)

    def start(self, *load_models: str, model_control: str = "explicit") -> None:
        # A poll by time never comes: tests poll by hand.
        self.registry.start(model_control, load_models, poll_s=3600.0)

    def load(self, name: str, **parameters: object) -> ServeError | None:
        return outcome(lambda on_done: self.registry.load(name, parameters, on_done))

    def unload(self, name: str) -> ServeError | None:
        return outcome(lambda on_done: self.registry.unload(name, on_done))

    def poll(self) -> ServeError | None:
        return outcome(self.registry.poll_once)

    def settle(self) -> None:
        """Wait until what follows the last answer is over too; the loader takes turns."""
        self.unload("nobody")

    @property
    def served(self) -> list[str]:
        return [str(served.ref) for served in self.registry.catalog.versions()]

    def version(self, name: str, version: int) -> ServedVersion:
        return self.registry.catalog.models[name][version]

    @property
    def index(self) -> Rows:
        return [
            (
                f"{entry.name}:{entry.version}",
                entry.state.value if entry.state else "",
                entry.reason,
            )
            for entry in self.registry.index()
        ]


def executor_of(served: ServedVersion) -> MemoryExecutor:
    assert isinstance(served.executor, MemoryExecutor)
    return served.executor


def touch(path: Path, content: str) -> None:
    """Replace a file's content and be sure that its time differs."""
    modified_ns = path.stat().st_mtime_ns
    path.write_text(content)
    os.utime(path, ns=(modified_ns + 1_000_000, modified_ns + 1_000_000))
