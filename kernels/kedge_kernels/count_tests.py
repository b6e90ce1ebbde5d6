"""Whether two histograms over the same bins come from one distribution: tests of counts.

Both sides are samples; none is taken as exact. Bins that are empty in both are ignored. (nan, nan)
if a side has no rows; (0, 1) if only one bin is left. Counts must be finite and not negative, else
ValueError.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from kedge_kernels import _checks
from kedge_kernels._jit import kernel, warm_up
from kedge_kernels.divergence import chi2_and_g, divergences
from kedge_kernels.kolmogorov import one_sample_tail
from kedge_kernels.special import chi2_tail, chi2_threshold

Float64s = NDArray[np.float64]
Result = tuple[float, float]

# Below it the distribution of PSI is not yet the one that its p-value takes.
PSI_EXPECTED_MIN = 10.0


def chi2_two_sample(counts_a: ArrayLike, counts_b: ArrayLike) -> Result:
    """Pearson's test of homogeneity: (statistic, p-value), bins - 1 degrees of freedom.

    Without Yates' correction, also for two bins: as scipy.stats.chi2_contingency([a, b],
    correction=False). Good where expected counts are 5 or more. Source: Pearson 1911, Biometrika 8.
    """
    chi2, _, freedom = _homogeneity(counts_a, counts_b)
    return chi2, float(chi2_tail(chi2, freedom))


def g_test(counts_a: ArrayLike, counts_b: ArrayLike) -> Result:
    """The likelihood ratio test of homogeneity: (G, p-value), bins - 1 degrees of freedom. As
    scipy.stats.chi2_contingency(…, correction=False, lambda_="log-likelihood"). Source: Wilks 1938,
    Ann. Math. Stat. 9.
    """
    _, g, freedom = _homogeneity(counts_a, counts_b)
    return g, float(chi2_tail(g, freedom))


def psi_test(expected_counts: ArrayLike, observed_counts: ArrayLike) -> Result:
    """(PSI, p-value) of two samples of n and m rows: PSI / (1/n + 1/m) is chi-squared with bins - 1
    degrees of freedom where every expected count of both samples is at least 10; elsewhere the
    p-value is that of `chi2_two_sample`, which holds with less. Source: Yurdakul and Naranjo 2020,
    J. Risk Model Validation 14.
    """
    expected, observed = _pair(expected_counts, observed_counts, "expected", "observed")
    n, m = expected.sum(), observed.sum()
    chi2, _, freedom = homogeneity(expected, observed)
    statistic = float(divergences(expected, observed, 0.0)[0])
    if not min(n, m) > 0:
        return float("nan"), float("nan")
    pooled = (expected + observed)[expected + observed > 0] / (n + m)
    if pooled.min() * min(n, m) < PSI_EXPECTED_MIN or not np.isfinite(statistic):
        return statistic, float(chi2_tail(chi2, freedom))
    return statistic, float(chi2_tail(statistic / (1 / n + 1 / m), freedom))


def psi_threshold(bins: int, rows_a: int, rows_b: int, alpha: float = 0.05) -> float:
    """The PSI that windows without drift exceed with probability alpha, where every bin expects at
    least 10 rows of each: chi-squared's quantile times (1 / rows_a + 1 / rows_b).

    bins: at least 2, those that hold rows; rows: at least 1. Source: as `psi_test`.
    """
    _checks.at_least("bins", bins, 2)
    _checks.at_least("rows_a", rows_a, 1)
    _checks.at_least("rows_b", rows_b, 1)
    quantile = chi2_threshold(_checks.probability("alpha", alpha), bins - 1.0)
    return float(quantile * (1 / rows_a + 1 / rows_b))


def ks_binned(counts_a: ArrayLike, counts_b: ArrayLike) -> Result:
    """Kolmogorov-Smirnov at the edges of ordered bins: (statistic, p-value).

    The statistic is at most the exact one, and within 0.001 of it with 100 bins; the p-value
    (asymptotic, for counts of rows) is therefore at least the exact one. Give the bins of values
    that are present, without that of missing ones.
    """
    first, second = _pair(counts_a, counts_b, "counts_a", "counts_b")
    n, m = first.sum(), second.sum()
    if not min(n, m) > 0:
        return float("nan"), float("nan")
    statistic = float(np.abs(np.cumsum(first) / n - np.cumsum(second) / m).max())
    return statistic, float(one_sample_tail(max(round(n * m / (n + m)), 1), statistic))


def chi2_p_values(reference_counts: ArrayLike, current_counts: ArrayLike) -> Float64s:
    """float64[F], the p-value of `chi2_two_sample` for every column of two sketches.

    reference_counts, current_counts: [F, bins + 1]; missing values are a bin. nan where a side has
    no rows.
    """
    first = _checks.counts("reference_counts", reference_counts, 2)
    second = _checks.counts("current_counts", current_counts, 2)
    _checks.same_bins("reference_counts", first, "current_counts", second)
    out = np.empty(len(first))
    homogeneity_columns(first, second, out)
    return out


@kernel
def homogeneity(first: Float64s, second: Float64s) -> tuple[float, float, float]:
    """(chi-squared, G, degrees of freedom); nan, nan and 0 if a side is empty."""
    total_first = first.sum()
    total_second = second.sum()
    if not (total_first > 0.0 and total_second > 0.0):
        return np.nan, np.nan, 0.0
    chi2 = g = 0.0
    freedom = -1.0
    for index in range(first.size):
        if first[index] + second[index] > 0.0:
            terms = chi2_and_g(first[index], second[index], total_first, total_second)
            chi2 += terms[0]
            g += terms[1]
            freedom += 1.0
    return chi2, max(g, 0.0), freedom


@kernel
def homogeneity_columns(first: Float64s, second: Float64s, out: Float64s) -> None:
    """The p-value of chi-squared of each row."""
    for feature in range(first.shape[0]):
        chi2, _, freedom = homogeneity(first[feature], second[feature])
        out[feature] = chi2_tail(chi2, freedom)


def _homogeneity(counts_a: ArrayLike, counts_b: ArrayLike) -> tuple[float, float, float]:
    chi2, g, freedom = homogeneity(*_pair(counts_a, counts_b, "counts_a", "counts_b"))
    return float(chi2), float(g), float(freedom)


def _pair(
    counts_a: ArrayLike, counts_b: ArrayLike, name_a: str, name_b: str
) -> tuple[Float64s, Float64s]:
    first, second = _checks.counts(name_a, counts_a), _checks.counts(name_b, counts_b)
    _checks.same_bins(name_a, first, name_b, second)
    return first, second


@warm_up
def _warm() -> None:
    psi_test([20, 20], [20, 21])
    psi_threshold(2, 10, 10)
    ks_binned([1, 2], [2, 1])
    chi2_p_values([[1, 2]], [[2, 1]])
