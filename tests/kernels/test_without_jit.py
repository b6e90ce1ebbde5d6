"""The same tests of the same kernels as plain Python, where a read outside an array is an error and
an operation that NumPy warns of is seen.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent
# What has definitions and edges, not what needs thousands of values or hundreds of windows.
CHOSEN = {
    "test_sketch.py": "one_value or own_bin or constant_column or finite or merged or layout_not "
    "or given or clear or without_finite",
    "test_windows.py": "",
    "test_categories.py": "",
    "test_divergence.py": "not as_they_are",
    "test_count_tests.py": "scipy or side or columns or threshold or small_or_one_sided or psi_has",
    "test_sample_tests.py": "definitions or share_of_all_orders or nan_is or infinities "
    "or denormals or one_value or anderson_darling_is or all_columns or without_values",
    "test_special.py": "chi_squared or normal_tails or known_quantiles",
    "test_multivariate.py": "definition or no_obstacle or refused",
    "test_quantiles.py": "weighted or infinities",
}


@pytest.mark.timeout(200)
def test_definitions_and_edges_hold_without_the_compiler() -> None:
    chosen = " or ".join(f"({name} and ({words or 'test'}))" for name, words in CHOSEN.items())
    files = [str(FOLDER / name) for name in CHOSEN]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "--no-header", "-x", "-k", chosen, *files],
        env={**os.environ, "NUMBA_DISABLE_JIT": "1", "PYTHONPATH": os.pathsep.join(sys.path)},
        cwd=FOLDER.parents[1],
        capture_output=True,
        text=True,
        timeout=190,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]
    passed = re.search(r"(\d+) passed", done.stdout)
    assert passed is not None
    assert int(passed[1]) > 60
