"""The fuzz driver for a few seconds, in a process that a bad access may end."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

DRIVER = Path(__file__).with_name("fuzz_codec.py")

ONE_BYTE_TOO_FAR = f"""
import sys
sys.path.insert(0, {str(DRIVER.parent)!r})
import numpy as np
from fuzz_codec import GuardedMemory
from kedge_kernels.codec import RequestTable, scan_addresses
message = GuardedMemory(4096).at_end(3)
message[:] = (0x0A, 1, ord("m"))
for size in (3, 4):
    print("scanning", size, flush=True)
    scan_addresses(np.array([message.ctypes.data]), np.array([size]), RequestTable([]))
"""


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, timeout=100, check=False
    )


def test_the_codec_touches_nothing_outside_its_messages_and_buffers() -> None:
    finished = run(str(DRIVER), "--seconds", "4")
    assert finished.returncode == 0, finished.stdout + finished.stderr


def test_a_read_one_byte_too_far_would_be_noticed() -> None:
    finished = run("-c", ONE_BYTE_TOO_FAR)
    assert finished.stdout.split() == ["scanning", "3", "scanning", "4"], finished.stderr
    assert finished.returncode == -signal.SIGSEGV
