"""Seeds of the statistical tests: a new one with each commit, the same within one.

A promise that holds holds for every seed; bounds in the tests leave less than one failure in a
million commits.
"""

from __future__ import annotations

import hashlib
import subprocess
from functools import cache
from pathlib import Path

import numpy as np

_WITHOUT_GIT = "no commit"


@cache
def _commit() -> str:
    command = ["git", "rev-parse", "HEAD"]
    try:
        found = subprocess.run(
            command, cwd=Path(__file__).parent, capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return _WITHOUT_GIT
    return found.stdout.strip()


def commit_seed(name: str) -> int:
    """A seed for the test of this name, 0..2**63 - 1."""
    digest = hashlib.sha256(f"{_commit()} {name}".encode()).digest()
    return int.from_bytes(digest[:8], "little") >> 1


def generator(name: str) -> np.random.Generator:
    """Random numbers for the test of this name."""
    return np.random.default_rng(commit_seed(name))
