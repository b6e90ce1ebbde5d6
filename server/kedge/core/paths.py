"""Relative paths that came from elsewhere. Pure: nothing here looks at a disk."""

from __future__ import annotations

from collections.abc import Collection


def is_confined(path: str) -> bool:
    """Whether `path` is plain and relative and stays in its folder: no `..`, no hidden names, no
    backslash, nothing that cannot be printed, of a length that file systems take.
    """
    parts = path.split("/")
    return (
        len(path) <= 1_024
        and path.isprintable()
        and "\\" not in path
        and all(part and not part.startswith(".") and len(part.encode()) <= 255 for part in parts)
    )


def folder_among(paths: Collection[str]) -> str | None:
    """One of `paths` that another one uses as a folder; None if they can all be files."""
    folders = {path[:i] for path in paths for i, letter in enumerate(path) if letter == "/"}
    return next((path for path in paths if path in folders), None)
