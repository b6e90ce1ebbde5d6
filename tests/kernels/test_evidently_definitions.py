"""Evidently's definitions against Evidently itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose

from kedge_kernels import evidently_definitions as ours
from support.real_evidently import drift_score

CASES = ["normal", "shifted", "outlier", "few values", "missing bins"]


def pair(case: str) -> tuple[Any, Any]:
    rng = np.random.default_rng(3)
    match case:
        case "shifted":
            return rng.normal(size=5000), rng.normal(0.3, size=700)
        case "outlier":
            return rng.normal(size=5000), np.append(rng.normal(0.3, size=700), 1e4)
        case "few values":
            return rng.integers(0, 12, 900).astype(float), rng.integers(2, 14, 400).astype(float)
        case "missing bins":
            return rng.uniform(0, 1, 200_000), rng.uniform(0.5, 1, 40)
        case _:
            return rng.normal(size=900), rng.normal(size=1000)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize(
    ("name", "function"),
    [
        ("psi", ours.evidently_psi),
        ("kl_div", ours.evidently_kl),
        ("jensenshannon", ours.evidently_js),
        ("hellinger", ours.evidently_hellinger),
        ("wasserstein", ours.evidently_wasserstein),
    ],
)
def test_numbers_get_evidentlys_value(case: str, name: str, function: Callable[..., float]) -> None:
    reference, current = pair(case)
    expected = drift_score(name, reference, current, categorical=False)
    assert_allclose(function(reference, current), expected, rtol=1e-9)


@pytest.mark.parametrize(
    ("name", "function"),
    [
        ("psi", ours.evidently_psi),
        ("kl_div", ours.evidently_kl),
        ("jensenshannon", ours.evidently_js),
        ("hellinger", ours.evidently_hellinger),
    ],
)
def test_categories_get_evidentlys_value(name: str, function: Callable[..., float]) -> None:
    rng = np.random.default_rng(4)
    reference = rng.choice(["a", "b", "c", "d"], 3000, p=[0.5, 0.3, 0.15, 0.05])
    current = rng.choice(["a", "b", "c", "e"], 800, p=[0.4, 0.3, 0.2, 0.1])
    expected = drift_score(name, reference, current, categorical=True)
    assert_allclose(function(reference, current, categorical=True), expected, rtol=1e-9)


def test_chi_squared_gets_evidentlys_p_value() -> None:
    rng = np.random.default_rng(5)
    reference, current = rng.choice(["a", "b", "c"], 3000), rng.choice(["a", "b", "c"], 800)
    expected = drift_score("chisquare", reference, current, categorical=True)
    assert_allclose(ours.evidently_chi2(reference, current), expected, rtol=1e-9)
    assert ours.evidently_chi2(["a"], ["b"]) == 0.0
    assert ours.evidently_chi2(["a"], ["a", None]) == 1.0


def test_missing_values_are_left_out_and_nothing_else_is_refused() -> None:
    assert ours.evidently_psi([1, 1, 2, None], [1, float("nan"), 2, 1]) == 0.0
    with pytest.raises(ValueError, match="expected at least 1 value in each, got 0"):
        ours.evidently_psi([None], [1.0])


def test_one_outlier_hides_a_shift_from_evidentlys_psi() -> None:
    (reference, shifted), (_, outlier) = pair("shifted"), pair("outlier")
    assert ours.evidently_psi(reference, shifted) > 20 * ours.evidently_psi(reference, outlier)
