"""Starting and ending a process of our own, so that none outlives the server."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

PR_SET_PDEATHSIG = 1
# A process that was told to end may write its last lines; then it is killed.
END_S_MAX = 5.0
# All children are started by one thread that lives as long as this process: the kernel ends a child
# that asked for it (`end_with_parent`) when the thread that started it ends.
_starter = ThreadPoolExecutor(1, "start-child")


def start_child(
    module: str,
    arguments: Sequence[str],
    fds: Sequence[int] = (),
    environment: Mapping[str, str] | None = None,
) -> subprocess.Popen[bytes]:
    """Run `python -m module arguments`; it inherits stderr and `fds`, and prints to stderr too.

    It leads a session of its own: what it starts ends with it (`end_child`), and what a terminal
    sends to the server does not reach it. Raises OSError.
    """
    return _starter.submit(
        subprocess.Popen,
        [sys.executable, "-m", module, *arguments],
        stdin=subprocess.DEVNULL,
        # stdout has the ready line and nothing else; what a model prints is no part of it.
        stdout=sys.stderr.fileno(),
        pass_fds=fds,
        start_new_session=True,
        env={**os.environ, **(environment or {})},
    ).result()


def end_child(process: subprocess.Popen[bytes], wait_s: float = END_S_MAX) -> int:
    """Wait for a child that was told to end, kill it if it does not, and what it started in any
    case; its exit code.
    """
    try:
        process.wait(wait_s)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    # A compiler, or helpers that a model forked: they hold its sockets and memory.
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    return process.returncode


def end_with_parent(parent_pid: int) -> None:
    """Called first in a child: the kernel kills it when its parent ends, even if it hangs.

    SIGINT and SIGTERM are ignored, because terminals and service managers send them to every
    process of the server; the parent drains and says when to end.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent_pid:  # it ended before we asked
        os._exit(1)


def describe_exit(code: int) -> str:
    """An exit code in words: `exit code 3`, `SIGSEGV`, `SIGKILL (out of memory?)`."""
    if code >= 0:
        return f"exit code {code}"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    return f"{name} (out of memory?)" if code == -signal.SIGKILL else name
