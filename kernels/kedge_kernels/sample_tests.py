"""Whether two samples of numbers come from one distribution, value by value (exact, not binned).

Every test drops NaN (a missing value), orders infinities as numbers, counts -0.0 as 0.0, and
answers (nan, nan) where a sample has too few values left.
"""

from __future__ import annotations

from math import gcd
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from kedge_kernels import _checks
from kedge_kernels._jit import warm_up
from kedge_kernels.kolmogorov import one_sample_tail, two_sample_tail
from kedge_kernels.sample_kernels import (
    anderson_darling_midrank,
    anderson_darling_variance,
    ks_and_w1,
    ks_and_w1_columns,
    merge_tables,
    rank_deviation,
)
from kedge_kernels.special import cramer_von_mises_tail

Float64s = NDArray[np.float64]
Result = tuple[float, float]

# As SciPy 1.17 chooses, so that results compare.
KS_EXACT_SIZE_MAX = 10_000
CVM_EXACT_SIZE_MAX = 20
METHODS = ("auto", "exact", "asymptotic")
NO_RESULT = (float("nan"), float("nan"))
# Scholz and Stephens 1987, table 2: critical values of the standardised statistic for two samples.
AD_LEVELS = (0.25, 0.1, 0.05, 0.025, 0.01, 0.005, 0.001)
AD_CRITICAL = (0.325, 1.226, 1.961, 2.718, 3.752, 4.592, 6.546)
AD_FIT = np.polyfit(AD_CRITICAL, np.log(AD_LEVELS), 2)


def ks_2samp(sample_a: ArrayLike, sample_b: ArrayLike, method: str = "auto") -> Result:
    """Kolmogorov-Smirnov, two-sided: (largest difference of the distribution functions, p-value).

    sample_a [n], sample_b [m]. method "exact": over all orders of the values (conservative with
    ties), O(n m statistic); "asymptotic": the one-sample distribution of size n m / (n + m);
    "auto": exact while both have at most 10,000 values. As scipy.stats.ks_2samp.
    Sources: Hodges 1958, Arkiv för Matematik 3; Simard and L'Ecuyer 2011, J. Stat. Softw. 39(11).
    """
    _check_method(method)
    first, second = _samples(sample_a, sample_b)
    n, m = first.size, second.size
    if min(n, m) == 0:
        return NO_RESULT
    height, _ = ks_and_w1(first, second)
    return height / (n * m), ks_p_value(height, n, m, method)


def ks_p_value(height: int, n: int, m: int, method: str = "auto") -> float:
    """P-value of the KS statistic height / (n m), of n and m values, method as of `ks_2samp`."""
    is_exact = method == "exact" or (method == "auto" and max(n, m) <= KS_EXACT_SIZE_MAX)
    if is_exact:
        return float(two_sample_tail(n, m, int(height)))
    return float(one_sample_tail(max(round(n * m / (n + m)), 1), height / (n * m)))


def wasserstein_1d(sample_a: ArrayLike, sample_b: ArrayLike) -> Result:
    """(Wasserstein-1 distance in the unit of the values, nan: it has no p-value).

    The area between the distribution functions. inf where the samples have different shares of
    -inf or of +inf. As scipy.stats.wasserstein_distance. Source: Vallender 1974, Theory Probab.
    Appl. 18.
    """
    first, second = _samples(sample_a, sample_b)
    if min(first.size, second.size) == 0:
        return NO_RESULT
    return float(ks_and_w1(first, second)[1]), float("nan")


def cramer_von_mises(sample_a: ArrayLike, sample_b: ArrayLike, method: str = "auto") -> Result:
    """Two-sample Cramér-von Mises: (T, p-value); needs two values in each sample.

    method "exact": over all orders of the values (conservative with ties), seconds with 20 and 19
    values, much more beyond; "asymptotic": the limit, with T's exact mean and variance; "auto":
    exact while both have at most 20 values. As scipy.stats.cramervonmises_2samp, except that small
    p-values are accurate, and that ties between samples of different sizes are no evidence (see
    `sample_kernels.rank_deviation`). Sources: Anderson 1962, Ann. Math. Stat. 33; Xiao et al. 2006,
    J. Stat. Softw. 17(8).
    """
    _check_method(method)
    first, second = _samples(sample_a, sample_b)
    n, m = first.size, second.size
    if min(n, m) < 2:
        return NO_RESULT
    deviation = float(rank_deviation(first, second))
    total, pairs = n + m, n * m
    statistic = deviation / (pairs * total) - (4 * pairs - 1) / (6 * total)
    if method == "exact" or (method == "auto" and max(n, m) <= CVM_EXACT_SIZE_MAX):
        return statistic, _cvm_exact(round(4 * deviation), n, m)
    mean = (1 + 1 / total) / 6
    factor = (total + 1) * (4 * pairs * total - 3 * (n**2 + m**2) - 2 * pairs)
    variance_times_45 = factor / (total**2 * 4 * pairs)
    scaled = 1 / 6 + (statistic - mean) / variance_times_45**0.5
    return statistic, float(cramer_von_mises_tail(scaled))


