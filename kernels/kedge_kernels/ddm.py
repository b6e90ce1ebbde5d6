"""DDM and EDDM: detectors on the rate of errors, and on the distance between errors."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from kedge_kernels._checks import finite_at_least, whole
from kedge_kernels._frames import Floats
from kedge_kernels._jit import kernel, warm_up
from kedge_kernels.detector_state import (
    DDM,
    DRIFT,
    EDDM,
    HEAD,
    SEEN,
    WARNING,
    Kernels,
    WarningDetector,
    admit,
    flag,
)

WARM_START, WARNING_THRESHOLD, DRIFT_THRESHOLD = HEAD, HEAD + 1, HEAD + 2
COUNT, RATE, LEAST_RATE, LEAST_SPREAD, LEAST_SUM = (HEAD + 3 + i for i in range(5))
_DDM_SIZE = HEAD + 8

# EDDM's own; HALF is 0.5 as a number that the compiler cannot see, for river takes the root by
# `** 0.5`, and a compiler that knows the exponent makes a sqrt of it, which may round otherwise.
ALPHA, BETA, HALF = HEAD + 1, HEAD + 2, HEAD + 3
VALUES, ERRORS, LAST_ERROR, MEAN, SQUARES, MOST = (HEAD + 4 + i for i in range(6))
_EDDM_SIZE = HEAD + 10


@kernel
def ddm_restart(state: Floats) -> None:
    state[DRIFT] = 0.0
    state[WARNING] = 0.0
    state[COUNT:] = 0.0
    state[LEAST_SUM] = np.inf


@kernel
def ddm_step(state: Floats, x: float) -> None:
    """One value. The order of operations is river's, so that every rounding is the same."""
    if state[DRIFT] != 0.0:
        ddm_restart(state)
    if not admit(state, x):
        return
    count = state[COUNT] + 1.0
    rate = state[RATE] + (1.0 / count) * (x - state[RATE])
    state[COUNT] = count
    state[RATE] = rate
    square = rate * (1.0 - rate) / count
    # A mean outside of [0, 1] has no Bernoulli spread: such a value decides nothing.
    if count <= state[WARM_START] or not square >= 0.0:
        return
    spread = math.sqrt(square)
    if rate + spread <= state[LEAST_SUM]:
        state[LEAST_RATE] = rate
        state[LEAST_SPREAD] = spread
        state[LEAST_SUM] = rate + spread
    least = state[LEAST_RATE]
    drift = rate + spread > least + state[DRIFT_THRESHOLD] * state[LEAST_SPREAD]
    warning = rate + spread > least + state[WARNING_THRESHOLD] * state[LEAST_SPREAD]
    flag(state, drift, warning and not drift)


@kernel
def ddm_fold(state: Floats, values: Floats, hits: NDArray[np.int64]) -> int:
    found = 0
    for i in range(values.size):
        ddm_step(state, values[i])
        if state[DRIFT] != 0.0:
            hits[found] = int(state[SEEN]) - 1
            found += 1
    return found


@kernel
def eddm_restart(state: Floats) -> None:
    state[DRIFT] = 0.0
    state[WARNING] = 0.0
    state[VALUES:] = 0.0
    state[MOST] = -1.0


@kernel
def eddm_step(state: Floats, x: float) -> None:
    """One value; only one that equals 1 is an error. Rounds as river does."""
    if state[DRIFT] != 0.0:
        eddm_restart(state)
    if not admit(state, x):
        return
    state[VALUES] += 1.0
    if x != 1.0:
        return
    errors = state[ERRORS] + 1.0
    distance = state[VALUES] - state[LAST_ERROR]
    before = state[MEAN]
    mean = before + (1.0 / errors) * (distance - before)
    state[ERRORS] = errors
    state[MEAN] = mean
    state[SQUARES] += (distance - before) * (distance - mean)
    state[LAST_ERROR] = state[VALUES]
    if state[VALUES] <= state[WARM_START]:
        return
    variance = state[SQUARES] / (errors - 1.0) if errors > 1.0 else 0.0
    reach = mean + 2.0 * variance ** state[HALF]
    if reach > state[MOST]:
        state[MOST] = reach
    elif errors > state[WARM_START]:
        level = reach / state[MOST]
        drift = level < state[BETA]
        # As in river, a detection leaves the warning as it was.
        warning = state[WARNING] != 0.0 if drift else level < state[ALPHA]
        flag(state, drift, warning)


@kernel
def eddm_fold(state: Floats, values: Floats, hits: NDArray[np.int64]) -> int:
    found = 0
    for i in range(values.size):
        eddm_step(state, values[i])
        if state[DRIFT] != 0.0:
            hits[found] = int(state[SEEN]) - 1
            found += 1
    return found


class Ddm(WarningDetector):
    """DDM: detects that the rate of errors rose above its least by so many standard deviations.

    Values: 1 for an error, 0 for none; shares between are allowed. warm_start: no verdict before
    more values than this. warning_threshold, drift_threshold: in standard deviations at the least
    rate. Positions are the same as river's `drift.binary.DDM`; where the mean of the values leaves
    [0, 1] river raises and Ddm decides nothing. No promise on false alarms: one that sees no error
    for long alarms at the next. Raises ValueError for parameters out of range.
    Source: Gama et al. 2004, SBIA, section 3.
    """

    name = "Ddm"
    _kind = DDM
    _kernels = Kernels(begin=ddm_restart, fold=ddm_fold)

    __slots__ = ()

    def __init__(
        self, warm_start: int = 30, warning_threshold: float = 2.0, drift_threshold: float = 3.0
    ) -> None:
        numbers = (
            whole("warm_start", warm_start, 0),
            finite_at_least("warning_threshold", warning_threshold, 0),
            finite_at_least("drift_threshold", drift_threshold, 0),
        )
        super().__init__(numbers, _DDM_SIZE)

    def _check(self) -> None:
        self._require_size(_DDM_SIZE)


class Eddm(WarningDetector):
    """EDDM: detects that errors follow each other more closely than they did at best.

    Values: 1 for an error, anything else for none. warm_start: values, and errors, before the first
    verdict. alpha, beta: shares of the greatest distance below which it warns and detects, with
    0 < beta <= alpha. Positions are the same as river's `drift.binary.EDDM`. No promise on false
    alarms, and with the default thresholds there are many. Raises ValueError for parameters out of
    range.
    Source: Baena-Garcia et al. 2006, IWKDDS, section 3.
    """

    name = "Eddm"
    _kind = EDDM
    _kernels = Kernels(begin=eddm_restart, fold=eddm_fold)

    __slots__ = ()

    def __init__(self, warm_start: int = 30, alpha: float = 0.95, beta: float = 0.9) -> None:
        if not 0 < beta <= alpha <= 1:
            raise ValueError(f"alpha, beta: expected 0 < beta <= alpha <= 1, got {alpha}, {beta}")
        super().__init__((whole("warm_start", warm_start, 0), alpha, beta, 0.5), _EDDM_SIZE)

    def _check(self) -> None:
        self._require_size(_EDDM_SIZE)


@warm_up
def _warm() -> None:
    Ddm().update([0.0])
    Eddm().update([0.0])
