"""Evidently's definitions of drift (0.7), under its name: for those who compare, not to alarm by.

Why they are not Kedge's own: PSI and KL bin the range of both samples together, so that one outlier
in 5,000 took a PSI from 0.058 to 0.00007; chi-squared takes the reference as exact, so that at a
nominal 5 % half of the windows without drift alarm if both have one size.

reference, current: [n], [m], numbers; with `categorical`, anything hashable. NaN and None are
missing. ValueError where one has no values.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kedge_kernels import _checks
from kedge_kernels.sample_tests import wasserstein_1d
from kedge_kernels.special import chi2_tail

Float64s = NDArray[np.float64]

# Numbers with no more distinct values in the reference than this are counted, not binned.
DISTINCT_MAX = 20


def evidently_psi(
    reference: Iterable[Any], current: Iterable[Any], categorical: bool = False
) -> float:
    """Its "psi": over Sturges' bins of both samples, empty shares replaced by 0.0001 or less."""
    p, q = _filled(*_shares(reference, current, categorical))
    return float(((p - q) * np.log(p / q)).sum())


def evidently_kl(
    reference: Iterable[Any], current: Iterable[Any], categorical: bool = False
) -> float:
    """Its "kl_div": of current from reference, in the same bins, rescaled after the filling."""
    p, q = _filled(*_shares(reference, current, categorical))
    p, q = p / p.sum(), q / q.sum()
    return float((p * np.log(p / q)).sum())


def evidently_js(
    reference: Iterable[Any], current: Iterable[Any], categorical: bool = False
) -> float:
    """Its "jensenshannon": the distance, the root of the divergence in nats, in the same bins."""
    p, q = _shares(reference, current, categorical)
    p, q = p / p.sum(), q / q.sum()
    middle = (p + q) / 2
    with np.errstate(divide="ignore", invalid="ignore"):
        left = np.where(p > 0, p * np.log(p / middle), 0.0)
        right = np.where(q > 0, q * np.log(q / middle), 0.0)
    return float(np.sqrt(max(left.sum() + right.sum(), 0.0) / 2))


def evidently_hellinger(
    reference: Iterable[Any], current: Iterable[Any], categorical: bool = False
) -> float:
    """Its "hellinger": over Sturges' bins of the distinct values of both samples."""
    first, second = _present(reference), _present(current)
    if categorical:
        p, q = _category_shares(first, second)
    else:
        distinct = list(set(first) | set(second))
        p, q = _histogram_shares(np.array(distinct, np.float64), first, second)
        p, q = p / p.sum(), q / q.sum()
    return float(np.sqrt(1 - min(float(np.sqrt(p * q).sum()), 1.0)))


def evidently_wasserstein(reference: Iterable[Any], current: Iterable[Any]) -> float:
    """Its "wasserstein": the distance divided by the reference's standard deviation, at least
    0.001.
    """
    first = np.array(_present(reference), np.float64)
    second = np.array(_present(current), np.float64)
    return wasserstein_1d(first, second)[0] / max(float(np.std(first)), 0.001)


def evidently_chi2(reference: Iterable[Any], current: Iterable[Any]) -> float:
    """Its "chisquare": the p-value of the current counts against the reference's shares."""
    first, second = _present(reference), _present(current)
    in_first, in_second = Counter(first), Counter(second)
    names = list(in_first | in_second)
    expected = np.array([in_first[name] * len(second) / len(first) for name in names])
    observed = np.array([in_second[name] for name in names], np.float64)
    with np.errstate(divide="ignore"):
        statistic = float(((observed - expected) ** 2 / expected).sum())
    return float(chi2_tail(statistic, len(names) - 1.0)) if len(names) > 1 else 1.0


def _present(values: Iterable[Any]) -> list[Any]:
    listed = values.tolist() if isinstance(values, np.ndarray) else list(values)
    found = [value for value in listed if value is not None and value == value]  # noqa: PLR0124
    if not found:
        raise ValueError("reference and current: expected at least 1 value in each, got 0")
    return found


def _shares(
    reference: Iterable[Any], current: Iterable[Any], categorical: bool
) -> tuple[Float64s, Float64s]:
    first, second = _present(reference), _present(current)
    if categorical or len(set(first)) <= DISTINCT_MAX:
        return _category_shares(first, second)
    return _histogram_shares(np.array(first + second, np.float64), first, second)


def _category_shares(first: list[Any], second: list[Any]) -> tuple[Float64s, Float64s]:
    in_first, in_second = Counter(first), Counter(second)
    names = list(in_first | in_second)
    p = np.array([in_first[name] / len(first) for name in names])
    return p, np.array([in_second[name] / len(second) for name in names])


def _histogram_shares(
    range_of: Float64s, first: list[Any], second: list[Any]
) -> tuple[Float64s, Float64s]:
    edges = np.histogram_bin_edges(range_of, bins="sturges")
    p, q = (np.histogram(_checks.float64s("sample", one), edges)[0] for one in (first, second))
    return p / len(first), q / len(second)


def _filled(p: Float64s, q: Float64s) -> tuple[Float64s, Float64s]:
    fill: Callable[[Float64s], Float64s] = lambda shares: np.where(  # noqa: E731
        shares == 0, _fill_of(float(shares[shares > 0].min())), shares
    )
    return fill(p), fill(q)


def _fill_of(least: float) -> float:
    return least / 10**6 if least <= 0.0001 else 0.0001
