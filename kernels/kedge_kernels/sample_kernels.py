"""Two sorted samples walked together: what the tests of `sample_tests.py` are made of."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from kedge_kernels._jit import kernel

Float64s = NDArray[np.float64]


@kernel
def ks_and_w1(first: NDArray[Any], second: NDArray[Any]) -> tuple[int, float]:
    """(height, distance): the largest difference of the two distribution functions times
    n * m, an exact integer, and the area between them, the Wasserstein-1 distance.

    Both sorted, without NaN, not empty. The distance is inf if the shares at -inf or at +inf
    differ, else the area over the finite values. 3 to 5 ns a value: the inner loop is free of
    branches that depend on the data.
    """
    n = first.size
    m = second.size
    i = infinities_below(first)
    j = infinities_below(second)
    n_finite = n - infinities_above(first)
    m_finite = m - infinities_above(second)
    gap = i * m - j * n  # n * m * (difference of the distribution functions)
    gap_above = n_finite * m - m_finite * n
    height = max(abs(gap), abs(gap_above))
    area = np.inf if gap != 0 or gap_above != 0 else 0.0
    if i < n_finite and j < m_finite:
        last = np.float64(min(first[i], second[j]))
    elif i < n_finite:
        last = np.float64(first[i])
    elif j < m_finite:
        last = np.float64(second[j])
    else:
        return height, area
    while i < n_finite and j < m_finite:
        left, right = first[i], second[j]
        is_first = left <= right
        value = np.float64(left if is_first else right)
        step = value - last
        distance = abs(gap)
        area += distance * step
        # Between equal values the difference is not that of the distribution functions.
        height = max(height, distance if step > 0.0 else 0)
        gap += m if is_first else -n
        i += 1 if is_first else 0
        j += 0 if is_first else 1
        last = value
    while i < n_finite:
        step = first[i] - last
        height = max(height, abs(gap) if step > 0.0 else 0)
        area += abs(gap) * step
        gap += m
        last = np.float64(first[i])
        i += 1
    while j < m_finite:
        step = second[j] - last
        height = max(height, abs(gap) if step > 0.0 else 0)
        area += abs(gap) * step
        gap -= n
        last = np.float64(second[j])
        j += 1
    return height, area / (np.float64(n) * np.float64(m))


@kernel
def infinities_below(values: NDArray[Any]) -> int:
    """How many -inf a sorted array begins with."""
    count = 0
    while count < values.size and values[count] == -np.inf:
        count += 1
    return count


@kernel
def infinities_above(values: NDArray[Any]) -> int:
    """How many +inf a sorted array ends with."""
    count = 0
    while count < values.size and values[values.size - 1 - count] == np.inf:
        count += 1
    return count


@kernel
def ks_and_w1_columns(
    reference: NDArray[Any], current: NDArray[Any], heights: NDArray[np.int64], out: Float64s
) -> None:
    """`ks_and_w1` of each row of two [F, n] arrays, sorted with NaN last: out[f] = (KS statistic,
    Wasserstein distance), both NaN where a row has no values; heights[f], 0 there.
    """
    for feature in range(reference.shape[0]):
        first = reference[feature, : reference.shape[1] - nans_last(reference[feature])]
        second = current[feature, : current.shape[1] - nans_last(current[feature])]
        heights[feature] = 0
        out[feature, 0] = out[feature, 1] = np.nan
        if first.size > 0 and second.size > 0:
            height, area = ks_and_w1(first, second)
            heights[feature] = height
            out[feature, 0] = height / (np.float64(first.size) * np.float64(second.size))
            out[feature, 1] = area


@kernel
def nans_last(values: NDArray[Any]) -> int:
    """How many NaN a sorted array ends with."""
    count = 0
    while (
        count < values.size and values[values.size - 1 - count] != values[values.size - 1 - count]
    ):
        count += 1
    return count


@kernel
def next_group(first: Float64s, i: int, second: Float64s, j: int) -> tuple[int, int]:
    """Where the values equal to the least of first[i:] and second[j:] end in each."""
    if i < first.size and (j >= second.size or first[i] <= second[j]):
        value = first[i]
    else:
        value = second[j]
    while i < first.size and first[i] == value:
        i += 1
    while j < second.size and second[j] == value:
        j += 1
    return i, j


@kernel
def rank_deviation(first: Float64s, second: Float64s) -> float:
    """U = n sum (rank - i)^2 + m sum (rank - j)^2, where ranks are those among all values. Source:
    Anderson 1962, Ann. Math. Stat. 33, eq. 10. Both sorted, without NaN.

    Ties: samples of one size take midranks. With sizes that differ, midranks would count the ties
    within the larger sample as a difference (p = 0 for 5,000 and 300 equal normals, rounded); there
    U is its mean over all orders of the tied values.
    """
    has_midranks = first.size == second.size
    total_first = total_second = 0.0
    i = j = 0
    while i < first.size or j < second.size:
        next_i, next_j = next_group(first, i, second, j)
        if has_midranks:
            rank = (i + j + 1 + next_i + next_j) / 2.0
            for index in range(i, next_i):
                total_first += (rank - (index + 1)) ** 2
            for index in range(j, next_j):
                total_second += (rank - (index + 1)) ** 2
        else:
            in_first = next_i - i
            in_second = next_j - j
            total_first += in_first * (j + in_second / 2.0) ** 2
            total_first += spread_of_ties(in_first, in_second)
            total_second += in_second * (i + in_first / 2.0) ** 2
            total_second += spread_of_ties(in_second, in_first)
        i, j = next_i, next_j
    return first.size * total_first + second.size * total_second


@kernel
def spread_of_ties(own: int, others: int) -> float:
    """The mean, over all orders of own + others tied values, of the sum over the own ones of
    (others before it - others / 2)^2: their number is negative hypergeometric.
    """
    variance = own * others * (own + others + 1.0) / (6.0 * (own + 1.0))
    return variance + float(others) * others * own * (own - 1.0) / (12.0 * (own + 1.0))


@kernel
def anderson_darling_midrank(first: Float64s, second: Float64s) -> float:
    """The A^2 of two samples, for ties. Source: Scholz and Stephens 1987, J. Am. Stat. Assoc. 82,
    eq. 7. Both sorted, without NaN, not empty. NaN if all values are equal.
    """
    n = first.size
    m = second.size
    total = n + m
    statistic_first = statistic_second = 0.0
    i = j = 0
    while i < n or j < m:
        next_i, next_j = next_group(first, i, second, j)
        tied = float(next_i - i + next_j - j)
        middle = i + j + tied / 2.0
        scale = middle * (total - middle) - total * tied / 4.0
        in_first = (i + next_i) / 2.0
        in_second = (j + next_j) / 2.0
        statistic_first += tied * (total * in_first - middle * n) ** 2 / scale
        statistic_second += tied * (total * in_second - middle * m) ** 2 / scale
        i, j = next_i, next_j
    together = statistic_first / n + statistic_second / m
    return together * (total - 1.0) / (float(total) * total)


@kernel
def anderson_darling_variance(n: int, m: int) -> float:
    """The variance of A^2 without ties, n + m >= 4. Source: Scholz and Stephens 1987, eq. 4."""
    total = float(n + m)
    inverse = 1.0 / n + 1.0 / m
    h = g = 0.0
    for i in range(n + m - 1, 0, -1):
        # Here h is the sum of 1 / j over j > i.
        if i >= 1 and i + 1 <= n + m - 1:
            g += h / (total - i)
        h += 1.0 / i
    k = 2.0
    a = (4 * g - 6) * (k - 1) + (10 - 6 * g) * inverse
    b = (2 * g - 4) * k**2 + 8 * h * k + (2 * g - 14 * h - 4) * inverse - 8 * h + 4 * g - 6
    c = (6 * h + 2 * g - 2) * k**2 + (4 * h - 4 * g + 6) * k + (2 * h - 6) * inverse + 4 * h
    d = (2 * h + 6) * k**2 - 4 * h * k
    scale = (total - 1) * (total - 2) * (total - 3)
    return (a * total**3 + b * total**2 + c * total + d) / scale


@kernel
def merge_tables(
    values: NDArray[np.int64],
    counts: Float64s,
    other_values: NDArray[np.int64],
    other_counts: Float64s,
    shift: int,
) -> tuple[NDArray[np.int64], Float64s]:
    """Two frequency tables by ascending value added, then all values raised by `shift`."""
    merged = np.empty(values.size + other_values.size, np.int64)
    frequencies = np.empty(merged.size, np.float64)
    i = j = size = 0
    while i < values.size or j < other_values.size:
        take_first = i < values.size and (j >= other_values.size or values[i] <= other_values[j])
        value = values[i] if take_first else other_values[j]
        frequency = 0.0
        if i < values.size and values[i] == value:
            frequency += counts[i]
            i += 1
        if j < other_values.size and other_values[j] == value:
            frequency += other_counts[j]
            j += 1
        merged[size] = value + shift
        frequencies[size] = frequency
        size += 1
    return merged[:size], frequencies[:size]
