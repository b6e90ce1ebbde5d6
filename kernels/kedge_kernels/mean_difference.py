"""Two means: the mixture sequential test, and less variance by a covariate (CUPED)."""

from __future__ import annotations

import math
from typing import Self

import numpy as np
from numpy.typing import ArrayLike

from kedge_kernels._checks import same_length, series, whole, within
from kedge_kernels._frames import Floats, pack, unpack
from kedge_kernels._jit import kernel, warm_up

_COUNT, _MEAN_A, _SQUARES_A, _MEAN_B, _SQUARES_B, _LOG_NOW, _LOG_MAX = range(7)


@kernel
def _test_pairs(sums: Floats, a: Floats, b: Floats, limits: Floats) -> None:
    """Takes pairs in; limits: tau, variance of one difference or 0 to estimate it, count_min."""
    tau, variance, count_min = limits
    for i in range(a.size):
        count = sums[_COUNT] + 1.0
        sums[_COUNT] = count
        gap_a = a[i] - sums[_MEAN_A]
        sums[_MEAN_A] += gap_a / count
        sums[_SQUARES_A] += gap_a * (a[i] - sums[_MEAN_A])
        gap_b = b[i] - sums[_MEAN_B]
        sums[_MEAN_B] += gap_b / count
        sums[_SQUARES_B] += gap_b * (b[i] - sums[_MEAN_B])
        if count < count_min:
            continue
        v = variance
        if v == 0.0:
            v = (sums[_SQUARES_A] + sums[_SQUARES_B]) / (count - 1.0)
        # Two constant arms: equal or different, there is no noise to judge by.
        if v <= 0.0:
            continue
        wide = v + count * tau * tau
        moved = count * tau * (sums[_MEAN_A] - sums[_MEAN_B])
        sums[_LOG_NOW] = 0.5 * math.log(v / wide) + moved / v * moved / (2.0 * wide)
        sums[_LOG_MAX] = max(sums[_LOG_MAX], sums[_LOG_NOW])


class MixtureSprt:
    """Mixture sequential probability ratio test: do two means differ?

    tau: standard deviation of the differences that one cares about, in units of the values, > 0.
    alpha: chance, in (0, 1), of ever rejecting equal means. variance: of the difference of one pair
    (the sum of both arms'), if it is known; 0 to estimate it, and then alpha holds in the limit of
    many pairs only. count_min: no verdict before so many pairs. Raises ValueError for parameters
    out of range.
    Source: Johari, Koomen, Pekelis & Walsh 2022, Oper. Res. 70(3), section 4, eq. 7.
    """

    __slots__ = ("_sums", "alpha", "count_min", "tau", "variance")

    def __init__(
        self, tau: float, alpha: float = 0.05, variance: float = 0.0, count_min: int = 50
    ) -> None:
        self.tau = within("tau", tau, 0, math.inf)
        self.alpha = within("alpha", alpha, 0, 1)
        if not 0 <= variance < math.inf:
            raise ValueError(f"variance: expected a finite number of at least 0, got {variance}")
        self.variance = float(variance)
        self.count_min = whole("count_min", count_min, 2)
        self._sums: Floats = np.zeros(7)

    def update(self, a: ArrayLike, b: ArrayLike) -> None:
        """Pairs in order, looked at after each: a, b: f64[n], finite. Raises ValueError, with
        nothing taken in, for others.
        """
        ours, theirs = _pairs("a and b", a, b)
        limits = np.array([self.tau, self.variance, self.count_min])
        _test_pairs(self._sums, ours, theirs, limits)

    @property
    def count(self) -> int:
        """Pairs taken in."""
        return int(self._sums[_COUNT])

    @property
    def difference(self) -> float:
        """Mean of a less mean of b."""
        return float(self._sums[_MEAN_A] - self._sums[_MEAN_B])

    @property
    def log_e_value(self) -> float:
        """Logarithm of the likelihood ratio now, in nats."""
        return float(self._sums[_LOG_NOW])

    @property
    def p_value(self) -> float:
        """Always-valid p-value: never grows."""
        return math.exp(-max(float(self._sums[_LOG_MAX]), 0.0))

    @property
    def rejected(self) -> bool:
        """Whether equal means are rejected; never taken back."""
        return bool(self._sums[_LOG_MAX] >= -math.log(self.alpha))

    def to_bytes(self) -> bytes:
        """Everything, parameters included."""
        head = (self.tau, self.alpha, self.variance, self.count_min)
        return pack("MixtureSprt", [*head, *self._sums])

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """What `to_bytes` wrote. Raises ValueError for anything else."""
        numbers = unpack("MixtureSprt", data, 11)
        if not np.isfinite(numbers).all():
            raise ValueError("state of MixtureSprt: expected finite numbers, got others")
        tau, alpha, variance, count_min = numbers[:4].tolist()
        made = cls(tau, alpha, variance, int(count_min))
        made._sums[:] = numbers[4:]
        return made


