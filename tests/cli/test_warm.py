"""`kedge warm` in a process of its own, as an image is built."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest


def warm(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "kedge.cli", "warm", *arguments],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), **variables},
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )


@pytest.mark.slow
def test_kernels_are_compiled_once_into_the_folder_that_was_named(tmp_path: Path) -> None:
    folder = tmp_path / "kernels"
    first = json.loads(warm("--cache-dir", str(folder), "-o", "json").stdout)
    assert first["compiled"] > 50
    assert first["set"] == f"NUMBA_CACHE_DIR={folder}"
    assert Path(first["folder"]).is_relative_to(folder)
    assert list(folder.glob("kernels-*/**/*.nbc"))
    second = json.loads(warm("-o", "json", NUMBA_CACHE_DIR=str(folder)).stdout)
    assert (second["compiled"], second["folder"]) == (0, first["folder"])
    assert second["from_cache"] > 20


def test_the_result_is_a_table_on_stdout_and_says_where() -> None:
    done = warm()
    assert done.returncode == 0, done.stderr
    lines = dict(line.split(None, 1) for line in done.stdout.splitlines())
    assert int(lines["compiled"]) + int(lines["from_cache"]) > 20
    assert "kernels-" in lines["folder"]
    assert done.stderr == ""  # the progress bar is for terminals
