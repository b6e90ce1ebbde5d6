"""ADWIN: a window that grows while its parts agree and is cut when they do not."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from kedge_kernels._checks import whole, within
from kedge_kernels._frames import Floats
from kedge_kernels._jit import kernel, warm_up
from kedge_kernels.detector_state import (
    ADWIN,
    COUNT_MAX,
    DRIFT,
    HEAD,
    SEEN,
    Detector,
    Kernels,
    admit,
    flag,
)

DELTA, CLOCK, BUCKETS_MAX = HEAD, HEAD + 1, HEAD + 2
PART_MIN, GRACE = HEAD + 3, HEAD + 4
WIDTH, TOTAL, VARIANCE = HEAD + 5, HEAD + 6, HEAD + 7
UNTIL_CHECK, ROWS, COUNTS = HEAD + 8, HEAD + 9, HEAD + 10
# Row r holds buckets of 2**r values each. 56 rows last 2**57 values: at 10 ns each, 45 years.
ROWS_MAX = 56
BUCKETS = COUNTS + ROWS_MAX


@kernel
def restart(state: Floats) -> None:
    state[DRIFT] = 0.0
    state[WIDTH:] = 0.0
    state[UNTIL_CHECK] = state[CLOCK]
    state[ROWS] = 1.0


@kernel
def step(state: Floats, x: float) -> None:
    """One value. The order of operations is river's, so that every rounding is the same."""
    if state[DRIFT] != 0.0:
        restart(state)
    if not admit(state, x):
        return
    before = state[WIDTH]
    width = before + 1.0
    if before > 0.0:
        distance = x - state[TOTAL] / before
        state[VARIANCE] += before * distance * distance / width
    state[WIDTH] = width
    state[TOTAL] += x
    _insert(state, x)
    state[UNTIL_CHECK] -= 1.0
    if state[UNTIL_CHECK] == 0.0:
        state[UNTIL_CHECK] = state[CLOCK]
        if width > state[GRACE] and _shrink(state):
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


@kernel
def _insert(state: Floats, x: float) -> None:
    """A new bucket of one value; wherever a row overflows, its two oldest buckets become one of the
    next row. Buckets of a row lie oldest first: totals, then variances.
    """
    full = int(state[BUCKETS_MAX]) + 1
    total, variance = x, 0.0
    values = 1.0
    for row in range(ROWS_MAX):
        count = int(state[COUNTS + row])
        at = BUCKETS + 2 * full * row
        state[at + count] = total
        state[at + full + count] = variance
        count += 1
        if row >= state[ROWS]:
            state[ROWS] = row + 1
        if count < full:
            state[COUNTS + row] = count
            return
        gap = state[at] / values - state[at + 1] / values
        total = state[at] + state[at + 1]
        variance = state[at + full] + state[at + full + 1] + values * 0.5 * gap * gap
        for k in range(2, full):
            state[at + k - 2] = state[at + k]
            state[at + full + k - 2] = state[at + full + k]
        state[COUNTS + row] = count - 2
        values *= 2.0


@kernel
def _shrink(state: Floats) -> bool:
    """Drops the oldest bucket as long as some cut parts the window; whether any was dropped."""
    dropped = False
    while _finds_cut(state):
        _drop_oldest(state)
        dropped = True
    return dropped


@kernel
def _finds_cut(state: Floats) -> bool:
    """Whether the means before and behind some bucket's end differ by more than the bound of
    Bifet & Gavalda 2007, theorem 3.2 with the variance.
    """
    width = state[WIDTH]
    if width < 2.0:
        return False
    part_min = state[PART_MIN]
    share = math.log(2.0 * math.log(width) / state[DELTA])
    spread = state[VARIANCE] / width
    slope = 2.0 / 3.0 * share
    full = int(state[BUCKETS_MAX]) + 1
    old, new = 0.0, width
    old_total, new_total = 0.0, state[TOTAL]
    last_row = int(state[ROWS]) - 1
    values = 2.0**last_row
    for row in range(last_row, -1, -1):
        count = int(state[COUNTS + row])
        at = BUCKETS + 2 * full * row
        if row == 0:
            # Behind the newest bucket there is nothing to compare with.
            count -= 1
        for k in range(count):
            old += values
            new -= values
            old_total += state[at + k]
            new_total -= state[at + k]
            if new < part_min:
                return False
            if old < part_min:
                continue
            gap = abs(old_total / old - new_total / new)
            inverse = 1.0 / (old - part_min + 1.0) + 1.0 / (new - part_min + 1.0)
            base = slope * inverse
            # A root adds to the bound, so most cuts need none. Rounding can make it one of a
            # negative number: no cut then.
            if gap > base:
                square = 2.0 * inverse * spread * share
                if square >= 0.0 and gap > math.sqrt(square) + base:
                    return True
        values *= 0.5
    return False