def anderson_darling(sample_a: ArrayLike, sample_b: ArrayLike) -> Result:
    """Two-sample Anderson-Darling with midranks: (standardised A^2, p-value).

    The p-value is interpolated in a table that ends at 0.25 and 0.001: these two mean "at least"
    and "at most". (nan, nan) with less than four values in all or all of them equal. As
    scipy.stats.anderson_ksamp, variant "midrank". Source: Scholz and Stephens 1987, J. Am. Stat.
    Assoc. 82, section 5.
    """
    first, second = _samples(sample_a, sample_b)
    n, m = first.size, second.size
    if min(n, m) == 0 or n + m < 4 or max(first[-1], second[-1]) == min(first[0], second[0]):
        return NO_RESULT
    squared = anderson_darling_midrank(first, second)
    statistic = float((squared - 1) / np.sqrt(anderson_darling_variance(n, m)))
    if statistic < AD_CRITICAL[0]:
        return statistic, AD_LEVELS[0]
    if statistic > AD_CRITICAL[-1]:
        return statistic, AD_LEVELS[-1]
    return statistic, float(np.exp(np.polyval(AD_FIT, statistic)))


def sorted_columns(data: ArrayLike) -> NDArray[Any]:
    """[F, n], each column of `data` [n, F] sorted with NaN last: the reference of `ks_w1_exact`.

    float16 and float32 become float32, all else float64.
    """
    array = _checks.numeric("data", data, 2)
    is_small = array.dtype in (np.float16, np.float32)
    columns = np.array(array.T, np.float32 if is_small else np.float64, order="C")
    columns.sort(axis=1)
    return columns


def ks_w1_exact(reference_sorted: NDArray[Any], current: ArrayLike) -> tuple[Float64s, Float64s]:
    """(KS statistics, Wasserstein distances), both float64[F], of all columns at once.

    reference_sorted: [F, n], of `sorted_columns`; current: [m, F], rows as they come. NaN values
    are dropped; nan where a column has none left. Compares in float32 if the reference is float32,
    else in float64. ValueError if the number of columns differs.
    """
    if reference_sorted.ndim != 2 or reference_sorted.dtype not in (np.float32, np.float64):
        raise ValueError(
            "reference_sorted: expected float32 or float64 [F, n], "
            f"got {reference_sorted.dtype}{list(reference_sorted.shape)}"
        )
    array = _checks.numeric("current", current, 2)
    if array.shape[1] != len(reference_sorted):
        raise ValueError(
            f"current: expected {len(reference_sorted)} columns, got {list(array.shape)}"
        )
    columns = np.array(array.T, reference_sorted.dtype, order="C")
    columns.sort(axis=1)
    out = np.empty((len(columns), 2))
    heights = np.empty(len(columns), np.int64)
    reference = np.require(reference_sorted, requirements=("C", "W"))
    ks_and_w1_columns(reference, columns, heights, out)
    return out[:, 0], out[:, 1]


def _samples(sample_a: ArrayLike, sample_b: ArrayLike) -> tuple[Float64s, Float64s]:
    return (
        _checks.sorted_sample("sample_a", sample_a),
        _checks.sorted_sample("sample_b", sample_b),
    )


def _check_method(method: str) -> None:
    if method not in METHODS:
        raise ValueError(f"method: expected one of {', '.join(METHODS)}, got {method!r}")


def _cvm_exact(deviation_times_4: int, n: int, m: int) -> float:
    """P(T >= that of U = deviation / 4) over all orders, by the frequencies of a lattice walk."""
    lcm = n * m // gcd(n, m)
    step_n, step_m = lcm // n, lcm // m
    pairs = n * m
    threshold = lcm**2 * (n + m) * (6 * deviation_times_4 - 4 * pairs * (4 * pairs - 1))
    threshold //= 24 * pairs**2
    empty = (np.empty(0, np.int64), np.empty(0))
    tables = [(np.zeros(1, np.int64), np.ones(1))] + [empty] * n
    for u in range(m + 1):
        table = empty
        for v in range(n + 1):
            shift = (step_n * v - step_m * u) ** 2
            table = merge_tables(*table, *tables[v], shift)
            tables[v] = table
    values, counts = tables[n]
    return float(counts[values >= threshold].sum() / counts.sum())


@warm_up
def _warm() -> None:
    for method in ("exact", "asymptotic"):
        for second in ([3.0, 4.0], [3.0, 4.0, 5.0]):
            ks_2samp([1.0, 2.0], second, method)
            cramer_von_mises([1.0, 2.0], second, method)
    anderson_darling([1.0, 2.0], [3.0, 4.0])
    for dtype in (np.float32, np.float64):
        data = np.zeros((1, 1), dtype)
        ks_w1_exact(sorted_columns(data), data)
