"""What load calls said instead of the targets, and the files that they brought."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from kedge.core.ports import UploadedFiles
from kedge.core.values import Runtime, ServedVersion


class Override(NamedTuple):
    """config: a ModelConfig as JSON; folder: of the files that came with it, None if none did and
    the target's own are served.
    """

    config: str
    folder: Path | None


class Overrides:
    """The override of each model, from the load that succeeded with it to the unload.

    Called from the loader thread, but for `close`, which is called when that has ended.
    """

    def __init__(self, uploads: UploadedFiles) -> None:
        self._uploads = uploads
        self._of_model: dict[str, Override] = {}
        self._folders: list[Path] = []

    def for_load(
        self, name: str, config: str | None, files: Mapping[str, bytes]
    ) -> Override | None:
        """What a load with these parameters goes by: itself or, without `config`, the last one."""
        if config is None:
            return self._of_model.get(name)
        folder = self._uploads.put(name, files) if files else None
        self._folders += [folder] if folder else []
        return Override(config, folder)

    def keep(self, name: str, override: Override | None) -> None:
        """The load succeeded."""
        if override is not None:
            self._of_model[name] = override

    def forget(self, name: str) -> None:
        self._of_model.pop(name, None)

    def remove_unused(self, served: Iterable[ServedVersion[Runtime]]) -> None:
        """Remove the files that nothing in `served` and no override needs any more."""
        in_use = {override.folder for override in self._of_model.values()}
        for version in served:
            in_use.update(version.manifest.path.parents)
        for folder in [folder for folder in self._folders if folder not in in_use]:
            self._folders.remove(folder)
            self._uploads.remove(folder)

    def close(self) -> None:
        """Remove all files."""
        self._of_model.clear()
        self.remove_unused(())
