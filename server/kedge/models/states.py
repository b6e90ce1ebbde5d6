"""The state of every model version that was ever asked for, as the repository index shows it.

One thread writes, any thread reads. Not here: why a state changes (`loader.py`).
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterable

from kedge.core.values import IndexEntry, ModelRef, VersionState

# Triton's word; its readiness check makes the same exception for it.
UNLOADED = "unloaded"


class StateTable:
    """States by model and version, and the reason where a model has no usable configuration."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._versions: dict[str, dict[int, tuple[VersionState, str]]] = {}
        self._broken: dict[str, str] = {}

    def mark(self, ref: ModelRef, state: VersionState, reason: str = "") -> None:
        with self._lock:
            self._versions.setdefault(ref.name, {})[ref.version] = (state, reason)

    def mark_broken(self, name: str, reason: str) -> None:
        """The configuration of `name` cannot be used now; versions that serve go on serving."""
        with self._lock:
            self._broken[name] = reason

    def keep_only(self, name: str, versions: Collection[int]) -> None:
        """`name` has a usable configuration; forget what is not in `versions`."""
        with self._lock:
            self._broken.pop(name, None)
            known = self._versions.get(name, {})
            self._versions[name] = {v: known[v] for v in known if v in versions}

    def mark_unloaded(self, name: str, versions: Iterable[int] | None = None) -> None:
        """Mark `versions`, or all, of `name` as taken out on purpose."""
        with self._lock:
            self._broken.pop(name, None)
            known = self._versions.get(name, {})
            for version in list(known if versions is None else versions):
                known[version] = (VersionState.UNAVAILABLE, UNLOADED)

    def forget(self, name: str) -> None:
        with self._lock:
            self._broken.pop(name, None)
            self._versions.pop(name, None)

    def names(self) -> set[str]:
        with self._lock:
            return self._versions.keys() | self._broken.keys()

    @property
    def ready(self) -> bool:
        """Strict readiness: nothing loads, and whatever failed has an older version serving."""
        with self._lock:
            return all(map(self._serves, self._broken)) and all(
                state is VersionState.READY or reason == UNLOADED
                for versions in self._versions.values()
                for state, reason in versions.values()
            )

    def is_serving(self, ref: ModelRef) -> bool:
        with self._lock:
            state, _ = self._versions.get(ref.name, {}).get(ref.version, (None, ""))
            # What is loaded anew, or taken out, serves meanwhile.
            return state is not VersionState.UNAVAILABLE

    def _serves(self, name: str) -> bool:
        versions = self._versions.get(name, {})
        return any(state is VersionState.READY for state, _ in versions.values())

    def index(self, names: Iterable[str]) -> list[IndexEntry]:
        """One entry per version of what is known here, and one for each other of `names`."""
        with self._lock:
            known = self._versions.keys() | self._broken.keys()
            return [entry for name in sorted(known.union(names)) for entry in self._entries(name)]

    def _entries(self, name: str) -> list[IndexEntry]:
        broken = self._broken.get(name)
        if broken is not None and not self._serves(name):
            return [IndexEntry(name, "", VersionState.UNAVAILABLE, broken)]
        versions = self._versions.get(name)
        if not versions:
            return [IndexEntry(name, "", None)]
        return [
            IndexEntry(name, str(version), state, reason or not_reloaded(broken))
            for version, (state, reason) in sorted(versions.items())
        ]


def not_reloaded(reason: str | None) -> str:
    """Why a READY version is older than what lies in the repository; "" for no reason."""
    return f"not reloaded: {reason}" if reason else ""
