"""Every public name of the package loads, and is what its module has."""

from __future__ import annotations

import ast
import inspect
from importlib import import_module
from typing import Any

import numpy as np
import pytest

import kedge_kernels
from kedge_kernels import _jit


@pytest.mark.parametrize("name", kedge_kernels.__all__)
def test_a_public_name_loads_and_has_a_contract(name: str) -> None:
    found = getattr(kedge_kernels, name)
    module = import_module(f"kedge_kernels.{kedge_kernels._EXPORTS[name]}")
    assert found is getattr(module, name)
    assert inspect.getdoc(found)


def test_the_table_says_what_the_imports_for_type_checkers_say() -> None:
    tree = ast.parse(inspect.getsource(kedge_kernels))
    imported = {
        alias.asname: f"{node.module}".removeprefix("kedge_kernels.")
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and f"{node.module}".startswith("kedge_kernels.")
        for alias in node.names
    }
    assert imported == kedge_kernels._EXPORTS


# Not all of the package: compiling every kernel anew takes a minute of CPU time.
WARMED = {
    *("adwin", "calibration", "confidence_sequences", "ddm", "detectors", "e_detectors", "guards"),
    *("hddm", "kswin", "mean_difference", "page_hinkley", "ranking", "scores"),
}


def _compiled() -> int:
    return sum(len(getattr(kernel, "signatures", ())) for kernel in _jit.KERNELS)


def _read_only(values: Any) -> Any:
    array = np.asarray(values)
    array.setflags(write=False)
    return array


@pytest.mark.parametrize(
    "kind", [list, np.float32, np.int8, _read_only, lambda x: np.repeat(x, 2)[::2]]
)
def test_once_warm_no_kind_of_argument_compiles_anything(kind: Any) -> None:
    from kedge_kernels import (
        AbsoluteGuard,
        Adwin,
        BadEventGuard,
        BinnedRanking,
        Brier,
        CalibrationError,
        Ddm,
        ECusum,
        Eddm,
        EmpiricalBernsteinSequence,
        HddmA,
        HddmW,
        IsotonicCalibrator,
        Kswin,
        MixtureSprt,
        PageHinkley,
        PairedGuard,
        SampleRatioGuard,
        auprc,
        auroc,
        detectors_step,
        join_states,
    )

    for step in _jit.WARM_UPS:
        if step.__module__.removeprefix("kedge_kernels.") in WARMED:
            step()
    before = _compiled()
    values = kind(np.array([0, 1, 1, 0]))
    detectors = [Adwin(), PageHinkley(), Ddm(), Eddm(), HddmA(), HddmW(), Kswin(), ECusum(0.1)]
    for detector in detectors:
        detector.update(values)
    states = join_states(detectors[:4])
    detectors_step(values, states)
    for guard in (BadEventGuard(0.1), SampleRatioGuard(0.1)):
        guard.update(values, values)
        assert guard.e_value == 1.0
    AbsoluteGuard(0.1, 0.1).update(values)
    PairedGuard(0.1).update(values, values)
    EmpiricalBernsteinSequence(0.1).update(values)
    MixtureSprt(1.0).update(values, values)
    IsotonicCalibrator(values, values).probabilities(values)
    for score in (Brier(), CalibrationError(), BinnedRanking()):
        score.update(values, values)
    assert BinnedRanking().auroc_error_max != auroc(values, values) == auprc(values, values)
    assert _compiled() == before
