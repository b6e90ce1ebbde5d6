"""The mixture sequential test and CUPED against integration, least squares and simulation."""

from __future__ import annotations

import math
from typing import Any

import numba
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import quad
from scipy.stats import norm

from kedge_kernels._frames import pack
from kedge_kernels.mean_difference import Cuped, MixtureSprt
from support.seeds import generator

RUNS = 20 if numba.config.DISABLE_JIT else 400
STEPS = 150 if numba.config.DISABLE_JIT else 1500
ALPHA = 0.05
FALSE_ALARMS_MAX = RUNS * ALPHA + 5 * math.sqrt(RUNS * ALPHA * (1 - ALPHA))


def test_the_ratio_is_the_likelihood_averaged_over_normal_differences() -> None:
    rng = np.random.default_rng(3)
    test = MixtureSprt(tau=0.5, variance=2.0, count_min=2)
    a, b = rng.normal(0.3, 1, 40), rng.normal(0, 1, 40)
    test.update(a, b)
    d, error = a.mean() - b.mean(), math.sqrt(2.0 / 40)

    def ratio(effect: float) -> float:
        chance = norm.pdf(effect, 0, 0.5)
        return float(chance * norm.pdf(d, effect, error) / norm.pdf(d, 0, error))

    expected, _ = quad(ratio, -5, 5)
    assert math.isclose(math.exp(test.log_e_value), expected, rel_tol=1e-6)
    assert math.isclose(test.difference, d, rel_tol=1e-9)


@settings(max_examples=40, deadline=None)
@given(
    pairs=st.lists(st.tuples(st.floats(-100, 100), st.floats(-100, 100)), min_size=3, max_size=40)
)
def test_the_ratio_is_the_formulas_with_both_variances_estimated(
    pairs: list[tuple[float, float]],
) -> None:
    a, b = np.array(pairs).T
    test = MixtureSprt(tau=1.5, count_min=3)
    test.update(a, b)
    v = float(np.var(a, ddof=1) + np.var(b, ddof=1))
    if v < 1e-6:
        return
    n, d = len(pairs), float(a.mean() - b.mean())
    wide = v + n * 1.5**2
    expected = 0.5 * math.log(v / wide) + n**2 * 1.5**2 * d**2 / (2 * v * wide)
    assert math.isclose(test.log_e_value, expected, rel_tol=1e-6, abs_tol=1e-6)


@pytest.mark.parametrize("variance", [0.0, 2.0])
def test_equal_means_are_rejected_at_most_alpha_often_under_looks_at_every_pair(
    variance: float,
) -> None:
    rng = generator(f"msprt {variance}")
    rejections = 0
    for _ in range(RUNS):
        test = MixtureSprt(tau=0.3, alpha=ALPHA, variance=variance)
        test.update(rng.normal(1, 1, STEPS), rng.normal(1, 1, STEPS))
        rejections += test.rejected
        assert test.rejected == (test.p_value <= ALPHA)
    assert rejections <= FALSE_ALARMS_MAX


def test_a_difference_of_a_third_of_the_spread_is_found_within_1500_pairs() -> None:
    rng = generator("msprt power")
    for _ in range(20):
        test = MixtureSprt(tau=0.3)
        test.update(rng.normal(1.3, 1, 1500), rng.normal(1, 1, 1500))
        assert test.rejected
        assert 0 <= test.p_value < 0.05


def test_a_p_value_never_grows_and_a_rejection_stays() -> None:
    rng = generator("msprt latch")
    test = MixtureSprt(tau=0.3, variance=2.0)
    before = 1.0
    for shift in (1.0, -1.0, 0.0):
        test.update(rng.normal(shift, 1, 200), rng.normal(0, 1, 200))
        assert test.p_value <= before
        before = test.p_value
    assert test.rejected


def test_constant_arms_decide_nothing() -> None:
    test = MixtureSprt(tau=1.0)
    test.update(np.ones(200), np.zeros(200))
    assert (test.p_value, test.rejected, test.count) == (1.0, False, 200)


