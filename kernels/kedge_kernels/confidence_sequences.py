"""Confidence sequences: intervals for a mean that hold at all times at once, so that one may look
as often as one likes and stop whenever one likes.
"""

from __future__ import annotations

import math
from typing import Self

import numpy as np
from numpy.typing import ArrayLike

from kedge_kernels._checks import finite_at_least, series, whole, within
from kedge_kernels._frames import Floats, pack, unpack
from kedge_kernels._jit import kernel, warm_up

# Sums of the empirical-Bernstein state.
_COUNT, _TOTAL, _SQUARES, _STAKES, _STAKED, _COST = range(6)


@kernel
def _bernstein(sums: Floats, values: Floats, log_term: float, stake_max: float) -> None:
    """Takes values in [0, 1] into the sums, each with a stake that only earlier values decide."""
    for i in range(values.size):
        x = values[i]
        count = sums[_COUNT] + 1.0
        mean_before = (0.5 + sums[_TOTAL]) / count
        variance = (0.25 + sums[_SQUARES]) / count
        stake = math.sqrt(2.0 * log_term / (variance * count * math.log1p(count)))
        stake = min(stake, stake_max)
        sums[_STAKES] += stake
        sums[_STAKED] += stake * x
        sums[_COST] += (x - mean_before) ** 2 * (-math.log1p(-stake) - stake)
        sums[_COUNT] = count
        sums[_TOTAL] += x
        mean = (0.5 + sums[_TOTAL]) / (count + 1.0)
        sums[_SQUARES] += (x - mean) ** 2


class EmpiricalBernsteinSequence:
    """Interval for the mean of bounded values; as narrow as their variance lets it be.

    alpha: chance, in (0, 1), that the interval ever misses the mean. lower, upper: bounds of every
    value. stake_max: most that one value may weigh, in (0, 1). The values may depend on each other,
    as long as each has the same mean given those before. Raises ValueError for parameters out of
    range.
    Source: Waudby-Smith & Ramdas 2024, JRSS-B 86(1), theorem 2, predictable stakes of eq. 15.
    """

    __slots__ = ("_sums", "alpha", "lower", "stake_max", "upper")

    def __init__(
        self, alpha: float, lower: float = 0.0, upper: float = 1.0, stake_max: float = 0.5
    ) -> None:
        self.alpha = within("alpha", alpha, 0, 1)
        if not (math.isfinite(lower) and math.isfinite(upper) and lower < upper):
            raise ValueError(f"lower, upper: expected lower < upper, got {lower}, {upper}")
        self.lower, self.upper = float(lower), float(upper)
        self.stake_max = within("stake_max", stake_max, 0, 1)
        self._sums: Floats = np.zeros(6)

    def update(self, values: ArrayLike) -> None:
        """values: f64[n] in [lower, upper]. Raises ValueError for others, with none taken in."""
        block = series("values", values)
        wrong = ~((block >= self.lower) & (block <= self.upper))
        if wrong.any():
            raise ValueError(
                f"values: expected numbers in [{self.lower:g}, {self.upper:g}],"
                f" got {block[wrong][0]}"
            )
        scaled = (block - self.lower) / (self.upper - self.lower)
        _bernstein(self._sums, scaled, math.log(2.0 / self.alpha), self.stake_max)

    @property
    def count(self) -> int:
        """Values taken in."""
        return int(self._sums[_COUNT])

    def interval(self) -> tuple[float, float]:
        """Where the mean is, now; within [lower, upper], and all of it before the first value."""
        stakes = float(self._sums[_STAKES])
        if stakes == 0.0:
            return self.lower, self.upper
        centre = float(self._sums[_STAKED]) / stakes
        radius = (math.log(2.0 / self.alpha) + float(self._sums[_COST])) / stakes
        span = self.upper - self.lower
        low = self.lower + span * max(centre - radius, 0.0)
        return low, self.lower + span * min(centre + radius, 1.0)

    def to_bytes(self) -> bytes:
        """Everything, parameters included."""
        head = (self.alpha, self.lower, self.upper, self.stake_max)
        return pack("BernsteinSeq", [*head, *self._sums])

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """What `to_bytes` wrote. Raises ValueError for anything else."""
        numbers = unpack("BernsteinSeq", data, 10)
        made = cls(*numbers[:4].tolist())
        if not (np.isfinite(numbers).all() and (numbers[4:] >= 0).all()):
            raise ValueError("state of BernsteinSeq: expected finite sums, got others")
        made._sums[:] = numbers[4:]
        return made


class AsymptoticSequence:
    """Interval for the mean of anything with a variance; holds in the limit of many values.

    alpha: chance, in (0, 1), that the interval ever misses the mean, counted from a time at which
    the central limit theorem speaks. count_tight: the count at which it shall be narrowest.
    count_min: no interval before so many values. Raises ValueError for parameters out of range.
    Source: Waudby-Smith et al. 2024, Ann. Statist. 52(6), theorem 2.2; count_tight by their eq. 25.
    """

    __slots__ = ("_mean", "_squares", "alpha", "count", "count_min", "count_tight", "rho")

    def __init__(self, alpha: float, count_tight: int = 1000, count_min: int = 50) -> None:
        self.alpha = within("alpha", alpha, 0, 1)
        self.count_tight = whole("count_tight", count_tight, 1)
        self.count_min = whole("count_min", count_min, 2)
        log_term = -2.0 * math.log(self.alpha)
        self.rho = math.sqrt((log_term + math.log1p(log_term)) / self.count_tight)
        self.count = 0
        self._mean = 0.0
        self._squares = 0.0

    def update(self, values: ArrayLike) -> None:
        """values: f64[n], finite. Raises ValueError, with nothing taken in, for others."""
        block = series("values", values)
        if not np.isfinite(block).all():
            raise ValueError("values: expected finite numbers, got NaN or an infinity")
        if block.size == 0:
            return
        mean = float(block.mean())
        total = self.count + block.size
        gap = mean - self._mean
        self._squares += float(((block - mean) ** 2).sum())
        self._squares += gap * gap * self.count * block.size / total
        self._mean += gap * block.size / total
        self.count = total

    @property
    def mean(self) -> float:
        """Mean of the values; NaN before the first."""
        return self._mean if self.count else math.nan

    def interval(self) -> tuple[float, float]:
        """Where the mean is, now; everywhere before `count_min` values."""
        if self.count < self.count_min:
            return -math.inf, math.inf
        scaled = self.count * self.rho**2
        factor = 2.0 * (scaled + 1.0) / (self.count * scaled)
        log_term = 0.5 * math.log1p(scaled) - math.log(self.alpha)
        radius = math.sqrt(self._squares / self.count * factor * log_term)
        return self._mean - radius, self._mean + radius

    def to_bytes(self) -> bytes:
        """Everything, parameters included."""
        head = (self.alpha, self.count_tight, self.count_min)
        return pack("AsymptoticSeq", [*head, self.count, self._mean, self._squares])

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """What `to_bytes` wrote. Raises ValueError for anything else."""
        alpha, tight, least, count, mean, squares = unpack("AsymptoticSeq", data, 6).tolist()
        if not (math.isfinite(tight) and math.isfinite(least) and math.isfinite(mean)):
            raise ValueError("state of AsymptoticSeq: expected finite numbers, got others")
        made = cls(alpha, int(tight), int(least))
        made.count = whole("count", count, 0, 2**53)
        made._mean = mean
        made._squares = finite_at_least("squares", squares, 0)
        return made


@warm_up
def _warm() -> None:
    EmpiricalBernsteinSequence(0.1).update([0.5])
