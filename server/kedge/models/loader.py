"""Brings model versions in and out of the catalog, one change after another.

Decides what must be loaded again, and in which order a change becomes visible. Single-threaded: the
registry calls it from its loader thread.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from kedge.core.errors import LoadFailed, ServeError
from kedge.core.ports import ModelFiles
from kedge.core.values import (
    Catalog,
    ModelRef,
    Runtime,
    ServedVersion,
    VersionManifest,
    VersionState,
)
from kedge.models.states import StateTable, not_reloaded

log = logging.getLogger("kedge.models")

# Starts what runs a version, and returns when it is warm.
OpenVersion = Callable[[VersionManifest], Runtime]


@dataclass(frozen=True, slots=True)
class Stamp:
    """What a version was loaded from; a version is loaded again only when it differs.

    file: modification time, size and inode of the model file, or of a URL the hash of what came;
    None where there is none, or not yet.
    """

    manifest: VersionManifest
    file: tuple[int, int, int] | str | None


@dataclass(frozen=True, slots=True)
class Change:
    """What a change has done and what it leaves to do.

    retired: versions that no longer serve, to be passed to `Loader.close` once the caller has its
    answer. error: the first-hand reason if something could not be loaded.
    """

    retired: tuple[ServedVersion[Runtime], ...] = ()
    error: ServeError | None = None


class Loader:
    """Owns the catalog and the states.

    open_version: loads and warms a version; whatever it raises fails that version only. on_change:
    called with every new catalog before it counts as loaded and before anything that left it is
    closed; when it returns, no new request may reach what left. files: brings models from URLs.
    """

    def __init__(
        self,
        open_version: OpenVersion,
        on_change: Callable[[Catalog[Runtime]], None],
        states: StateTable,
        files: ModelFiles,
    ) -> None:
        self._files = files
        self._open_version = open_version
        self._on_change = on_change
        self._states = states
        self._loaded: dict[ModelRef, Stamp] = {}
        self._failed: dict[ModelRef, Stamp] = {}
        self.catalog: Catalog[Runtime] = Catalog()

    def load(self, name: str, manifests: Sequence[VersionManifest], *, retry: bool) -> Change:
        """Make `manifests` the served versions of `name`.

        A version whose manifest and file are as before is left alone, and loses no statistics.
        A version that fails keeps what served before under its number, and as long as one fails
        none is taken out: a broken new version must not replace a good old one. retry: whether
        to try again what failed with the same stamp, and to ask URLs whether they changed.
        """
        served = self.catalog.models.get(name, {})
        wanted = {manifest.ref.version for manifest in manifests}
        self._states.keep_only(name, served.keys() | wanted)
        stamps = [self._stamp(manifest, retry) for manifest in manifests]
        loaded: list[tuple[Stamp, ServedVersion[Runtime]]] = []
        failures: dict[int, str] = {}
        for stamp in stamps:
            version = stamp.manifest.ref.version
            if self._is_settled(stamp, retry):
                continue
            try:
                loaded.append(self._load_version(stamp, served.get(version)))
            except LoadFailed as error:
                failures[version] = str(error)
        present = {**served, **{version.ref.version: version for _, version in loaded}}
        if wanted <= present.keys() and not failures:
            present = {version: present[version] for version in wanted}
        retired = self._install(name, present)
        for stamp, _ in loaded:
            self._mark_loaded(stamp)
        return Change(retired, _load_failed(name, failures))

    def unload(self, name: str) -> Change:
        """Take all versions of `name` out; the catalog keeps an empty entry of a known name."""
        for ref in [ref for ref in self._failed if ref.name == name]:
            del self._failed[ref]
        self._states.mark_unloaded(name)
        return Change(self._install(name, {}) if name in self.catalog.models else ())

    def close(self, retired: Iterable[ServedVersion[Runtime]]) -> None:
        """Close the executors of versions that left the catalog, and say so in the index."""
        for served in retired:
            served.executor.close()
            self._files.release(served.manifest)
            name, version = served.ref.name, served.ref.version
            if version not in self.catalog.models.get(name, {}):
                self._states.mark_unloaded(name, [version])
                log.info("model.unloaded %s", served.ref)

    def _stamp(self, manifest: VersionManifest, ask: bool) -> Stamp:
        """What `manifest` would be loaded from. ask: forget what came from its URL before."""
        if not manifest.url:
            return Stamp(manifest, _file_stamp(manifest.path))
        for known in (self._loaded.get(manifest.ref), self._failed.get(manifest.ref)):
            if not ask and known is not None and known.manifest == manifest:
                return known
        return Stamp(manifest, None)

    def _is_settled(self, stamp: Stamp, retry: bool) -> bool:
        """Whether loading `stamp` would change nothing."""
        ref = stamp.manifest.ref
        if self._loaded.get(ref) != stamp:
            # A URL from which nothing came may answer the next time.
            is_final = stamp.file is not None or not stamp.manifest.url
            return self._failed.get(ref) == stamp and is_final and not retry
        # It serves already, perhaps after a change that failed and was taken back.
        self._failed.pop(ref, None)
        self._states.mark(ref, VersionState.READY)
        return True

    def _mark_loaded(self, stamp: Stamp) -> None:
        ref = stamp.manifest.ref
        self._loaded[ref] = stamp
        self._failed.pop(ref, None)
        self._states.mark(ref, VersionState.READY)
        log.info("model.loaded %s", ref)

    def _load_version(
        self, stamp: Stamp, serving: ServedVersion[Runtime] | None
    ) -> tuple[Stamp, ServedVersion[Runtime]]:
        """What was loaded and from what: `serving`, if its URL has just the same.

        Raises LoadFailed with the reason; the index then has it too.
        """
        manifest = stamp.manifest
        if serving is None:
            # What serves stays READY meanwhile, as in Triton: a reload must not fail a probe.
            self._states.mark(manifest.ref, VersionState.LOADING)
        for warning in manifest.warnings:
            log.warning("model.setting_ignored %s: %s", manifest.ref, warning)
        try:
            if stamp.file is None and not manifest.url:
                raise LoadFailed(f"{manifest.path}: there is no such file; put the model there")
            located = self._files.fetch(manifest)
            if manifest.url:
                stamp = Stamp(manifest, located.sha256)
            try:
                if serving is not None and self._loaded.get(manifest.ref) == stamp:
                    self._files.release(located)
                    return stamp, serving
                return stamp, ServedVersion(located, self._open_version(located))
            except Exception:
                self._files.release(located)
                raise
        except Exception as error:
            raise LoadFailed(self._note_failure(stamp, serving is not None, error)) from error

    def _note_failure(self, stamp: Stamp, is_served: bool, error: Exception) -> str:
        """Puts the reason into log and index; answers it."""
        ref = stamp.manifest.ref
        is_ours = isinstance(error, ServeError)
        reason = str(error) if is_ours else repr(error)
        log.warning("model.load_failed %s: %s", ref, reason, exc_info=not is_ours)
        self._failed[ref] = stamp
        if is_served:
            self._states.mark(ref, VersionState.READY, not_reloaded(reason))
        else:
            self._states.mark(ref, VersionState.UNAVAILABLE, reason)
        return reason

    def _install(
        self, name: str, versions: dict[int, ServedVersion[Runtime]]
    ) -> tuple[ServedVersion[Runtime], ...]:
        """Serve exactly `versions` of `name` from now on; return those that served until now."""
        before = self.catalog.models.get(name)
        if before == versions:
            return ()
        retired = tuple(
            served
            for version, served in (before or {}).items()
            if versions.get(version) is not served
        )
        for served in retired:
            if served.ref.version not in versions:
                self._loaded.pop(served.ref, None)
                self._states.mark(served.ref, VersionState.UNLOADING)
        catalog = Catalog({**self.catalog.models, name: versions})
        self._on_change(catalog)
        self.catalog = catalog
        return retired


def _file_stamp(path: Path) -> tuple[int, int, int] | None:
    try:
        stat = path.stat()
    except OSError:
        return None
    return stat.st_mtime_ns, stat.st_size, stat.st_ino


def _load_failed(name: str, failures: dict[int, str]) -> LoadFailed | None:
    if not failures:
        return None
    versions = "; ".join(
        f"version {version} is at UNAVAILABLE state: {reason}"
        for version, reason in failures.items()
    )
    return LoadFailed(f"load failed for model '{name}': {versions}")
