"""Progress of model downloads on a terminal."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.progress import Progress as Bars
    from rich.progress import TaskID

    from kedge.store.models import Progress

# What is done sooner needs no bar.
SHOWN_AFTER_S = 1.0


class DownloadBar:
    """Called with `Progress` of one download after another; draws on stderr and cleans up."""

    def __init__(self) -> None:
        self._what = ""
        self._started_s = 0.0
        self._bars: Bars | None = None
        self._task: TaskID | None = None

    def __call__(self, progress: Progress) -> None:
        if progress.what != self._what:
            self._end()
            self._what, self._started_s = progress.what, time.monotonic()
        if self._bars is None and time.monotonic() - self._started_s > SHOWN_AFTER_S:
            self._begin()
        if self._bars is not None and self._task is not None:
            total = progress.bytes_total or None
            self._bars.update(self._task, completed=progress.bytes_done, total=total)
        if 0 < progress.bytes_total == progress.bytes_done:
            self._end()

    def _begin(self) -> None:
        from rich.console import Console  # noqa: PLC0415 - 40 ms that --help must not pay
        from rich.progress import (  # noqa: PLC0415
            BarColumn,
            DownloadColumn,
            TextColumn,
            TransferSpeedColumn,
        )
        from rich.progress import Progress as Bars  # noqa: PLC0415

        columns = ("{task.description}", BarColumn(), DownloadColumn(), TransferSpeedColumn())
        self._bars = Bars(
            TextColumn(columns[0], markup=False),
            *columns[1:],
            console=Console(stderr=True),
            transient=True,
        )
        self._task = self._bars.add_task(self._what, total=None)
        self._bars.start()

    def _end(self) -> None:
        if self._bars is not None:
            self._bars.stop()
        self._what, self._bars, self._task = "", None, None


def download_bar() -> DownloadBar | None:
    """A bar if somebody looks at stderr, else None."""
    return DownloadBar() if sys.stderr.isatty() else None
