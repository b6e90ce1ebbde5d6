"""Folders by the hash of what is in them, shared by all processes that have one state folder.

    objects/KEY/            an entry: files, and `.lock`, locked by everybody who uses it
    drafts/RANDOM/          an entry to be, locked by the one who fills it
    locks/NAME              held while something is fetched, so that others wait and then find it

A lock ends with its process, however that ends, so nothing here needs repair: drafts that nobody
locks are swept. Not here: what the hash is of (`hashes.py`), where content comes from.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

LOCK = ".lock"
PRIVATE = 0o700
# flock has no time-out; a waiting process looks this often.
LOOK_S = 0.05
# An entry's lock is in the way only while somebody moves the entry.
MOVE_S_MAX = 10.0
# Drafts are locked a moment after they are made; one without a lock and older than this is debris.
DEBRIS_S = 60.0


class CacheFull(Exception):
    """The bound in bytes is reached by what is in use."""


class CacheBusy(Exception):
    """Another process held a lock for too long."""


class Entry:
    """A folder that this process holds: nobody removes it before `close`."""

    def __init__(self, folder: Path, lock: int) -> None:
        self.folder = folder
        self._lock = lock

    def close(self) -> None:
        """Let it go; once."""
        os.close(self._lock)


class Draft(Entry):
    """A folder that is being filled."""

    def discard(self) -> None:
        """Remove it with all that is in it."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self.close()


class Cache:
    """bytes_max: of all entries and drafts. `is_intact(folder, key)`: whether an entry still has
    the content that its key says.
    """

    def __init__(self, root: Path, bytes_max: int, is_intact: Callable[[Path, str], bool]) -> None:
        self._root = root
        self._bytes_max = bytes_max
        self._is_intact = is_intact

    def folder(self, name: str) -> Path:
        """A private folder of the cache; made if need be."""
        folder = self._root / name
        folder.mkdir(PRIVATE, parents=True, exist_ok=True)
        return folder

    # Entries

    def hold(self, key: str) -> Entry | None:
        """The entry `key`, verified; None if there is none, or it was corrupt and is gone now."""
        folder = self.folder("objects") / key
        lock = _lock_within(MOVE_S_MAX, folder / LOCK, fcntl.LOCK_SH, create=False)
        if lock is None:
            return None
        if not self._is_intact(folder, key):
            self._remove(folder)
            os.close(lock)
            return None
        os.utime(lock)  # its time is the entry's last use
        return Entry(folder, lock)

    def draft(self) -> Draft:
        """A new empty folder to fill."""
        while True:
            folder = self.folder("drafts") / secrets.token_hex(8)
            folder.mkdir(PRIVATE)
            lock = _lock(folder / LOCK, fcntl.LOCK_EX, create=True)
            if lock is not None:
                return Draft(folder, lock)
            # Another process swept it between its making and its locking.

    def install(self, draft: Draft, key: str) -> Entry:
        """Make `draft` the entry `key`, whole or not at all, and on disk before it can be seen.

        If another process was faster, its entry is as good.
        """
        for path in (*_files(draft.folder), draft.folder):
            _sync(path)
        folder = self.folder("objects") / key
        for _ in range(3):
            try:
                draft.folder.rename(folder)
            except OSError:  # it exists, and is not empty
                existing = self.hold(key)
                if existing is None:
                    continue
                draft.discard()
                return existing
            _sync(folder.parent)
            # A moment without a lock; whoever removes it then makes `hold` find nothing.
            draft.close()
            entry = self.hold(key)
            if entry is not None:
                return entry
            break
        raise OSError(f"{folder} was written, but cannot be read back; is the disk in order?")

    # Bounds

    def make_room(self, bytes_needed: int) -> None:
        """Remove the least recently used entries until `bytes_needed` more fit.

        Raises CacheFull when what is in use leaves too little.
        """
        self.sweep()
        sizes = {folder: _size(folder) for folder in self._entries()}
        total = sum(sizes.values()) + sum(map(_size, self._drafts())) + bytes_needed
        for folder in sorted(sizes, key=_last_use):
            if total <= self._bytes_max:
                return
            lock = _lock(folder / LOCK, fcntl.LOCK_EX, create=False)
            if lock is not None:
                self._remove(folder)
                os.close(lock)
                total -= sizes[folder]
        if total > self._bytes_max:
            raise CacheFull(
                f"needs {bytes_needed} bytes more, but of at most {self._bytes_max} in the cache "
                f"{total - bytes_needed} are in use; raise --model-cache-size"
            )

    def sweep(self) -> None:
        """Remove the drafts of processes that are gone."""
        for folder in self._drafts():
            lock = _lock(folder / LOCK, fcntl.LOCK_EX, create=False)
            if lock is not None or _is_debris(folder):
                shutil.rmtree(folder, ignore_errors=True)
            if lock is not None:
                os.close(lock)

    def _entries(self) -> list[Path]:
        return list(self.folder("objects").iterdir())

    def _drafts(self) -> list[Path]:
        return list(self.folder("drafts").iterdir())

    def _remove(self, folder: Path) -> None:
        """Out of sight in one step, so that nobody finds half of it."""
        gone = self.folder("drafts") / secrets.token_hex(8)
        with suppress(OSError):  # somebody else was faster
            folder.rename(gone)
        shutil.rmtree(gone, ignore_errors=True)

    @contextmanager
    def exclusive(self, name: str, wait_s_max: float) -> Iterator[None]:
        """Only one process is in here for one `name`. Raises CacheBusy after `wait_s_max`."""
        path = self.folder("locks") / name
        lock = _lock_within(wait_s_max, path, fcntl.LOCK_EX, create=True)
        assert lock is not None, "locks are never removed"
        try:
            yield
        finally:
            os.close(lock)


def _lock_within(wait_s_max: float, path: Path, mode: int, *, create: bool) -> int | None:
    """As `_lock`, but waits for it to be free; None only if it is not there. Raises CacheBusy."""
    end_s = time.monotonic() + wait_s_max
    while (lock := _lock(path, mode, create=create)) is None:
        if not create and not path.exists():
            return None
        if time.monotonic() >= end_s:
            raise CacheBusy(f"another process has been busy with it for {wait_s_max:g} s")
        time.sleep(LOOK_S)
    return lock


def _lock(path: Path, mode: int, *, create: bool) -> int | None:
    """The locked file, as a descriptor; None if it is not there or not free."""
    try:
        lock = os.open(path, os.O_RDWR | (os.O_CREAT if create else 0), 0o600)
    except (FileNotFoundError, NotADirectoryError):
        return None
    try:
        fcntl.flock(lock, mode | fcntl.LOCK_NB)
        # Between opening and locking the file may have been removed or moved away.
        if os.path.samestat(os.fstat(lock), os.stat(path)):
            return lock
    except (BlockingIOError, FileNotFoundError, NotADirectoryError):
        pass
    os.close(lock)
    return None


def _files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if not path.is_symlink() and path.is_file()]


def _size(folder: Path) -> int:
    total = 0
    for path in _files(folder):
        with suppress(OSError):  # removed meanwhile
            total += path.stat().st_size
    return total


def _last_use(folder: Path) -> float:
    try:
        return (folder / LOCK).stat().st_mtime
    except OSError:
        return 0.0


def _is_debris(folder: Path) -> bool:
    """Whether nobody will ever lock it: it has no lock, and is old."""
    try:
        age_s = time.time() - folder.stat().st_mtime
    except OSError:
        return False
    return age_s > DEBRIS_S and not (folder / LOCK).exists()


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
