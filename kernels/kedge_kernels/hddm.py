"""HDDM_A and HDDM_W: detectors that bound means by Hoeffding and by McDiarmid."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from kedge_kernels._checks import within
from kedge_kernels._frames import Floats
from kedge_kernels._jit import kernel, warm_up
from kedge_kernels.detector_state import (
    DRIFT,
    HDDM_A,
    HDDM_W,
    HEAD,
    SEEN,
    WARNING,
    Kernels,
    WarningDetector,
    admit,
    flag,
)

# Both: log(1 / confidence) for the bounds, for a detection and for a warning, whether falls count.
LOG_DRIFT, LOG_WARNING, TWO_SIDED = HEAD, HEAD + 1, HEAD + 2
# HDDM_A: log(2 / confidence) for its tests; (count, mean) of all values, and of the prefix with the
# lowest upper and with the highest lower bound.
LOG_BOUND = HEAD + 3
COUNT, MEAN, LOW_COUNT, LOW_MEAN, HIGH_COUNT, HIGH_MEAN = (HEAD + 4 + i for i in range(6))
_A_SIZE = HEAD + 10

# HDDM_W: weights, then pairs (mean, sum of squared weights) of all values; of the prefix with the
# lowest upper bound, of what came after it; likewise with the highest lower bound.
LAMBDA, LAMBDA_LEFT, LAMBDA_SQUARED, LEFT_SQUARED = (HEAD + 3 + i for i in range(4))
ALL_MEAN, ALL_SQUARES = HEAD + 7, HEAD + 8
RISE_CUT, RISE_FROM, RISE_FROM_SQUARES, RISE_TO, RISE_TO_SQUARES = (HEAD + 9 + i for i in range(5))
FALL_CUT, FALL_FROM, FALL_FROM_SQUARES, FALL_TO, FALL_TO_SQUARES = (HEAD + 14 + i for i in range(5))
_W_SIZE = HEAD + 19


@kernel
def a_restart(state: Floats) -> None:
    state[DRIFT] = 0.0
    state[WARNING] = 0.0
    state[COUNT:] = 0.0


@kernel
def a_step(state: Floats, x: float) -> None:
    """One value. The order of operations is river's, so that every rounding is the same."""
    if state[DRIFT] != 0.0:
        a_restart(state)
    if not admit(state, x):
        return
    count = state[COUNT] + 1.0
    mean = state[MEAN] + (1.0 / count) * (x - state[MEAN])
    state[COUNT] = count
    state[MEAN] = mean
    bound = _hoeffding(state, count)
    if (
        state[LOW_COUNT] == 0.0
        or state[LOW_MEAN] + _hoeffding(state, state[LOW_COUNT]) >= mean + bound
    ):
        state[LOW_COUNT] = count
        state[LOW_MEAN] = mean
    rise = mean - state[LOW_MEAN]
    drift = _exceeds(rise, state[LOW_COUNT], count, state[LOG_DRIFT])
    warning = not drift and _exceeds(rise, state[LOW_COUNT], count, state[LOG_WARNING])
    if state[TWO_SIDED] != 0.0:
        if (
            state[HIGH_COUNT] == 0.0
            or state[HIGH_MEAN] - _hoeffding(state, state[HIGH_COUNT]) <= mean - bound
        ):
            state[HIGH_COUNT] = count
            state[HIGH_MEAN] = mean
        fall = state[HIGH_MEAN] - mean
        if _exceeds(fall, state[HIGH_COUNT], count, state[LOG_DRIFT]):
            drift = True
        elif _exceeds(fall, state[HIGH_COUNT], count, state[LOG_WARNING]):
            warning = True
    flag(state, drift, warning)


@kernel
def _hoeffding(state: Floats, count: float) -> float:
    return math.sqrt(1.0 / (2.0 * count) * state[LOG_BOUND])


@kernel
def _exceeds(change: float, prefix: float, count: float, log_confidence: float) -> bool:
    """Whether the mean of all values is off that of the prefix by more than chance allows."""
    if prefix == count:
        return False
    share = (count - prefix) / prefix * (1.0 / count)
    return change >= math.sqrt(share / 2.0 * log_confidence)


@kernel
def a_fold(state: Floats, values: Floats, hits: NDArray[np.int64]) -> int:
    found = 0
    for i in range(values.size):
        a_step(state, values[i])
        if state[DRIFT] != 0.0:
            hits[found] = int(state[SEEN]) - 1
            found += 1
    return found


@kernel
def w_restart(state: Floats) -> None:
    state[DRIFT] = 0.0
    state[WARNING] = 0.0
    state[ALL_MEAN:] = 0.0
    # Zero squares say "no value yet": the squared weights of one value are never 0.
    state[RISE_CUT] = np.inf
    state[FALL_CUT] = -np.inf


