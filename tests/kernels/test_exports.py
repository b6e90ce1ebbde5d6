"""The public names: one table, loaded when used, and an import that costs nothing."""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
from pathlib import Path
from statistics import median

import pytest

import kedge_kernels

SOURCE = Path(kedge_kernels.__file__).read_text()
# What design says stays; a name that goes missing here breaks users.
PROMISED = {
    *("psi", "kl", "js", "hellinger", "chi2_two_sample", "ks_2samp", "wasserstein_1d"),
    *("cramer_von_mises", "anderson_darling", "benjamini_hochberg", "benjamini_yekutieli", "e_bh"),
    *("update", "merge", "binned_stats", "ks_w1_exact"),
}


def test_every_public_name_is_there_and_documented() -> None:
    assert set(kedge_kernels.__all__) >= PROMISED
    assert dir(kedge_kernels) == kedge_kernels.__all__
    for name in kedge_kernels.__all__:
        value = getattr(kedge_kernels, name)
        if callable(value):
            assert value.__doc__, name


def test_type_checkers_read_the_same_table() -> None:
    read = {
        alias.name: node.module.removeprefix("kedge_kernels.")
        for node in ast.walk(ast.parse(SOURCE))
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("kedge_kernels.")
        for alias in node.names
        if node.module
    }
    assert read == kedge_kernels._EXPORTS
    assert list(kedge_kernels._EXPORTS) == sorted(kedge_kernels._EXPORTS)


def test_no_module_hides_a_public_name() -> None:
    folder = Path(kedge_kernels.__file__).parent
    assert not {path.stem for path in folder.glob("*.py")} & set(kedge_kernels.__all__)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = kedge_kernels.nothing  # type: ignore[attr-defined]


def seconds_of(statement: str) -> float:
    script = f"import time; t = time.process_time(); {statement}; print(time.process_time() - t)"
    command = [sys.executable, "-c", script]
    times = []
    for _ in range(3):
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
        times.append(float(done.stdout))
    return median(times)


def test_the_import_of_everything_costs_less_than_300_ms_beyond_numbas_own() -> None:
    names = [*kedge_kernels._EXPORTS.values()]
    modules = ", ".join(sorted({f"kedge_kernels.{name}" for name in names}))
    everything = seconds_of(f"import numba; t = time.process_time(); import {modules}")
    assert everything < 0.3
    assert seconds_of("import kedge_kernels") < 0.05


def test_optional_libraries_are_not_imported_with_the_package() -> None:
    modules = ", ".join(sorted({f"kedge_kernels.{m}" for m in kedge_kernels._EXPORTS.values()}))
    heavy = "{'scipy', 'sklearn', 'datasketches', 'pyarrow', 'pandas', 'plotly', 'kedge'}"
    # Numba itself imports SciPy where it is installed.
    script = f"import sys, numba; own = set(sys.modules); import {modules}; "
    script += f"print(sorted({heavy} & set(sys.modules) - own))"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.strip() == "[]"


def test_every_module_with_a_table_entry_imports() -> None:
    for module in set(kedge_kernels._EXPORTS.values()):
        importlib.import_module(f"kedge_kernels.{module}")
