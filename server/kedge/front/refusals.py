"""The text of a status that a client gets; the same on every front."""

from __future__ import annotations

from kedge.core.errors import ServeError

# A message may quote what the caller sent. It travels in a trailer, percent-encoded at up to three
# bytes for one, and clients drop calls with over 8 KiB of metadata.
TEXT_BYTES_MAX = 2_000


def text_of(error: ServeError) -> str:
    """The error's message as valid UTF-8 of at most `TEXT_BYTES_MAX` bytes and an ellipsis."""
    text = str(error).encode(errors="replace")
    if len(text) > TEXT_BYTES_MAX:
        return f"{text[:TEXT_BYTES_MAX].decode(errors='ignore')} …"
    return text.decode()