def test_the_ratio_does_not_overflow() -> None:
    test = MixtureSprt(tau=1.0, variance=1e-6)
    test.update(np.full(1000, 1e6), np.zeros(1000))
    assert math.isfinite(test.log_e_value)
    assert test.p_value == 0.0


@settings(max_examples=40, deadline=None)
@given(
    rows=st.lists(st.tuples(st.floats(-1e3, 1e3), st.floats(-1e3, 1e3)), min_size=2, max_size=40),
    cut=st.integers(0, 40),
)
def test_cuped_is_least_squares_however_the_rows_are_split_and_merged(
    rows: list[tuple[float, float]], cut: int
) -> None:
    y, x = np.array(rows).T
    whole, first, second = Cuped(), Cuped(), Cuped()
    whole.update(y, x)
    first.update(y[:cut], x[:cut])
    second.update(y[cut:], x[cut:])
    first.merge(second)
    assert np.allclose(first._moments, whole._moments, rtol=1e-9, atol=1e-6)
    if np.var(x) > 1e-3:
        slope = np.polyfit(x, y, 1)[0]
        assert math.isclose(whole.theta, slope, rel_tol=1e-6, abs_tol=1e-6)
    if np.var(x) > 1e-3 and np.var(y) > 1e-3:
        left = 1 - np.corrcoef(x, y)[0, 1] ** 2
        assert math.isclose(whole.variance_ratio, left, rel_tol=1e-6, abs_tol=1e-6)
    adjusted = whole.adjust(y, x)
    assert math.isclose(adjusted.mean(), y.mean(), rel_tol=1e-6, abs_tol=1e-6)
    assert np.var(adjusted) <= np.var(y) * (1 + 1e-9) + 1e-9


def test_a_covariate_with_correlation_09_leaves_a_fifth_of_the_variance() -> None:
    rng = generator("cuped")
    x = rng.normal(0, 1, 20_000)
    y = 0.9 * x + math.sqrt(1 - 0.81) * rng.normal(0, 1, 20_000) + 5
    cuped = Cuped()
    cuped.update(y, x)
    assert 0.17 < np.var(cuped.adjust(y, x)) < 0.21
    assert 0.17 < cuped.variance_ratio < 0.21


def test_a_constant_covariate_changes_nothing() -> None:
    cuped = Cuped()
    assert (cuped.theta, cuped.variance_ratio, cuped.count) == (0.0, 1.0, 0)
    cuped.update([1.0, 2.0], [3.0, 3.0])
    assert cuped.adjust([1.0, 2.0], [3.0, 3.0]).tolist() == [1.0, 2.0]
    cuped.update([], [])
    assert cuped.count == 2


def test_states_are_saved_and_go_on() -> None:
    rng = generator("difference bytes")
    test, cuped = MixtureSprt(0.3, 0.1, 0.0, 10), Cuped()
    for _ in range(2):
        a, b = rng.random((2, 30))
        test.update(a, b)
        cuped.update(a, b)
        test = MixtureSprt.from_bytes(test.to_bytes())
        cuped = Cuped.from_bytes(cuped.to_bytes())
    assert (test.count, cuped.count) == (60, 60)
    for wrong in (b"", test.to_bytes()[:-1]):
        with pytest.raises(ValueError, match="state of"):
            MixtureSprt.from_bytes(wrong)
    with pytest.raises(ValueError, match="expected finite numbers"):
        MixtureSprt.from_bytes(pack("MixtureSprt", [math.nan] * 11))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: MixtureSprt(0.0), "tau: expected"),
        (lambda: MixtureSprt(math.inf), "tau: expected"),
        (lambda: MixtureSprt(1.0, alpha=1.0), "alpha: expected"),
        (lambda: MixtureSprt(1.0, variance=-1.0), "variance: expected"),
        (lambda: MixtureSprt(1.0).update([1.0], [1.0, 2.0]), "a and b: expected equal lengths"),
        (lambda: MixtureSprt(1.0).update([math.nan], [1.0]), "a and b: expected finite"),
        (lambda: Cuped().update([1.0], [math.inf]), "y and x: expected finite"),
    ],
)
def test_wrong_arguments_are_refused(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()
