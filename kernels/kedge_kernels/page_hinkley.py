"""Page-Hinkley: a CUSUM of deviations from the running mean."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from kedge_kernels._checks import finite_at_least, whole
from kedge_kernels._frames import Floats
from kedge_kernels._jit import kernel, warm_up
from kedge_kernels.detector_state import (
    DRIFT,
    HEAD,
    PAGE_HINKLEY,
    SEEN,
    Detector,
    Kernels,
    admit,
    flag,
)

INSTANCES_MIN, DELTA, THRESHOLD, ALPHA, MODE = HEAD, HEAD + 1, HEAD + 2, HEAD + 3, HEAD + 4
COUNT, MEAN, SUM_UP, SUM_DOWN = HEAD + 5, HEAD + 6, HEAD + 7, HEAD + 8
LEAST_UP, MOST_DOWN = HEAD + 9, HEAD + 10
_SIZE = HEAD + 11

UP, DOWN, BOTH = 1, 2, 3
_MODES = {"up": UP, "down": DOWN, "both": BOTH}


@kernel
def restart(state: Floats) -> None:
    state[DRIFT] = 0.0
    state[COUNT] = 0.0
    state[MEAN] = 0.0
    state[SUM_UP] = 0.0
    state[SUM_DOWN] = 0.0
    state[LEAST_UP] = np.inf
    state[MOST_DOWN] = -np.inf


@kernel
def step(state: Floats, x: float) -> None:
    """One value. The order of operations is river's, so that every rounding is the same."""
    if state[DRIFT] != 0.0:
        restart(state)
    if not admit(state, x):
        return
    count = state[COUNT] + 1.0
    mean = state[MEAN] + (1.0 / count) * (x - state[MEAN])
    deviation = x - mean
    up = state[ALPHA] * state[SUM_UP] + deviation - state[DELTA]
    down = state[ALPHA] * state[SUM_DOWN] + deviation + state[DELTA]
    least = up if up < state[LEAST_UP] else state[LEAST_UP]
    most = down if down > state[MOST_DOWN] else state[MOST_DOWN]
    state[COUNT] = count
    state[MEAN] = mean
    state[SUM_UP] = up
    state[SUM_DOWN] = down
    state[LEAST_UP] = least
    state[MOST_DOWN] = most
    if count >= state[INSTANCES_MIN]:
        mode = int(state[MODE])
        rises = mode & UP != 0 and up - least > state[THRESHOLD]
        falls = mode & DOWN != 0 and most - down > state[THRESHOLD]
        if rises or falls:
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


class PageHinkley(Detector):
    """Page-Hinkley test: detects that the mean of a stream rose or fell.

    min_instances: values before the first detection. delta: deviation from the mean that is
    tolerated, in units of the values. threshold: how far the cumulated deviation may leave its
    extreme. alpha: forgetting factor of the sums, in (0, 1]. mode: "up", "down" or "both".
    Positions are the same as river's `drift.PageHinkley`. No promise on false alarms.
    Raises ValueError for parameters out of range.
    Source: Page 1954, Biometrika 41; Sebastiao & Fernandes 2017.
    """

    name = "PageHinkley"
    _kind = PAGE_HINKLEY
    _kernels = Kernels(begin=restart, fold=fold)

    __slots__ = ()

    def __init__(
        self,
        min_instances: int = 30,
        delta: float = 0.005,
        threshold: float = 50.0,
        alpha: float = 1 - 0.0001,
        mode: str = "both",
    ) -> None:
        if mode not in _MODES:
            raise ValueError(f"mode: expected one of {sorted(_MODES)}, got {mode!r}")
        if not 0 < alpha <= 1:
            raise ValueError(f"alpha: expected a number in (0, 1], got {alpha}")
        instances = whole("min_instances", min_instances, 0)
        numbers = (
            instances,
            finite_at_least("delta", delta, 0),
            finite_at_least("threshold", threshold, 0),
            alpha,
            _MODES[mode],
        )
        super().__init__(numbers, _SIZE)

    def _check(self) -> None:
        self._require_size(_SIZE)
        self._require("mode", (MODE,), UP, BOTH)


@warm_up
def _warm() -> None:
    PageHinkley().update([0.0])
