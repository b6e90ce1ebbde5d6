"""The kernels as plain Python: the same tests of detectors, evidence and scores, in a process of
their own, for Numba decides at its import whether it compiles.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numba
import pytest

FILES = ("detectors", "detectors_river", "e_detectors", "guards", "confidence_sequences")
MORE_FILES = ("mean_difference", "few_labels", "scores", "ranking")


@pytest.mark.skipif(bool(numba.config.DISABLE_JIT), reason="this process is such a one")
@pytest.mark.parametrize("files", [FILES, MORE_FILES], ids=["detectors", "scores"])
def test_the_kernels_pass_their_tests_without_being_compiled(files: tuple[str, ...]) -> None:
    here = Path(__file__).parent
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider"]
    finished = subprocess.run(
        [*command, *(str(here / f"test_{name}.py") for name in files)],
        cwd=here.parents[1],
        env=os.environ | {"NUMBA_DISABLE_JIT": "1"},
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert finished.returncode == 0, finished.stdout[-3000:]
