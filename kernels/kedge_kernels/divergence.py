"""How far apart two histograms over the same bins are; sizes of drift, without a verdict.

Counts are one-dimensional, finite and not negative, else ValueError. Their shares are compared, so
the totals may differ. A histogram without rows has no shares: the result is nan. A bin that is
empty in both is ignored.

eps > 0 raises every share to at least eps, without rescaling the others: the usual way to keep PSI
and KL finite. With eps = 0 a bin that only one side has makes them infinite, as they are.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from kedge_kernels import _checks
from kedge_kernels._jit import brief_kernel, kernel, warm_up

Float64s = NDArray[np.float64]
Counts = NDArray[np.int64]

# The columns of `binned_stats`.
BINNED_STATS = ("psi", "kl", "js", "hellinger", "chi2", "g", "ks")
# More columns times bins give the GIL away: they take more than about 100 us.
BRIEF_BINS_MAX = 2000


def psi(expected_counts: ArrayLike, observed_counts: ArrayLike, eps: float = 0.0) -> float:
    """Population stability index: sum of (q - p) ln(q / p), in nats, >= 0, the Jeffreys divergence.

    Under no drift its mean is about (bins - 1) (1 / n + 1 / m), so that a fixed threshold of 0.1
    alarms all the time in small windows: see `psi_test`. Source: Jeffreys 1946, Proc. R. Soc. A
    186.
    """
    return _divergence("psi", expected_counts, observed_counts, eps)


def kl(expected_counts: ArrayLike, observed_counts: ArrayLike, eps: float = 0.0) -> float:
    """Kullback-Leibler divergence of the observed from the expected: sum of p ln(p / q), p the
    expected shares, in nats; >= 0 with eps = 0. As scipy.stats.entropy(expected, observed).
    Source: Kullback and Leibler 1951, Ann. Math. Stat. 22.
    """
    return _divergence("kl", expected_counts, observed_counts, eps)


def js(expected_counts: ArrayLike, observed_counts: ArrayLike, eps: float = 0.0) -> float:
    """Jensen-Shannon divergence in nats, 0 to ln 2, symmetric. Its square root is the distance that
    scipy.spatial.distance.jensenshannon and Evidently give. Source: Lin 1991, IEEE Trans. Inf.
    Theory 37.
    """
    return _divergence("js", expected_counts, observed_counts, eps)


def hellinger(expected_counts: ArrayLike, observed_counts: ArrayLike, eps: float = 0.0) -> float:
    """Hellinger distance, sqrt(1/2 sum of (sqrt p - sqrt q)^2): 0 to 1, symmetric. Source:
    Hellinger 1909, J. Reine Angew. Math. 136.
    """
    return _divergence("hellinger", expected_counts, observed_counts, eps)


def binned_stats(
    reference_counts: Counts, current_counts: Counts, out: Float64s, eps: float = 0.0
) -> None:
    """All of BINNED_STATS of every column in one pass: out[f, k] is statistic k of column f.

    reference_counts, current_counts: int64[F, bins + 1], as of a `Sketch`; the last bin, missing
    values, counts as a bin everywhere but in "ks", the largest difference of the distribution
    functions at the edges, among values that are not missing. out: float64[F, 7]. "chi2" and "g"
    are the statistics of `chi2_two_sample` and `g_test`. nan where a side has no rows.
    Raises ValueError for other shapes or types, and if eps is not in [0, 1).
    """
    _check_counts("reference_counts", reference_counts)
    _check_counts("current_counts", current_counts)
    if reference_counts.shape != current_counts.shape or reference_counts.shape[1] < 2:
        raise ValueError(
            "reference_counts and current_counts: expected the same shape [F, bins + 1], got "
            f"{list(reference_counts.shape)} and {list(current_counts.shape)}"
        )
    expected = (len(reference_counts), len(BINNED_STATS))
    if out.shape != expected or out.dtype != np.float64 or not out.flags.c_contiguous:
        raise ValueError(
            f"out: expected contiguous float64{list(expected)}, got {out.dtype}{list(out.shape)}"
        )
    _check_eps(eps)
    # One type to Numba, whoever owns the counts: those of a `Reference` are read-only.
    reference = np.ascontiguousarray(reference_counts).view()
    reference.setflags(write=False)
    current = np.require(current_counts, requirements=("C", "W"))
    fold = binned_stats_brief if current.size <= BRIEF_BINS_MAX else binned_stats_columns
    fold(reference, current, eps, out)


@kernel
def excess(x: float) -> float:
    """(1 + x) ln(1 + x) - x for x >= -1: what a count of 1 + x times its expectation adds to a
    likelihood ratio. Without the linear part, which sums to zero over all bins, nothing of first
    order has to cancel: with logarithms of ratios a G of 1e-8 kept two digits.
    """
    return (1.0 + x) * math.log1p(x) - x if x > -1.0 else 1.0


@kernel
def share_terms(p: float, q: float) -> tuple[float, float, float, float]:
    """What a bin with these shares adds to psi, kl, js and the square of hellinger."""
    root = math.sqrt(p) - math.sqrt(q)
    squared = 0.5 * root * root
    if p == q:
        return 0.0, 0.0, 0.0, squared
    # The linear parts of the two cancel: p and q lie as far from their middle.
    x = (p - q) / (p + q)
    half = 0.25 * (p + q) * (excess(x) + excess(-x))
    if p <= 0.0:
        return np.inf, 0.0, half, squared
    if q <= 0.0:
        return np.inf, np.inf, half, squared
    ratio = math.log(p / q)
    return (p - q) * ratio, p * ratio, half, squared


@kernel
def divergences(
    expected: Float64s, observed: Float64s, eps: float
) -> tuple[float, float, float, float]:
    """(psi, kl, js, hellinger) of two histograms; all nan if one is empty."""
    total_expected = expected.sum()
    total_observed = observed.sum()
    if not (total_expected > 0.0 and total_observed > 0.0):
        return np.nan, np.nan, np.nan, np.nan
    psi_sum = kl_sum = js_sum = squared = 0.0
    for index in range(expected.size):
        p = max(expected[index] / total_expected, eps)
        q = max(observed[index] / total_observed, eps)
        terms = share_terms(p, q)
        psi_sum += terms[0]
        kl_sum += terms[1]
        js_sum += terms[2]
        squared += terms[3]
    return psi_sum, kl_sum, max(js_sum, 0.0), math.sqrt(squared)


@kernel
def chi2_and_g(a: float, b: float, total_a: float, total_b: float) -> tuple[float, float]:
    """What a bin with counts a and b, not both 0, adds to the two statistics."""
    # Exact up to 2**53; everything else is a ratio of it.
    crosswise = a * total_b - b * total_a
    chi2 = crosswise / (a + b) * (crosswise / total_a / total_b)
    expected_a = (a + b) * total_a / (total_a + total_b)
    expected_b = (a + b) * total_b / (total_a + total_b)
    g = expected_a * excess(crosswise / ((a + b) * total_a))
    g += expected_b * excess(-crosswise / ((a + b) * total_b))
    return chi2, 2.0 * g


@kernel
def binned_stats_columns(reference: Counts, current: Counts, eps: float, out: Float64s) -> None:
    """`binned_stats` without its checks."""
    features, bins = reference.shape
    for feature in range(features):
        n = m = 0
        for index in range(bins):
            n += reference[feature, index]
            m += current[feature, index]
        if n == 0 or m == 0:
            out[feature, :] = np.nan
            continue
        n_present = max(n - reference[feature, bins - 1], 1)
        m_present = max(m - current[feature, bins - 1], 1)
        psi_sum = kl_sum = js_sum = squared = chi2 = g = ks = 0.0
        below_a = below_b = 0
        for index in range(bins):
            a = reference[feature, index]
            b = current[feature, index]
            terms = share_terms(max(a / n, eps), max(b / m, eps))
            psi_sum += terms[0]
            kl_sum += terms[1]
            js_sum += terms[2]
            squared += terms[3]
            if a + b > 0:
                tests = chi2_and_g(float(a), float(b), float(n), float(m))
                chi2 += tests[0]
                g += tests[1]
            if index < bins - 1:
                below_a += a
                below_b += b
                ks = max(ks, abs(below_a / n_present - below_b / m_present))
        out[feature, 0] = psi_sum
        out[feature, 1] = kl_sum
        out[feature, 2] = max(js_sum, 0.0)
        out[feature, 3] = math.sqrt(squared)
        out[feature, 4] = chi2
        out[feature, 5] = max(g, 0.0)
        out[feature, 6] = ks


@brief_kernel
def binned_stats_brief(reference: Counts, current: Counts, eps: float, out: Float64s) -> None:
    """The same for what takes less than about 100 us."""
    binned_stats_columns(reference, current, eps, out)


def _divergence(name: str, expected: ArrayLike, observed: ArrayLike, eps: float) -> float:
    left = _checks.counts("expected_counts", expected)
    right = _checks.counts("observed_counts", observed)
    _checks.same_bins("expected_counts", left, "observed_counts", right)
    _check_eps(eps)
    return float(divergences(left, right, float(eps))[BINNED_STATS.index(name)])


def _check_eps(eps: float) -> None:
    if not 0.0 <= eps < 1.0:
        raise ValueError(f"eps: expected a share of at least 0 and less than 1, got {eps}")


def _check_counts(name: str, counts: Counts) -> None:
    if not isinstance(counts, np.ndarray) or counts.ndim != 2 or counts.dtype != np.int64:
        got = f"{counts.dtype}{list(counts.shape)}" if isinstance(counts, np.ndarray) else counts
        raise ValueError(f"{name}: expected int64[F, bins + 1], got {got}")


@warm_up
def _warm() -> None:
    psi([1, 2], [2, 1])
    for features in (1, BRIEF_BINS_MAX):
        counts = np.ones((features, 2), np.int64)
        binned_stats(counts, counts, np.empty((features, len(BINNED_STATS))))
