"""Progress of downloads as log lines, for who has no terminal."""

from __future__ import annotations

import logging
import time

from kedge.store.models import Progress

log = logging.getLogger("kedge.store")

# A download of an hour is 360 lines, one of a few seconds none.
QUIET_S = 10.0


class ProgressLog:
    """Called with `Progress`; writes a line every `QUIET_S`, beginning after the first of them."""

    def __init__(self) -> None:
        self._what = ""
        self._told_s = 0.0

    def __call__(self, progress: Progress) -> None:
        now_s = time.monotonic()
        if progress.what != self._what:
            self._what, self._told_s = progress.what, now_s
        elif now_s - self._told_s > QUIET_S:
            self._told_s = now_s
            log.info("model.fetching %s bytes=%s of=%s", *progress)
