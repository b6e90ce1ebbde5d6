"""Tail probabilities of the Kolmogorov-Smirnov statistic: two samples exactly, one sample of size
n nearly so, which is also the limit for two large ones.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from kedge_kernels._jit import kernel

# Above it the matrix costs more than it is worth (Simard and L'Ecuyer 2011, section 3).
MATRIX_SIZE_MAX = 140
# The sum over n terms loses digits as n grows; from here on its limit is closer.
SUM_SIZE_MAX = 1_000_000


@kernel
def two_sample_tail(first: int, second: int, height: int) -> float:
    """P(max |i second - j first| >= height), of all orders of two samples without ties.

    first, second >= 1, the sizes; height: the statistic times first * second, an integer. Source:
    Hodges 1958, Arkiv för Matematik 3, sections 2 and 3.
    """
    if height <= 0:
        return 1.0
    if first == second:
        return equal_sizes_tail(first, height // first)
    return band_tail(max(first, second), min(first, second), height)


@kernel
def equal_sizes_tail(size: int, height: int) -> float:
    """The same for two samples of one size, `height` in steps of 1 / size: the reflection
    principle, with all terms divided by the number of paths and nested, so that nothing cancels.
    """
    total = 0.0
    for k in range(size // height, -1, -1):
        share = 1.0
        for j in range(height):
            share = (size - k * height - j) * share / (size + k * height + j + 1)
        total = share * (1.0 - total)
    return min(2.0 * total, 1.0)


@kernel
def band_tail(long: int, short: int, height: int) -> float:
    """By recursion over all paths: of those to (i, j), which share left the band before?

    One row of shares is kept; the last step came from (i - 1, j) with probability i / (i + j).
    O(long * width of the band).
    """
    shares = np.ones(short + 1)
    for i in range(long + 1):
        # Inside the band: |i short - j long| < height.
        low = max((i * short - height) // long + 1, 0)
        high = min(-((-i * short - height) // long) - 1, short)
        if low > 0:
            shares[low - 1] = 1.0
        for j in range(low, high + 1):
            if i == 0 and j == 0:
                shares[j] = 0.0
                continue
            from_left = shares[j] * i  # still that of row i - 1; no path if i is 0
            from_below = shares[j - 1] * j if j > 0 else 0.0
            shares[j] = (from_left + from_below) / (i + j)
        if high < short:
            shares[high + 1] = 1.0
    return float(shares[short])


@kernel
def one_sample_tail(size: int, distance: float) -> float:
    """P(D >= distance) of a sample of `size` values, two-sided; relative error below 1e-5, and
    below 1e-10 where size <= 140 or the result is below 0.02.

    Source: Simard and L'Ecuyer 2011, J. Stat. Softw. 39(11), whose choice of methods this is.
    """
    if math.isnan(distance):
        return np.nan
    if distance >= 1.0:
        return 0.0
    scaled = size * distance
    if scaled <= 0.5:
        return 1.0
    spread = scaled * distance
    if distance >= 0.5 or spread >= (4.0 if size <= MATRIX_SIZE_MAX else 2.2):
        return min(2.0 * one_sided_tail(size, distance), 1.0)
    if size <= MATRIX_SIZE_MAX:
        return min(max(1.0 - matrix_below(size, distance), 0.0), 1.0)
    return min(max(1.0 - pelz_good_below(size, distance), 0.0), 1.0)


@kernel
def one_sided_tail(size: int, distance: float) -> float:
    """P(D+ >= distance). Source: Birnbaum and Tingey 1951, Ann. Math. Stat. 22, eq. 3.0; beyond a
    million values its limit with the first correction (Miller 1956).
    """
    if size > SUM_SIZE_MAX:
        return math.exp(-((6.0 * size * distance + 1.0) ** 2) / (18.0 * size))
    total = 0.0
    log_size = math.lgamma(size + 1.0)
    for j in range(int(size * (1.0 - distance)) + 1):
        above = 1.0 - distance - j / size
        if above <= 0.0:
            break
        share = distance + j / size
        binomial = log_size - math.lgamma(j + 1.0) - math.lgamma(size - j + 1.0)
        total += math.exp(binomial + (size - j) * math.log(above) + (j - 1.0) * math.log(share))
    return total * distance


@kernel
def matrix_below(size: int, distance: float) -> float:
    """P(D < distance) by Durbin's matrix. Source: Marsaglia, Tsang and Wang 2003, J. Stat. Softw.
    8(18), section 2.
    """
    k = math.ceil(size * distance)
    rest = k - size * distance
    side = 2 * k - 1
    matrix = np.zeros((side, side))
    for row in range(side):
        for column in range(min(row + 2, side)):
            matrix[row, column] = 1.0
    for row in range(side):
        matrix[row, 0] -= rest ** (row + 1)
        matrix[side - 1, row] -= rest ** (side - row)
    if 2.0 * rest > 1.0:
        matrix[side - 1, 0] += (2.0 * rest - 1.0) ** side
    for row in range(side):
        for column in range(min(row + 2, side)):
            matrix[row, column] /= math.gamma(row - column + 2.0)
    power = matrix_power(matrix, size)
    below = float(power[k - 1, k - 1])
    for i in range(1, size + 1):  # size <= 140, so that neither this nor the power overflows
        below *= i / size
    return float(below)


@kernel
def matrix_power(matrix: NDArray[np.float64], exponent: int) -> NDArray[np.float64]:
    """matrix ** exponent, exponent >= 1."""
    power = np.eye(matrix.shape[0])
    square = matrix.copy()
    while exponent > 0:
        if exponent % 2 == 1:
            power = product(power, square)
        square = product(square, square)
        exponent //= 2
    return power


@kernel
def product(left: NDArray[np.float64], right: NDArray[np.float64]) -> NDArray[np.float64]:
    """left @ right, without the BLAS that Numba would take from SciPy."""
    side = left.shape[0]
    result = np.zeros((side, side))
    for row in range(side):
        for middle in range(side):
            factor = left[row, middle]
            for column in range(side):
                result[row, column] += factor * right[middle, column]
    return result


@kernel
def pelz_good_below(size: int, distance: float) -> float:
    """P(D < distance), with terms to 1 / size**1.5. Source: Pelz and Good 1976, J. R. Stat. Soc. B
    38, eq. 6 to 9, as in Simard and L'Ecuyer 2011, eq. 8 to 11.
    """
    z = math.sqrt(size) * distance
    z2 = z * z
    pi2 = math.pi**2
    if pi2 / (8.0 * z2) > 700.0:
        return 0.0
    k0 = k1 = k2 = k3 = below = 0.0
    for k in range(20):  # terms fall as exp(-k^2), z < 2
        m2 = (k + 0.5) ** 2 * pi2
        weight = math.exp(-m2 / (2.0 * z2))
        k0 += weight
        k1 += (m2 - z2) * weight
        k2 += (6 * z2**3 + 2 * z2**2 + (2 * z2**2 - 5 * z2) * m2 + (1 - 2 * z2) * m2**2) * weight
        k3 += weight * (
            (5 - 30 * z2) * m2**3
            + (-60 * z2 + 212 * z2**2) * m2**2
            + (135 * z2**2 - 96 * z2**3) * m2
            - 30 * z2**3
            - 90 * z2**4
        )
    extra2 = extra3 = 0.0
    for k in range(1, 20):
        m2 = k**2 * pi2
        weight = math.exp(-m2 / (2.0 * z2))
        extra2 += m2 * weight
        extra3 += (3.0 * z2 - m2) * m2 * weight
    root = math.sqrt(2.0 * math.pi)
    below += root / z * k0
    below += root / (6.0 * z**4) * k1 / math.sqrt(size)
    below += (root / (72.0 * z**7) * k2 - root / (36.0 * z**3) * extra2) / size
    below += (root / (6480.0 * z**10) * k3 + root / (216.0 * z**6) * extra3) / size**1.5
    return float(below)