@kernel
def w_step(state: Floats, x: float) -> None:
    """One value. The order of operations is river's, so that every rounding is the same."""
    if state[DRIFT] != 0.0:
        w_restart(state)
    if not admit(state, x):
        return
    _average(state, ALL_MEAN, x)
    mean, squares = state[ALL_MEAN], state[ALL_SQUARES]
    bound = math.sqrt(squares * state[LOG_DRIFT] / 2.0)
    if mean + bound < state[RISE_CUT]:
        _cut(state, RISE_CUT, mean + bound)
    else:
        _average(state, RISE_TO, x)
    drift = _differs(state, RISE_CUT, 1.0, state[LOG_DRIFT])
    warning = not drift and _differs(state, RISE_CUT, 1.0, state[LOG_WARNING])
    if state[TWO_SIDED] != 0.0:
        if mean - bound > state[FALL_CUT]:
            _cut(state, FALL_CUT, mean - bound)
        else:
            _average(state, FALL_TO, x)
        if _differs(state, FALL_CUT, -1.0, state[LOG_DRIFT]):
            drift = True
        elif _differs(state, FALL_CUT, -1.0, state[LOG_WARNING]):
            warning = True
    flag(state, drift, warning)


@kernel
def _average(state: Floats, at: int, x: float) -> None:
    """Takes a value into the weighted mean at `at` and the sum of squared weights behind it."""
    if state[at + 1] == 0.0:
        state[at] = x
        state[at + 1] = state[LAMBDA_SQUARED] + state[LEFT_SQUARED] * 1.0
    else:
        state[at] = state[LAMBDA] * x + state[LAMBDA_LEFT] * state[at]
        state[at + 1] = state[LAMBDA_SQUARED] + state[LEFT_SQUARED] * state[at + 1]


@kernel
def _cut(state: Floats, at: int, bound: float) -> None:
    """All values so far become the prefix; nothing came after it yet."""
    state[at] = bound
    state[at + 1] = state[ALL_MEAN]
    state[at + 2] = state[ALL_SQUARES]
    state[at + 3] = 0.0
    state[at + 4] = 0.0


@kernel
def _differs(state: Floats, at: int, sign: float, log_confidence: float) -> bool:
    if state[at + 2] == 0.0 or state[at + 4] == 0.0:
        return False
    bound = math.sqrt((state[at + 2] + state[at + 4]) * log_confidence / 2.0)
    return bool(sign * (state[at + 3] - state[at + 1]) > bound)


@kernel
def w_fold(state: Floats, values: Floats, hits: NDArray[np.int64]) -> int:
    found = 0
    for i in range(values.size):
        w_step(state, values[i])
        if state[DRIFT] != 0.0:
            hits[found] = int(state[SEEN]) - 1
            found += 1
    return found


class HddmA(WarningDetector):
    """HDDM_A: detects that the mean of values in [0, 1] rose (or fell), by Hoeffding's bound.

    drift_confidence, warning_confidence: chance, in (0, 1), that one comparison is exceeded without
    change; over a stream of many comparisons it is not a bound. two_sided_test: falls count too.
    Positions are the same as river's `drift.binary.HDDMA`. Raises ValueError for parameters out of
    range.
    Source: Frias-Blanco et al. 2015, IEEE TKDE 27(3), section 3.1.
    """

    name = "HddmA"
    _kind = HDDM_A
    _kernels = Kernels(begin=a_restart, fold=a_fold)

    __slots__ = ()

    def __init__(
        self,
        drift_confidence: float = 0.001,
        warning_confidence: float = 0.005,
        two_sided_test: bool = False,
    ) -> None:
        drift = within("drift_confidence", drift_confidence, 0, 1)
        warning = within("warning_confidence", warning_confidence, 0, 1)
        numbers = (
            math.log(2.0 / drift),
            math.log(2.0 / warning),
            float(bool(two_sided_test)),
            math.log(1.0 / drift),
        )
        super().__init__(numbers, _A_SIZE)

    def _check(self) -> None:
        self._require_size(_A_SIZE)


class HddmW(WarningDetector):
    """HDDM_W: detects that the weighted mean of values in [0, 1] rose (or fell), by McDiarmid's
    bound; recent values weigh more.

    drift_confidence, warning_confidence: as for `HddmA`. lambda_val: weight of the newest value, in
    (0, 1). two_sided_test: falls count too. Positions are the same as river's
    `drift.binary.HDDMW`. Raises ValueError for parameters out of range.
    Source: Frias-Blanco et al. 2015, IEEE TKDE 27(3), section 3.2.
    """

    name = "HddmW"
    _kind = HDDM_W
    _kernels = Kernels(begin=w_restart, fold=w_fold)

    __slots__ = ()

    def __init__(
        self,
        drift_confidence: float = 0.001,
        warning_confidence: float = 0.005,
        lambda_val: float = 0.05,
        two_sided_test: bool = False,
    ) -> None:
        weight = within("lambda_val", lambda_val, 0, 1)
        numbers = (
            math.log(1.0 / within("drift_confidence", drift_confidence, 0, 1)),
            math.log(1.0 / within("warning_confidence", warning_confidence, 0, 1)),
            float(bool(two_sided_test)),
            weight,
            1.0 - weight,
            weight * weight,
            (1.0 - weight) ** 2,
        )
        super().__init__(numbers, _W_SIZE)

    def _check(self) -> None:
        self._require_size(_W_SIZE)


@warm_up
def _warm() -> None:
    HddmA().update([0.0])
    HddmW().update([0.0])
