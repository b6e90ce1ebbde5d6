"""How downloads are shown: a bar on a terminal, lines in a log, nothing for short ones."""

from __future__ import annotations

import logging
import os
import pty
import subprocess
import sys

import pytest

from kedge.store import progress
from kedge.store.models import Progress

DOWNLOAD = """
from kedge.cli import progress
from kedge.store.models import Progress
progress.SHOWN_AFTER_S = {after}
bar = progress.download_bar()
assert bar is not None
for done in (1, 500_000, 1_000_000):
    bar(Progress("https://host/[m].pt", done, 1_000_000))
print("over")
"""


def drawn(after: float) -> str:
    """What a download draws on a terminal of its own; the bar appears `after` seconds."""
    ours, theirs = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "100"}
    command = [sys.executable, "-c", DOWNLOAD.format(after=after)]
    done = subprocess.run(
        command, stderr=theirs, stdout=subprocess.PIPE, check=True, env=environment, timeout=60
    )
    assert done.stdout == b"over\n"
    os.set_blocking(ours, False)
    try:
        return os.read(ours, 65_536).decode()
    except BlockingIOError:
        return ""
    finally:
        os.close(ours)
        os.close(theirs)


def test_a_long_download_draws_a_bar_with_its_name_and_a_short_one_nothing() -> None:
    assert "https://host/[m].pt" in drawn(after=-1.0)
    assert drawn(after=60.0) == ""


def test_without_a_terminal_there_is_no_bar() -> None:
    code = "from kedge.cli.progress import download_bar; print(download_bar())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    assert done.stdout == b"None\n"


def test_the_log_has_a_line_now_and_then(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.INFO)
    tell = progress.ProgressLog()
    for done in (1, 2, 3):
        tell(Progress("s3://b/m.pt", done, 3))
    assert caplog.messages == []
    monkeypatch.setattr(progress, "QUIET_S", -1.0)
    tell(Progress("s3://b/m.pt", 3, 3))
    assert caplog.messages == ["model.fetching s3://b/m.pt bytes=3 of=3"]
