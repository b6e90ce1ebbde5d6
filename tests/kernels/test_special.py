"""Tail probabilities against SciPy's."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy import integrate, stats
from scipy import special as oracle

from kedge_kernels import kolmogorov, special


@pytest.mark.parametrize("shape", [0.5, 1.0, 1.5, 4.5, 50.0, 499.5, 5000.0])
def test_the_upper_gamma_function_is_scipys(shape: float) -> None:
    points = [*shape * np.linspace(0.01, 3, 40), 1e-9, 600.0]
    found = [special.gamma_upper(shape, x) for x in points]
    assert_allclose(found, oracle.gammaincc(shape, points), rtol=1e-10, atol=1e-290)
    assert special.gamma_upper(shape, 0.0) == 1.0
    assert special.gamma_upper(shape, math.inf) == 0.0


def test_chi_squared_tails_and_thresholds_are_scipys() -> None:
    for freedom in (1, 2, 9, 300):
        for tail in (0.999, 0.5, 0.05, 1e-3, 1e-12):
            threshold = special.chi2_threshold(tail, float(freedom))
            assert_allclose(threshold, stats.chi2.isf(tail, freedom), rtol=1e-10)
            assert_allclose(special.chi2_tail(threshold, float(freedom)), tail, rtol=1e-8)
    assert special.chi2_tail(0.0, 0.0) == 1.0
    assert math.isnan(special.chi2_tail(math.nan, 3.0))


def test_normal_tails_are_scipys() -> None:
    for z in (-3.0, 0.0, 1.96, 8.0, 30.0):
        assert_allclose(special.normal_tail(z), stats.norm.sf(z), rtol=1e-12)


def test_the_bessel_function_is_scipys() -> None:
    points = 10 ** np.linspace(-6, 3, 60)
    found = [special.bessel_k_quarter(x) for x in points]
    assert_allclose(found, oracle.kve(0.25, points), rtol=1e-12)


def test_the_cramer_von_mises_limit_has_its_known_quantiles() -> None:
    # Anderson and Darling 1952, table 1.
    for x, tail in ((0.02480, 0.99), (0.11888, 0.50), (0.46136, 0.05), (1.16786, 0.001)):
        assert_allclose(special.cramer_von_mises_tail(x), tail, rtol=2e-4)
    below, above = (special.cramer_von_mises_tail(x) for x in (1.0, math.nextafter(1.0, 2.0)))
    assert_allclose(above, below, rtol=1e-10)
    assert special.cramer_von_mises_tail(0.0) == 1.0
    assert math.isnan(special.cramer_von_mises_tail(math.nan))


@pytest.mark.parametrize("x", [0.5, 1.5, 3.0, 8.0])
def test_the_cramer_von_mises_tail_is_that_of_the_weighted_sum_of_chi_squares(x: float) -> None:
    """Imhof 1961, Biometrika 48: the limit is the sum of chi-squares over (pi j)^2."""
    weights = 1 / (math.pi * np.arange(1, 400)) ** 2

    def integrand(u: float) -> float:
        angle = 0.5 * (np.arctan(weights * u).sum() - x * u)
        size = np.prod((1 + (weights * u) ** 2) ** 0.25)
        return float(np.sin(angle) / (u * size))

    value, _ = integrate.quad(integrand, 0, 6000, limit=20_000, epsabs=1e-11)
    # Cutting the sum at 400 terms moves the distribution by 2.5e-4 / 2.
    assert_allclose(special.cramer_von_mises_tail(x), 0.5 + value / math.pi, rtol=2e-3, atol=1e-8)


@pytest.mark.parametrize("size", [1, 2, 5, 20, 100, 140, 141, 500, 5000, 200_000])
def test_one_sample_ks_tails_are_scipys(size: int) -> None:
    for z in (0.3, 0.5, 0.8, 1.0, 1.36, 1.49, 1.8, 2.5, 4.0, 6.0):
        distance = z / math.sqrt(size)
        found, expected = (
            f(size, distance)
            for f in (kolmogorov.one_sample_tail, lambda n, d: stats.kstwo.sf(d, n))
        )
        rtol = 1e-5 if size > 140 and z < 1.49 else 1e-9
        assert_allclose(found, expected, rtol=rtol)
    assert kolmogorov.one_sample_tail(size, 1.0) == 0.0
    assert kolmogorov.one_sample_tail(size, 0.0) == 1.0
    assert math.isnan(kolmogorov.one_sample_tail(size, math.nan))


def test_the_limit_for_a_million_values_continues_the_sum() -> None:
    for z in (1.5, 2.0, 4.0):
        size = kolmogorov.SUM_SIZE_MAX
        exact = kolmogorov.one_sided_tail(size, z / math.sqrt(size))
        limit = kolmogorov.one_sided_tail(size + 1, z / math.sqrt(size + 1))
        assert_allclose(limit, exact, rtol=1e-3)
