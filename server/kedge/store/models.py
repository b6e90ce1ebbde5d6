"""The store as the loader sees it: a manifest with a URL goes in, one with a verified file comes
out.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import secrets
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote, urlsplit, urlunsplit

from kedge.core.errors import LoadFailed
from kedge.core.settings import StoreLimits
from kedge.core.urls import SUMS_FILENAME, is_folder, shown
from kedge.core.values import VersionManifest
from kedge.store.cache import Cache, CacheBusy, CacheFull, Draft, Entry
from kedge.store.child import ChildTransfer
from kedge.store.hashes import (
    is_intact,
    key_of_file,
    key_of_folder,
    model_path,
    parse_sums,
    sha256_of,
)
from kedge.store.transfer import Fetched, Job, Transfer, TransferFailed

log = logging.getLogger("kedge.store")


class Progress(NamedTuple):
    """How far a download is. what: the URL as it may be shown; bytes_total: 0 if unknown."""

    what: str
    bytes_done: int
    bytes_total: int


OnProgress = Callable[[Progress], None]


class ModelStore:
    """Implements `core.ports.ModelFiles` with a cache in `state_dir`, which is made when the first
    URL is fetched.

    With a `sha256` a file that is here is used without asking anybody. Without one the source is
    asked each time, and read again only if it says that its content is another. on_progress: called
    while something comes, about twice a second. One thread at a time.
    """

    def __init__(
        self,
        state_dir: Path,
        limits: StoreLimits,
        on_progress: OnProgress = lambda progress: None,
        transfer: Transfer | None = None,
    ) -> None:
        self._limits = limits
        self._on_progress = on_progress
        self._transfer = transfer or ChildTransfer(limits.fetch_s_max)
        # Absolute, for worker processes may run elsewhere.
        root = Path(os.path.abspath(state_dir)) / "cache" / "models"
        self._cache = Cache(root, limits.cache_bytes_max, is_intact)
        self._held: dict[Path, list[Entry]] = {}

    def fetch(self, manifest: VersionManifest) -> VersionManifest:
        """See `ModelFiles`."""
        try:
            if manifest.url:
                return self._fetch(manifest)
            if manifest.sha256:
                _check(sha256_of(manifest.path), manifest.sha256)
        except FileNotFoundError:
            raise LoadFailed(
                f"{manifest.path}: there is no such file; put the model there"
            ) from None
        except (TransferFailed, CacheFull, CacheBusy) as error:
            raise LoadFailed(f"{_named(manifest)}: {error}") from None
        except OSError as error:
            raise LoadFailed(f"{_named(manifest)}: {error.strerror or error}") from None
        return manifest

    def release(self, manifest: VersionManifest) -> None:
        """See `ModelFiles`."""
        held = self._held.get(manifest.path)
        if held:
            held.pop().close()
            if not held:
                del self._held[manifest.path]

    def _fetch(self, manifest: VersionManifest) -> VersionManifest:
        url = manifest.url
        entry, sha256 = self._pinned(url, manifest.sha256) or self._brought(url, manifest.sha256)
        path = model_path(entry.folder, entry.folder.name)
        self._held.setdefault(path, []).append(entry)
        return replace(manifest, path=path, sha256=sha256)

    def _pinned(self, url: str, sha256: str) -> tuple[Entry, str] | None:
        """What has the hash that is asked for, if it is here and intact."""
        entry = self._cache.hold(_key(sha256, url)) if sha256 else None
        return (entry, sha256) if entry else None

    def _brought(self, url: str, sha256: str) -> tuple[Entry, str]:
        """What lies behind `url` now, from there or, if it is the same, from here."""
        name = hashlib.sha256(url.encode()).hexdigest()
        with self._cache.exclusive(name, self._limits.fetch_s_max):
            # Another process may have brought it while we waited.
            pinned = self._pinned(url, sha256)
            if pinned:
                return pinned
            self._cache.sweep()
            record = _Record(self._cache.folder("urls") / f"{name}.json")
            # With a hash asked for, what is here has another one.
            may_know = record.sha256 and not sha256
            known = self._cache.hold(_key(record.sha256, url)) if may_know else None
            draft = self._cache.draft()
            try:
                fetched = self._fill(draft, url, sha256, record.fingerprint if known else "")
                if fetched.is_unchanged and known is not None:
                    draft.discard()
                    return known, record.sha256
                entry = self._cache.install(draft, _key(fetched.sha256, url))
            except BaseException:
                draft.discard()
                if known is not None:
                    known.close()
                raise
            if known is not None:
                known.close()
            record.write(fetched.sha256, fetched.fingerprint)
            return entry, fetched.sha256

    def _fill(self, draft: Draft, url: str, sha256: str, known: str) -> Fetched:
        """Fetch the file, or the folder's files, into `draft`; the result is the whole's."""
        if not is_folder(url):
            target = model_path(draft.folder, _key("unknown", url))
            return self._file(url, target, sha256, known)
        sums = draft.folder / SUMS_FILENAME
        try:
            fetched = self._file(_inside(url, SUMS_FILENAME), sums, sha256, known)
        except TransferFailed as failed:
            raise TransferFailed(
                f"{SUMS_FILENAME}: {failed}; a folder needs one: sha256sum * > {SUMS_FILENAME}"
            ) from None
        if fetched.is_unchanged:
            return fetched
        for path, wanted in parse_sums(sums, self._limits.folder_files_max).items():
            target = draft.folder / path
            target.parent.mkdir(parents=True, exist_ok=True)
            try:
                self._file(_inside(url, path), target, wanted, "")
            except TransferFailed as failed:
                raise TransferFailed(f"{path}: {failed}") from None
        return fetched

    def _file(self, url: str, target: Path, sha256: str, known: str) -> Fetched:
        def on_bytes(done: int, size: int) -> None:
            self._cache.make_room(max(size - done, 0))
            self._on_progress(Progress(shown(url), done, size))

        with target.open("wb") as file:
            fetched = self._transfer(Job(url, known, self._limits.stall_s_max), file, on_bytes)
        if sha256 and not fetched.is_unchanged:
            _check(fetched.sha256, sha256)
        return fetched


class _Record:
    """What a URL had when it was last fetched. A file that cannot be read is none."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.sha256 = self.fingerprint = ""
        try:
            match json.loads(path.read_text()):
                case {"sha256": str(sha256), "fingerprint": str(fingerprint)}:
                    self.sha256, self.fingerprint = sha256, fingerprint
        except (OSError, ValueError):
            pass

    def write(self, sha256: str, fingerprint: str) -> None:
        draft = self._path.with_name(f"{self._path.name}.{secrets.token_hex(4)}")
        draft.write_text(json.dumps({"sha256": sha256, "fingerprint": fingerprint}))
        draft.replace(self._path)


def _key(sha256: str, url: str) -> str:
    return key_of_folder(sha256) if is_folder(url) else key_of_file(sha256, url)


def _check(got: str, wanted: str) -> None:
    if got != wanted:
        raise TransferFailed(f"expected sha256 {wanted}, got {got}")


def _named(manifest: VersionManifest) -> str:
    return shown(manifest.url) if manifest.url else str(manifest.path)


def _inside(url: str, path: str) -> str:
    """The URL of a file in the folder `url`; a query, such as a signature, stays behind it."""
    parts = urlsplit(url)
    # Object stores take names as they are, the web takes them quoted.
    name = quote(path) if parts.scheme in ("http", "https") else path
    return urlunsplit(parts._replace(path=parts.path + name))
