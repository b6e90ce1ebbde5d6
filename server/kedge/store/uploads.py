"""Files that load calls bring: a private folder for each call, removed when nobody serves from it.

A folder is locked by its process, so that what a killed server left behind is found and removed.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from kedge.core.errors import InvalidRequest, Unavailable
from kedge.core.paths import folder_among, is_confined
from kedge.core.settings import UPLOAD_FILES_MAX
from kedge.store.cache import Cache, Draft


class Uploads:
    """Implements `core.ports.UploadedFiles` in `state_dir`. is_allowed: `--allow-model-code`.

    Whatever folders are there without an owner are removed at once.
    """

    def __init__(self, state_dir: Path, is_allowed: bool) -> None:
        root = Path(os.path.abspath(state_dir)) / "uploads"
        # Nothing is ever kept, so there is nothing to count: the callers bound what is in use.
        self._folders = Cache(root, bytes_max=1, is_intact=lambda folder, key: False)
        self._is_allowed = is_allowed
        self._drafts: dict[Path, Draft] = {}
        if root.exists():
            self._folders.sweep()

    def put(self, name: str, files: Mapping[str, bytes]) -> Path:
        """See `UploadedFiles`."""
        self.check(name, files)
        draft = self._folders.draft()
        folder = draft.folder / name
        try:
            for path, content in files.items():
                target = folder / path
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(content)
        except OSError as error:
            draft.discard()
            raise Unavailable(f"the files cannot be kept: {error.strerror or error}") from None
        self._drafts[folder] = draft
        return folder

    def check(self, name: str, files: Mapping[str, bytes]) -> None:
        """See `UploadedFiles`."""
        if not self._is_allowed:
            raise InvalidRequest(
                f"load parameter 'file:{min(files)}': uploaded files can do anything, as code can; "
                "start the server with --allow-model-code, or put them into the model repository"
            )
        if not is_confined(name) or "/" in name:
            raise InvalidRequest(f"model name {name!r}: files need one that a folder can have")
        if len(files) > UPLOAD_FILES_MAX:
            raise InvalidRequest(
                f"expected at most {UPLOAD_FILES_MAX} files in one load call, got {len(files)}"
            )
        for path in files:
            if not is_confined(path):
                raise InvalidRequest(
                    f"load parameter 'file:{path}': expected a relative path like 1/model.pt, "
                    "without '..' and hidden names"
                )
        both = folder_among(files)
        if both is not None:
            raise InvalidRequest(f"load parameter 'file:{both}': is a file and a folder")

    def remove(self, folder: Path) -> None:
        """See `UploadedFiles`."""
        self._drafts.pop(folder).discard()
