"""Tail probabilities that the tests of this package need, as kernels: scalars in, a scalar out.

Relative errors are below 1e-10 unless a docstring says otherwise; SciPy is the oracle.
"""

from __future__ import annotations

import math

import numpy as np

from kedge_kernels._jit import kernel

# Terms of a series or continued fraction; sqrt(a) times about 10 are needed for a shape of a.
TERMS_MAX = 100_000
SMALLEST = 1e-300
PRECISION = 1e-16


@kernel
def gamma_upper(shape: float, x: float) -> float:
    """Q(shape, x), the regularised upper incomplete gamma function: shape > 0, x >= 0, may be inf.

    Source: Press et al., Numerical Recipes, 3rd ed., section 6.2: series below shape + 1, Lentz's
    continued fraction above.
    """
    if x <= 0.0:
        return 1.0
    if x == np.inf:
        return 0.0
    factor = math.exp(-x + shape * math.log(x) - math.lgamma(shape))
    if x < shape + 1.0:
        term = 1.0 / shape
        total = term
        for index in range(1, TERMS_MAX):
            term *= x / (shape + index)
            total += term
            if term < total * PRECISION:
                break
        return max(1.0 - total * factor, 0.0)
    b = x + 1.0 - shape
    c = 1.0 / SMALLEST
    d = 1.0 / b
    fraction = d
    for index in range(1, TERMS_MAX):
        a = -index * (index - shape)
        b += 2.0
        d = a * d + b
        d = 1.0 / (d if abs(d) > SMALLEST else SMALLEST)
        c = b + a / c
        c = c if abs(c) > SMALLEST else SMALLEST
        fraction *= d * c
        if abs(d * c - 1.0) < PRECISION * 10.0:
            break
    return min(fraction * factor, 1.0)


@kernel
def chi2_tail(statistic: float, freedom: float) -> float:
    """P(chi-squared with `freedom` degrees >= statistic); NaN where either is NaN, 1 for
    freedom <= 0, where the statistic can only be 0.
    """
    if math.isnan(statistic) or math.isnan(freedom):
        return np.nan
    if freedom <= 0.0:
        return 1.0
    return gamma_upper(freedom / 2.0, statistic / 2.0)


@kernel
def chi2_threshold(tail: float, freedom: float) -> float:
    """The statistic with P(chi-squared >= it) = tail: tail in (0, 1), freedom >= 1."""
    high = freedom + 1.0
    while chi2_tail(high, freedom) > tail:
        high *= 2.0
    low = 0.0
    for _ in range(200):
        middle = (low + high) / 2.0
        if middle in (low, high):
            break
        if chi2_tail(middle, freedom) > tail:
            low = middle
        else:
            high = middle
    return high


@kernel
def normal_tail(z: float) -> float:
    """P(standard normal >= z)."""
    return 0.5 * math.erfc(z / math.sqrt(2.0))


@kernel
def bessel_k_quarter(x: float) -> float:
    """exp(x) K(x), the scaled modified Bessel function of the second kind of order 1/4, x > 0.

    The trapezoid rule for the integral of exp(-x (cosh t - 1)) cosh(t / 4) over t >= 0 is exact to
    rounding at this step, for the integrand is analytic in a strip. Source: DLMF 10.32.9.
    """
    step = min(0.125, 0.5 / math.sqrt(x))  # the integrand narrows as 1 / sqrt(x)
    total = 0.5
    t = step
    while True:
        exponent = x * (math.cosh(t) - 1.0)
        if exponent > 745.0:
            return total * step
        total += math.exp(-exponent) * math.cosh(t / 4.0)
        t += step


@kernel
def cramer_von_mises_tail(x: float) -> float:
    """P(the limit of the Cramer-von Mises statistic >= x).

    Sources: up to 1, Csörgő and Faraway 1996, J. R. Stat. Soc. B 58, eq. 1.3; beyond, Smirnov's
    integral (Anderson and Darling 1952, Ann. Math. Stat. 23, eq. 4.35), which keeps its relative
    precision in the tail, where one minus the first would be noise.
    """
    if not x > 0.003:  # P(below) < 1e-17; also NaN, which goes through
        return np.nan if math.isnan(x) else 1.0
    if x > 1.0:
        return smirnov_integral(x)
    below = 0.0
    for k in range(20):
        y = 4.0 * k + 1.0
        q = y * y / (16.0 * x)
        u = math.exp(math.lgamma(k + 0.5) - math.lgamma(k + 1.0)) / (math.pi**1.5 * math.sqrt(x))
        # exp(-q) K(q), and K is scaled by another exp(q).
        term = u * math.sqrt(y) * math.exp(-2.0 * q) * bessel_k_quarter(q)
        below += term
        if term < 1e-17:
            break
    return max(1.0 - below, 0.0)


@kernel
def smirnov_integral(x: float) -> float:
    """1/pi times the integral over t in (pi, 2 pi) of 2/t sqrt(-t / sin t) exp(-x t^2 / 2), for
    x >= 1; what the next interval takes away is below 1e-17 of it.

    With t = (3 - cos a) pi / 2 both ends are smooth, and the midpoint rule converges fast.
    """
    points = 400
    total = 0.0
    for index in range(points):
        a = (index + 0.5) * math.pi / points
        t = (3.0 - math.cos(a)) * math.pi / 2.0
        weight = 2.0 / t * math.sqrt(-t / math.sin(t)) * math.sin(a) * math.pi / 2.0
        total += weight * math.exp(-x * t * t / 2.0)
    return total / points
