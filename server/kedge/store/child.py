"""Fetching in a process of its own: `python -m kedge.store.child`, and who starts it.

The gateway's process may not be held up: reading a fast line in Python keeps the GIL for much of
the time, a library may hang for ever, and a process can be ended. The job comes on stdin, for the
arguments of a process can be read by everybody on the machine; when stdin ends, so does the child,
so that it outlives no server. Progress and result are JSON lines on stdout.
"""

from __future__ import annotations

import json
import os
import selectors
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import IO, BinaryIO

from kedge.core.urls import redacted
from kedge.store.transfer import Fetched, Job, OnBytes, TransferFailed, fetch_here

# Importing fsspec and a library for object stores takes 2 s, on a busy machine 10.
START_S_MAX = 60.0
# Of an answer; an error may quote a page of somebody's HTML.
LINE_BYTES_MAX = 64 * 1024
ERROR_CHARS_MAX = 500


class ChildTransfer:
    """`Transfer` in a child process, ended when it stalls or takes longer than `fetch_s_max`."""

    def __init__(self, fetch_s_max: float) -> None:
        self._fetch_s_max = fetch_s_max

    def __call__(self, job: Job, target: BinaryIO, on_bytes: OnBytes) -> Fetched:
        target.flush()
        fd = target.fileno()
        child = subprocess.Popen(  # noqa: S603 - our own module
            [sys.executable, "-m", "kedge.store.child", str(fd)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,  # libraries warn there, with whole URLs
            pass_fds=(fd,),
        )
        assert child.stdin is not None
        assert child.stdout is not None
        try:
            with suppress(BrokenPipeError):  # it died at once; its end is seen below
                child.stdin.write(json.dumps(job).encode() + b"\n")
                child.stdin.flush()
            return self._result(child.stdout, job, on_bytes)
        finally:
            child.kill()
            child.wait()
            child.stdout.close()
            with suppress(BrokenPipeError):
                child.stdin.close()

    def _result(self, output: IO[bytes], job: Job, on_bytes: OnBytes) -> Fetched:
        for line in _lines(output, START_S_MAX, job.stall_s_max, self._fetch_s_max):
            match line:
                case {"error": str(error)}:
                    raise TransferFailed(error)
                case {"done": int(done), "size": int(size)}:
                    on_bytes(done, size)
                case {"result": [str(sha256), int(size), str(fingerprint), bool(is_unchanged)]}:
                    return Fetched(sha256, size, fingerprint, is_unchanged)
        raise TransferFailed("the process that fetched it died; is there enough memory?")


def _lines(
    output: IO[bytes], start_s_max: float, stall_s_max: float, total_s_max: float
) -> Iterator[dict[str, object]]:
    """JSON objects, one a line, until the output ends. Raises TransferFailed when time is over."""
    end_s = time.monotonic() + total_s_max
    # The child has deadlines of its own that know more; this one is for when it hangs.
    wait_s = start_s_max + stall_s_max
    rest = b""
    with selectors.DefaultSelector() as selector:
        selector.register(output, selectors.EVENT_READ)
        while True:
            left_s = end_s - time.monotonic()
            if left_s <= 0:
                raise TransferFailed(f"took longer than {total_s_max:g} s")
            if not selector.select(min(wait_s, left_s)):
                if wait_s < left_s:
                    raise TransferFailed(f"nothing came for {wait_s:g} s")
                continue
            got = os.read(output.fileno(), LINE_BYTES_MAX)
            if not got:
                return
            *lines, rest = (rest + got).split(b"\n")
            for line in lines:
                yield json.loads(line)
            wait_s = 2 * stall_s_max


def main() -> None:
    """Read the job, fetch it into the file descriptor that is the argument, print what came."""
    # A library may print; what it prints must not be taken for ours.
    with os.fdopen(os.dup(1), "w") as results:
        os.dup2(2, 1)
        url, known, stall_s_max = json.loads(sys.stdin.buffer.readline())
        threading.Thread(target=_end_with_parent, daemon=True).start()

        def tell(**line: object) -> None:
            print(json.dumps(line), file=results, flush=True)

        try:
            with os.fdopen(int(sys.argv[1]), "wb", closefd=False) as target:
                job = Job(url, known, stall_s_max)
                fetched = fetch_here(job, target, lambda done, size: tell(done=done, size=size))
        except TransferFailed as failed:
            tell(error=redacted(str(failed), url))
        except BaseException as error:  # whatever a library raises is a reason
            reason = f"{type(error).__name__}: {error}".strip()[:ERROR_CHARS_MAX]
            tell(error=redacted(reason, url))
        else:
            tell(result=fetched)


def _end_with_parent() -> None:
    sys.stdin.buffer.read()
    os._exit(1)


if __name__ == "__main__":
    main()
