"""e-CUSUM and e-SR: change detectors with a guaranteed average run length.

Both bet, at every moment, that a change has begun there or earlier. A bet that multiplies by
`1 + l (x - rate)` gains nothing on average while the mean of the values is at most `rate`; for
values 0 and 1 it is the likelihood ratio of two Bernoulli rates.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from kedge_kernels._checks import series, whole, within
from kedge_kernels._frames import Floats
from kedge_kernels._jit import kernel, warm_up
from kedge_kernels.detector_state import (
    COUNT_MAX,
    DRIFT,
    E_CUSUM,
    E_SR,
    HEAD,
    KIND,
    SEEN,
    SKIPPED,
    Detector,
    Kernels,
    admit,
    flag,
)
from kedge_kernels.evidence import ODDS

RATE, ALARM, BETS = HEAD, HEAD + 1, HEAD + 2
# Behind it, `BETS` numbers each: the stakes, the wealths, the positions at which they began.
STAKES = HEAD + 3
BETS_MAX = 64


@kernel
def restart(state: Floats) -> None:
    state[DRIFT] = 0.0
    bets = int(state[BETS])
    state[STAKES + bets :] = 0.0
    state[STAKES + 2 * bets :] = state[SEEN]


@kernel
def step(state: Floats, x: float) -> None:
    """One value. Wealth is kept as it is, not as a logarithm: an alarm ends it, so that none
    passes bets x alarm / rate, at most 64e15 / 1e-9; logarithms took 10 times as long.
    """
    if state[DRIFT] != 0.0:
        restart(state)
    if not admit(state, x):
        return
    if not 0.0 <= x <= 1.0:
        state[SKIPPED] += 1
        return
    bets = int(state[BETS])
    sums = state[KIND] == E_SR
    excess = x - state[RATE]
    total = 0.0
    for k in range(STAKES, STAKES + bets):
        wealth = state[k + bets]
        if wealth <= 1.0:
            state[k + 2 * bets] = state[SEEN] - 1.0
        if sums:
            wealth += 1.0
        elif wealth < 1.0:
            wealth = 1.0
        wealth *= 1.0 + state[k] * excess
        state[k + bets] = wealth
        total += wealth
    if total >= state[ALARM] * bets:
        flag(state, True, False)


@kernel
def fold(state: Floats, values: Floats, hits: NDArray[np.int64]) -> int:
    found = 0
    for i in range(values.size):
        step(state, values[i])
        if state[DRIFT] != 0.0:
            hits[found] = int(state[SEEN]) - 1
            found += 1
    return found


def mean_upper_bound(mean: float, count: int, confidence: float) -> float:
    """An upper bound on the mean of values in [0, 1] that holds with this confidence, from the mean
    of `count` independent ones. Raises ValueError for arguments out of range.

    Source: Hoeffding 1963, JASA 58, theorem 1, solved for the mean (Chernoff's bound).
    """
    if not 0 <= mean <= 1:
        raise ValueError(f"mean: expected a number in [0, 1], got {mean}")
    budget = -math.log1p(-within("confidence", confidence, 0, 1)) / whole("count", count, 1)
    low, high = mean, 1.0
    # 60 halvings leave less than the spacing of floats near 1.
    for _ in range(60):
        middle = (low + high) / 2
        if _divergence(mean, middle) < budget:
            low = middle
        else:
            high = middle
    return high


def _divergence(p: float, q: float) -> float:
    """Kullback-Leibler divergence of Bernoulli rates, in nats; q in (0, 1)."""
    if q >= 1.0:
        return math.inf if p < 1.0 else 0.0
    failed = (1 - p) * (math.log1p(-p) - math.log1p(-q)) if p < 1 else 0.0
    return failed + (p * math.log(p / q) if p > 0 else 0.0)


class _EDetector(Detector):
    """What e-CUSUM and e-SR share."""

    __slots__ = ()

    def __init__(
        self, rate: float, arl: float = 1000.0, rates_worse: Sequence[float] | None = None
    ) -> None:
        base = within("rate", rate, 1e-9, 1)
        if not 1 < arl <= 1e15:
            raise ValueError(f"arl: expected a number in (1, 1e15], got {arl}")
        if rates_worse is None:
            rates_worse = [odds * base / (1 + (odds - 1) * base) for odds in ODDS]
        if not 1 <= len(rates_worse) <= BETS_MAX:
            raise ValueError(f"rates_worse: expected 1 to {BETS_MAX}, got {len(rates_worse)}")
        stakes = [
            (within("rates_worse", worse, base, 1) - base) / (base * (1 - base))
            for worse in rates_worse
        ]
        bets = len(stakes)
        super().__init__((base, arl, bets, *stakes), STAKES + 3 * bets)

    @classmethod
    def from_reference(
        cls, values: ArrayLike, arl: float = 1000.0, confidence: float = 0.99
    ) -> Self:
        """The detector for a rate that is not known: `rate` becomes an upper bound on the mean of
        the reference values, f64[n] in [0, 1]. The promised run length then holds with this
        confidence over the draw of the reference; an estimate without the bound promises nothing.
        """
        reference = _shares(series("values", values))
        if reference.size == 0:
            raise ValueError("values: expected at least one, got none")
        mean = min(float(reference.mean()), 1.0)
        bound = mean_upper_bound(mean, reference.size, confidence)
        return cls(bound, arl)

    def update(self, values: ArrayLike) -> NDArray[np.int64]:
        """As `Detector.update`; raises ValueError if a finite value lies outside of [0, 1]."""
        block = series("values", values)
        _shares(block)
        return super().update(block)

    @property
    def rate(self) -> float:
        """The mean up to which nothing has changed."""
        return float(self._state[RATE])

    @property
    def log_e_value(self) -> float:
        """Logarithm of the average wealth; an alarm comes at log(arl). -inf before the first."""
        total = float(self._wealths().sum())
        return math.log(total / self._bets()) if total > 0 else -math.inf

    @property
    def since(self) -> int:
        """Position at which the richest bet began: where the change, if any, probably is."""
        k = int(np.argmax(self._wealths()))
        return int(self._state[STAKES + 2 * self._bets() + k])

    def _bets(self) -> int:
        return int(self._state[BETS])

    def _wealths(self) -> Floats:
        bets = self._bets()
        return self._state[STAKES + bets : STAKES + 2 * bets]

    def _check(self) -> None:
        self._require("bets", (BETS,), 1, BETS_MAX)
        self._require_size(STAKES + 3 * self._bets())
        self._require("begin", slice(STAKES + 2 * self._bets(), None), 0, COUNT_MAX)
        if not np.all(self._wealths() >= 0):
            raise ValueError(f"state of {self.name}: expected wealths of at least 0")


def _shares(values: Floats) -> Floats:
    wrong = (values < 0) | (values > 1)
    wrong &= np.isfinite(values)
    if wrong.any():
        raise ValueError(f"values: expected numbers in [0, 1], got {values[wrong][0]}")
    return values


class ECusum(_EDetector):
    """e-CUSUM: detects that the mean of values in [0, 1] (errors, losses) rose above `rate`.

    rate: the mean before the change, in (1e-9, 1). arl: average run length, in (1, 1e15]: while the
    conditional mean of every value is at most `rate`, alarms come after `arl` values or more on
    average. rates_worse: the means to bet on, each in (rate, 1); None for odds 1.25 to 40 times as
    high. A finite value outside of [0, 1] raises ValueError in `update` and is skipped in
    `detectors_step`. `since` tells where the change began. Raises ValueError for parameters out of
    range.
    Source: Shin, Ramdas & Rinaldo 2024, NEJSDS 2(2), "E-detectors", section 2.3.
    """

    name = "ECusum"
    _kind = E_CUSUM
    _kernels = Kernels(begin=restart, fold=fold)

    __slots__ = ()


class ESr(_EDetector):
    """e-SR (Shiryaev-Roberts): as `ECusum`, with the sum over all beginnings instead of the
    greatest: alarms sooner and more often, with the same promise.

    Source: Shin, Ramdas & Rinaldo 2024, NEJSDS 2(2), "E-detectors", section 2.3.
    """

    name = "ESr"
    _kind = E_SR
    _kernels = Kernels(begin=restart, fold=fold)

    __slots__ = ()


@warm_up
def _warm() -> None:
    ECusum(0.1).update([0.0])
    ESr(0.1).update([0.0])