@kernel
def _drop_oldest(state: Floats) -> None:
    row = int(state[ROWS]) - 1
    while row > 0 and state[COUNTS + row] == 0.0:
        row -= 1
    full = int(state[BUCKETS_MAX]) + 1
    at = BUCKETS + 2 * full * row
    values = 2.0**row
    total, variance = state[at], state[at + full]
    state[WIDTH] -= values
    state[TOTAL] -= total
    width = state[WIDTH]
    gap = total / values - state[TOTAL] / width
    state[VARIANCE] -= variance + values * width * gap * gap / (values + width)
    count = int(state[COUNTS + row]) - 1
    for k in range(count):
        state[at + k] = state[at + k + 1]
        state[at + full + k] = state[at + full + k + 1]
    state[COUNTS + row] = count
    while row > 0 and state[COUNTS + row] == 0.0:
        row -= 1
    state[ROWS] = row + 1


def _size(buckets_max: int) -> int:
    return BUCKETS + 2 * (buckets_max + 1) * ROWS_MAX


class Adwin(Detector):
    """ADWIN2: detects that the mean of a stream changed, either way, at any rate of change.

    delta: bound on the chance of a false cut at each check, in (0, 1). clock: a check every so many
    values. max_buckets: buckets of each size before two become one, 2 to 64. min_window_length:
    values that each part of a cut needs. grace_period: no check before more values than this.
    Positions are the same as river's `drift.ADWIN`, which starts anew after each detection.
    Raises ValueError for parameters out of range.
    Source: Bifet & Gavalda 2007, SDM, section 4; variances by Babcock et al. 2003, PODS.
    """

    name = "Adwin"
    _kind = ADWIN
    _kernels = Kernels(begin=restart, fold=fold)

    __slots__ = ()

    def __init__(
        self,
        delta: float = 0.002,
        clock: int = 32,
        max_buckets: int = 5,
        min_window_length: int = 5,
        grace_period: int = 10,
    ) -> None:
        buckets_max = whole("max_buckets", max_buckets, 2, 64)
        numbers = (
            within("delta", delta, 0, 1),
            whole("clock", clock, 1),
            buckets_max,
            whole("min_window_length", min_window_length, 0),
            whole("grace_period", grace_period, 0),
        )
        super().__init__(numbers, _size(buckets_max))

    @property
    def width(self) -> int:
        """Values in the window."""
        return int(self._state[WIDTH])

    @property
    def total(self) -> float:
        """Sum of the values in the window."""
        return float(self._state[TOTAL])

    @property
    def variance(self) -> float:
        """Sum of squared deviations in the window, as river names it: divide by `width`."""
        return float(self._state[VARIANCE])

    @property
    def estimation(self) -> float:
        """Mean of the window; 0 if it is empty."""
        return self.total / self.width if self.width else 0.0

    def _check(self) -> None:
        self._require("max_buckets", (BUCKETS_MAX,), 2, 64)
        buckets_max = int(self._state[BUCKETS_MAX])
        self._require_size(_size(buckets_max))
        self._require("clock", (CLOCK,), 1, 2**31)
        self._require("until check", (UNTIL_CHECK,), 1, float(self._state[CLOCK]))
        self._require("width", (WIDTH,), 0, COUNT_MAX)
        self._require("rows", (ROWS,), 1, ROWS_MAX)
        self._require("counts", slice(COUNTS, BUCKETS), 0, buckets_max)
        if np.any(self._state[COUNTS + int(self._state[ROWS]) : BUCKETS]):
            raise ValueError(f"state of {self.name}: expected no bucket behind its last row")


@warm_up
def _warm() -> None:
    Adwin().update([0.0])
