"""Model URLs as text: what is one, what it may be, how it is shown. Nothing here opens one."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

# What `kedge.store` fetches. `memory` lives in one process only: tests use it.
SCHEMES = ("http", "https", "s3", "gs", "gcs", "file", "memory")
# The extra of `pip install kedge[...]` that a scheme needs; the others need none.
EXTRAS = {"s3": "s3", "gs": "gcs", "gcs": "gcs"}
# The list of a folder's files, as `sha256sum * > SHA256SUMS` writes it.
SUMS_FILENAME = "SHA256SUMS"
# What a folder must hold, and what is loaded of it.
FOLDER_MODEL = "model.py"

_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")


def is_url(model: str) -> bool:
    """Whether `model` is a URL, right or wrong, and not a path."""
    return _URL.match(model) is not None or "::" in model.partition("://")[0]


def problem_with(url: str) -> str:
    """Why `url` cannot be a model's, in words that say what to do; "" if it can."""
    scheme = url.partition("://")[0]
    if scheme not in SCHEMES:
        return f"expected a file or a URL of {', '.join(SCHEMES)}, got one of {scheme!r}"
    try:
        parts = urlsplit(url)
        has_place = bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        return f"{shown(url)} is no URL"
    if scheme in ("file", "memory"):
        has_place = bool(parts.path)
    if not has_place or not any(c.isalnum() for c in parts.path):
        return f"{shown(url)} names no file; a folder ends with /"
    if any(ord(c) <= ord(" ") or c == "\x7f" for c in url):
        return f"{shown(url)} has blanks in it; write %20"
    return ""


def is_folder(url: str) -> bool:
    """Whether `url` means a folder with a `SHA256SUMS` file: it ends with a slash."""
    return urlsplit(url).path.endswith("/")


def name_of(url: str) -> str:
    """The file name of the model behind `url`."""
    path = urlsplit(url).path
    return FOLDER_MODEL if path.endswith("/") else path.rpartition("/")[2]


def shown(url: str) -> str:
    """`url` without what may be secret: user, password, query and fragment."""
    head, _, rest = url.partition("://")
    rest = re.split(r"[?#]", rest, maxsplit=1)[0]
    place, slash, path = rest.partition("/")
    return f"{head}://{place.rpartition('@')[2]}{slash}{path}"


def redacted(text: str, url: str) -> str:
    """`text` without `url`'s secrets, wherever a library quoted them."""
    text = text.replace(url, shown(url))
    place, _, _ = url.partition("://")[2].partition("/")
    user = place.rpartition("@")[0]
    secrets = [url.partition("?")[2], *re.split(r"[&#]", url.partition("?")[2]), user]
    secrets += [part.partition("=")[2] for part in secrets] + user.split(":")
    # Shorter ones are in every text by chance, and are no secrets.
    for secret in sorted(set(secrets), key=len, reverse=True):
        if len(secret) >= 4:
            text = text.replace(secret, "***")
    return text
