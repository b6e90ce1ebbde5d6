"""One file from a URL into an open file: the words that both sides of it share.

Not here: who runs it (`child.py`), how HTTP (`http_get.py`) and the others (`remote.py`) are read.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from typing import BinaryIO, NamedTuple, Protocol

# Of one read and write. Small enough that progress is seen on slow lines, large enough that hashing
# and writing a chunk (1 ms) give the GIL away.
CHUNK_BYTES = 1 << 20


class Job(NamedTuple):
    """What to fetch. known: the fingerprint of what is here already, "" if nothing is. stall_s_max:
    longest wait for a connection, and for the next byte.
    """

    url: str
    known: str
    stall_s_max: float


class Fetched(NamedTuple):
    """What came. fingerprint: what the source says that changes with the content (an ETag, a
    version, a time), "" if it says nothing. is_unchanged: it has the fingerprint that was known,
    and nothing was written.
    """

    sha256: str
    bytes: int
    fingerprint: str
    is_unchanged: bool = False


class TransferFailed(Exception):
    """Nothing usable came; the text says why and has no secrets in it."""


# Called with the bytes so far and the bytes in all, 0 if the source does not say.
OnBytes = Callable[[int, int], None]


class Transfer(Protocol):
    """Fetches `job` into `target`. Raises TransferFailed, and whatever `on_bytes` raises."""

    def __call__(self, job: Job, target: BinaryIO, on_bytes: OnBytes) -> Fetched: ...


# A source's content: up to so many bytes, b"" at its end.
Reader = Callable[[int], bytes]


def copy(read: Reader, target: BinaryIO, size: int, on_bytes: OnBytes) -> tuple[str, int]:
    """Everything that `read` gives to `target`: its sha256 and its bytes. size: 0 if unknown.

    Raises TransferFailed if the source ends before `size` bytes, or goes on behind them.
    """
    digest = hashlib.sha256()
    done = 0
    told_s = -1.0
    while chunk := read(CHUNK_BYTES):
        digest.update(chunk)
        target.write(chunk)
        done += len(chunk)
        if size and done > size:
            raise TransferFailed(f"more than the {size} bytes that it promised came")
        # The first call lets the caller make room for all; two a second are enough for people.
        if told_s < 0 or time.monotonic() - told_s > 0.5:
            target.flush()  # who makes room looks at the file
            on_bytes(done, size)
            told_s = time.monotonic()
    if size and done != size:
        raise TransferFailed(f"ended after {done} of {size} bytes")
    target.flush()
    on_bytes(done, size)
    return digest.hexdigest(), done


def fetch_here(job: Job, target: BinaryIO, on_bytes: OnBytes) -> Fetched:
    """`Transfer` in this process. The server does it in another one, see `child.py`."""
    if job.url.startswith(("http://", "https://")):
        from kedge.store.http_get import fetch_http  # noqa: PLC0415 - one or the other

        return fetch_http(job, target, on_bytes)
    from kedge.store.remote import fetch_remote  # noqa: PLC0415

    return fetch_remote(job, target, on_bytes)
