"""A file from whatever fsspec reads: S3, Google Cloud Storage, this machine, memory."""

from __future__ import annotations

import json
from typing import Any, BinaryIO

import fsspec

from kedge.core.urls import EXTRAS, redacted
from kedge.store.transfer import Fetched, Job, OnBytes, TransferFailed, copy

# What file systems call that which changes with the content, best first.
MARKS = ("VersionId", "version_id", "generation", "ETag", "etag", "md5Hash")
TIMES = ("LastModified", "last_modified", "mtime", "updated", "created")


def fetch_remote(job: Job, target: BinaryIO, on_bytes: OnBytes) -> Fetched:
    """See `Transfer`."""
    scheme = job.url.partition("://")[0]
    try:
        files, path = fsspec.core.url_to_fs(job.url)
    except ImportError as error:
        raise TransferFailed(_missing(scheme, error)) from None
    try:
        return _fetch(files, path, job, target, on_bytes)
    except FileNotFoundError:
        raise TransferFailed("there is no such file") from None
    except PermissionError as error:
        reason = redacted(str(error), job.url)
        raise TransferFailed(f"access is refused; are the credentials right? {reason}") from None


def _missing(scheme: str, error: ImportError) -> str:
    extra = EXTRAS.get(scheme)
    if extra is None:
        return f"{scheme}:// cannot be read here: {error}"
    return f"{scheme}:// needs a package that is missing: pip install 'kedge[{extra}]'"


def _fetch(files: Any, path: str, job: Job, target: BinaryIO, on_bytes: OnBytes) -> Fetched:
    info = files.info(path)
    if info.get("type") == "directory":
        raise TransferFailed("is a folder; write / at its end")
    before = _fingerprint(info)
    if job.known and before == job.known:
        return Fetched("", 0, before, is_unchanged=True)
    with files.open(path, "rb") as file:
        sha256, done = copy(file.read, target, int(info.get("size") or 0), on_bytes)
    # Objects are read in many requests: half of the old and half of the new one is neither.
    files.invalidate_cache()
    if _fingerprint(files.info(path)) != before:
        raise TransferFailed("changed while it was read; load it again")
    return Fetched(sha256, done, before)


def _fingerprint(info: dict[str, Any]) -> str:
    """ "" if there is neither a mark nor a time: the size alone says nothing."""
    marks = {key: str(info[key]) for key in MARKS if info.get(key)}
    found = marks or {key: str(info[key]) for key in TIMES if info.get(key)}
    if not found:
        return ""
    return json.dumps({**found, "size": info.get("size"), "ino": info.get("ino")}, sort_keys=True)