class Cuped:
    """Outcomes adjusted by a covariate that treatment does not touch: the same mean, less variance.

    The best covariate of a candidate is stable's own score on the same request. Streaming and
    mergeable; theta is shared by both arms, so pool them here and adjust each.
    Source: Deng, Xu, Kohavi & Walker 2013, WSDM, section 3.2.
    """

    __slots__ = ("_moments",)

    def __init__(self) -> None:
        # count, mean y, mean x, and the sums of yy, xy, xx about the means.
        self._moments: Floats = np.zeros(6)

    def update(self, y: ArrayLike, x: ArrayLike) -> None:
        """y: f64[n], outcomes; x: f64[n], covariates; finite. Raises ValueError for others."""
        outcomes, covariates = _pairs("y and x", y, x)
        if outcomes.size == 0:
            return
        mean_y, mean_x = outcomes.mean(), covariates.mean()
        off_y, off_x = outcomes - mean_y, covariates - mean_x
        sums = (off_y @ off_y, off_x @ off_y, off_x @ off_x)
        self._add(np.array([outcomes.size, mean_y, mean_x, *sums]))

    def merge(self, other: Cuped) -> None:
        """Takes in all that `other` has seen."""
        self._add(other._moments)

    def _add(self, more: Floats) -> None:
        total = self._moments[0] + more[0]
        if more[0] == 0:
            return
        gap_y, gap_x = more[1] - self._moments[1], more[2] - self._moments[2]
        weight = self._moments[0] * more[0] / total
        self._moments[3:] += more[3:] + weight * np.array(
            [gap_y * gap_y, gap_x * gap_y, gap_x * gap_x]
        )
        self._moments[1] += gap_y * more[0] / total
        self._moments[2] += gap_x * more[0] / total
        self._moments[0] = total

    @property
    def count(self) -> int:
        """Pairs taken in."""
        return int(self._moments[0])

    @property
    def theta(self) -> float:
        """Slope of the outcome on the covariate; 0 while the covariate does not vary."""
        return float(self._moments[4] / self._moments[5]) if self._moments[5] > 0 else 0.0

    @property
    def variance_ratio(self) -> float:
        """Variance that is left, 0..1: 1 less the squared correlation. 1 while nothing varies."""
        spread = float(self._moments[3])
        left = 1.0 - self.theta * float(self._moments[4]) / spread if spread > 0 else 1.0
        return min(max(left, 0.0), 1.0)

    def adjust(self, y: ArrayLike, x: ArrayLike) -> Floats:
        """y - theta (x - mean x), f64[n], with the mean of all covariates taken in."""
        outcomes, covariates = _pairs("y and x", y, x)
        adjusted: Floats = outcomes - self.theta * (covariates - self._moments[2])
        return adjusted

    def to_bytes(self) -> bytes:
        """Everything."""
        return pack("Cuped", self._moments)

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """What `to_bytes` wrote. Raises ValueError for anything else."""
        made = cls()
        made._moments[:] = unpack("Cuped", data, 6)
        return made


def _pairs(things: str, first: ArrayLike, second: ArrayLike) -> tuple[Floats, Floats]:
    a, b = series(things, first), series(things, second)
    same_length(things, a, b)
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        raise ValueError(f"{things}: expected finite numbers, got NaN or an infinity")
    return a, b


@warm_up
def _warm() -> None:
    MixtureSprt(1.0).update([0.0], [0.0])
