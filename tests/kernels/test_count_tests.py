"""Tests of counts against SciPy, and that they alarm as seldom as they promise."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from scipy import stats

from kedge_kernels.count_tests import (
    chi2_p_values,
    chi2_two_sample,
    g_test,
    ks_binned,
    psi_test,
    psi_threshold,
)
from kedge_kernels.divergence import psi
from kedge_kernels.evidently_definitions import evidently_chi2
from support.floats import commit_seed, counts, property_test
from support.reference_drift import slow_homogeneity

SEEDS = 200


@property_test
@given(st.data())
def test_chi2_and_g_are_those_of_scipy(data: st.DataObject) -> None:
    a = data.draw(counts(2))
    b = data.draw(counts(a.size, a.size))
    assume(a.sum() > 0 and b.sum() > 0 and ((a + b) > 0).sum() > 1)
    table = np.stack([a, b])[:, (a + b) > 0]
    expected = stats.chi2_contingency(table, correction=False)
    assert_allclose(chi2_two_sample(a, b), expected[:2], rtol=1e-9, atol=1e-300)
    expected = stats.chi2_contingency(table, correction=False, lambda_="log-likelihood")
    # SciPy's G cancels: for G near 0 it has an error of 1e-11, whose root is in the p-value.
    assert_allclose(g_test(a, b), expected[:2], rtol=1e-7, atol=1e-5)
    chi2, g, _ = slow_homogeneity(a.tolist(), b.tolist())  # fractions, so exact to rounding
    assert_allclose([chi2_two_sample(a, b)[0], g_test(a, b)[0]], [chi2, g], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("test", [chi2_two_sample, g_test, psi_test, ks_binned])
def test_a_side_without_rows_has_no_result_and_one_bin_no_drift(test: object) -> None:
    assert callable(test)
    assert all(math.isnan(value) for value in test([0, 0], [1, 2]))
    assert all(math.isnan(value) for value in test([1, 2], [0, 0]))
    assert test([5], [9]) == (0.0, 1.0)
    assert test([5, 0], [9, 0]) == (0.0, 1.0)


def test_all_columns_at_once_have_the_p_values_of_each() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.integers(0, 50, (8, 5)), rng.integers(0, 50, (8, 5))
    b[3] = 0
    found = chi2_p_values(a, b)
    assert math.isnan(found[3])
    for index in (0, 1, 2, 4):
        assert_allclose(found[index], chi2_two_sample(a[index], b[index])[1], rtol=1e-12)


def test_the_psi_threshold_is_chi_squared_of_scipy() -> None:
    for bins, n, m, alpha in ((10, 100, 100, 0.05), (2, 1, 7, 0.5), (100, 10**6, 50, 1e-6)):
        expected = stats.chi2.isf(alpha, bins - 1) * (1 / n + 1 / m)
        assert_allclose(psi_threshold(bins, n, m, alpha), expected, rtol=1e-12)
    for arguments in ((1, 1, 1, 0.5), (2, 0, 1, 0.5), (2, 1, 0, 0.5), (2, 1, 1, 0.0)):
        with pytest.raises(ValueError, match="expected"):
            psi_threshold(*arguments)


def test_psi_has_the_p_value_of_its_threshold() -> None:
    a, b = [100, 120, 80], [95, 90, 115]
    statistic, p_value = psi_test(a, b)
    assert statistic == psi(a, b)
    assert_allclose(psi_threshold(3, 300, 300, p_value), statistic, rtol=1e-9)


def test_psi_of_small_or_one_sided_bins_has_the_p_value_of_chi2() -> None:
    for a, b in (([10, 10, 9], [10, 10, 10]), ([100, 50, 0], [90, 40, 20])):
        assert psi_test(a, b) == (psi(a, b), chi2_two_sample(a, b)[1])
    just_enough = [10, 10, 10], [10, 10, 10]
    assert psi_test(*just_enough) == (0.0, 1.0)


def test_binned_ks_is_at_most_the_exact_one_and_close_with_many_bins() -> None:
    rng = np.random.default_rng(commit_seed())
    a, b = rng.normal(size=4000), rng.normal(0.1, size=3000)
    edges = np.quantile(a, np.arange(1, 200) / 200)
    binned = [np.bincount(np.searchsorted(edges, x, side="right"), minlength=200) for x in (a, b)]
    statistic, p_value = ks_binned(*binned)
    exact = stats.ks_2samp(a, b, method="asymp")
    assert exact.statistic - 0.006 < statistic <= exact.statistic + 1e-12
    assert p_value >= exact.pvalue * (1 - 1e-9)


def alarms(rng: np.random.Generator, shares: list[float], n: int, m: int, alpha: float) -> dict:
    """How many of SEEDS windows without drift each test names, and Evidently's chi-squared."""
    found = dict.fromkeys(("chi2", "g", "psi", "psi over 0.1", "evidently"), 0)
    for _ in range(SEEDS):
        a, b = rng.multinomial(n, shares), rng.multinomial(m, shares)
        found["chi2"] += chi2_two_sample(a, b)[1] <= alpha
        found["g"] += g_test(a, b)[1] <= alpha
        found["psi"] += psi_test(a, b)[1] <= alpha
        found["psi over 0.1"] += psi(a, b, eps=1e-4) > 0.1
        names = np.arange(len(shares))
        found["evidently"] += evidently_chi2(np.repeat(names, a), np.repeat(names, b)) <= alpha
    return found


@pytest.mark.parametrize(("n", "m"), [(200, 200), (5000, 300)])
def test_windows_without_drift_alarm_at_most_as_often_as_alpha_says(n: int, m: int) -> None:
    alpha = 0.05
    found = alarms(np.random.default_rng(commit_seed()), [0.1] * 10, n, m, alpha)
    # Beyond it with probability 1e-6 if the true rate were 6.5 %, what an approximation may cost.
    most = stats.binom.isf(1e-6, SEEDS, 1.3 * alpha)
    for test in ("chi2", "g", "psi"):
        assert found[test] <= most, (test, found)


def test_fixed_thresholds_and_a_reference_taken_as_exact_alarm_without_drift() -> None:
    found = alarms(np.random.default_rng(commit_seed()), [0.1] * 10, 100, 100, 0.05)
    assert found["psi over 0.1"] > SEEDS * 0.5
    assert found["evidently"] > SEEDS * 0.25


def test_a_stated_shift_is_found() -> None:
    rng = np.random.default_rng(commit_seed())
    shares, shifted = [0.1] * 10, [0.13, *[0.1] * 8, 0.07]
    found = sum(
        psi_test(rng.multinomial(5000, shares), rng.multinomial(2000, shifted))[1] <= 0.05
        for _ in range(SEEDS)
    )
    # Non-central chi-squared: power 0.98; less than 0.9 has probability below 1e-9.
    assert found >= 0.9 * SEEDS
