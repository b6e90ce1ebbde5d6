"""KSWIN: a Kolmogorov-Smirnov test of the newest values against a draw from those before."""

from __future__ import annotations

import math
import secrets

import numpy as np
from numpy.typing import ArrayLike, NDArray

from kedge_kernels import _mersenne
from kedge_kernels._checks import series, whole
from kedge_kernels._frames import Floats
from kedge_kernels._jit import kernel, warm_up
from kedge_kernels._mersenne import draw_below, seed_twister
from kedge_kernels.detector_state import DRIFT, HEAD, KSWIN, SEEN, Detector, Kernels, admit, flag

# STEPS_MIN: the least difference of the two empirical distributions that is a detection, in steps
# of 1 / stat_size. POOL_MAX: above it Python draws by rejection instead of from a shrinking pool.
WINDOW, RECENT, STEPS_MIN, POOL_MAX = HEAD, HEAD + 1, HEAD + 2, HEAD + 3
SEED_LOW, SEED_HIGH = HEAD + 4, HEAD + 5
FILLED, OLDEST, TWISTER = HEAD + 6, HEAD + 7, HEAD + 8
RING = TWISTER + _mersenne.SIZE

RECENT_MAX = 10_000
WINDOW_MAX = 1_000_000


@kernel
def restart(state: Floats) -> None:
    state[DRIFT] = 0.0
    state[FILLED] = 0.0
    state[OLDEST] = 0.0
    seed_twister(state, TWISTER, int(state[SEED_LOW]), int(state[SEED_HIGH]))


@kernel
def step(state: Floats, x: float) -> None:
    """One value: into the ring; a test whenever the ring is full."""
    if state[DRIFT] != 0.0:
        restart(state)
    if not admit(state, x):
        return
    window = int(state[WINDOW])
    if state[FILLED] < window:
        state[RING + int(state[FILLED])] = x
        state[FILLED] += 1.0
    else:
        oldest = int(state[OLDEST])
        state[RING + oldest] = x
        state[OLDEST] = (oldest + 1) % window
    if state[FILLED] >= window:
        flag(state, _steps_apart(state) >= state[STEPS_MIN], False)


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
def _steps_apart(state: Floats) -> int:
    """Greatest difference of the empirical distributions of draw and newest values, in steps."""
    window, recent = int(state[WINDOW]), int(state[RECENT])
    oldest = int(state[OLDEST])
    drawn = np.empty(recent)
    newest = np.empty(recent)
    _draw(state, window - recent, drawn)
    for i in range(recent):
        drawn[i] = state[RING + (oldest + int(drawn[i])) % window]
        newest[i] = state[RING + (oldest + window - recent + i) % window]
    drawn.sort()
    newest.sort()
    i, j, most = 0, 0, 0
    while i < recent and j < recent:
        x = min(drawn[i], newest[j])
        while i < recent and drawn[i] == x:
            i += 1
        while j < recent and newest[j] == x:
            j += 1
        most = max(most, abs(i - j))
    return most


@kernel
def _draw(state: Floats, population: int, drawn: Floats) -> None:
    """Distinct positions, as `random.sample(range(population), drawn.size)` draws them."""
    if population <= state[POOL_MAX]:
        pool = np.arange(population)
        for i in range(drawn.size):
            left = population - i
            j = draw_below(state, TWISTER, left)
            drawn[i] = pool[j]
            pool[j] = pool[left - 1]
        return
    taken = np.zeros(population, dtype=np.bool_)
    for i in range(drawn.size):
        j = draw_below(state, TWISTER, population)
        while taken[j]:
            j = draw_below(state, TWISTER, population)
        taken[j] = True
        drawn[i] = j


def _chance_of_steps(size: int, steps: int) -> float:
    """P(greatest difference >= steps / size) for two samples of this size from one continuous
    distribution. Source: Gnedenko & Korolyuk 1951, by reflection; as nested products, because the
    binomial coefficients overflow and their alternating sum cancels.
    """
    chance = 0.0
    for fold_count in range(size // steps, -1, -1):
        term = 1.0
        first = fold_count * steps
        for j in range(steps):
            term = (size - first - j) * term / (size + first + j + 1)
        chance = term * (1.0 - chance)
    return min(2.0 * chance, 1.0)


def _pool_max(drawn: int) -> int:
    """The greatest population from which Python's `random.sample` draws by a shrinking pool."""
    return 21 + (4 ** math.ceil(math.log(drawn * 3, 4)) if drawn > 5 else 0)


def _steps_min(size: int, alpha: float) -> int:
    """The least difference that is a detection: p-value at most alpha, and above 0.1 in itself."""
    low, high = 1, size + 1
    while low < high:
        middle = (low + high) // 2
        if _chance_of_steps(size, middle) <= alpha and middle / size > 0.1:
            high = middle
        else:
            low = middle + 1
    return low


class Kswin(Detector):
    """KSWIN: detects that the distribution of a stream changed, its mean or not.

    alpha: significance of each test, in [0, 1]; below 0.01 is advised, for there is a test at every
    value. window_size: values kept, at most 1,000,000. stat_size: newest values that are tested
    against as many drawn from the others, at most 10,000 and half the window. seed: 0..2**64 - 1;
    None draws one, so that positions differ from run to run. window: f64[n], values already seen.
    Positions are the same as river's `drift.KSWIN` with the same seed; each detection starts the
    draws anew. Raises ValueError for parameters out of range.
    Source: Raab, Heusinger & Schleif 2020, Neurocomputing 416, section 4.
    """

    name = "Kswin"
    _kind = KSWIN
    _kernels = Kernels(begin=restart, fold=fold)

    __slots__ = ()

    def __init__(
        self,
        alpha: float = 0.005,
        window_size: int = 100,
        stat_size: int = 30,
        seed: int | None = None,
        window: ArrayLike | None = None,
    ) -> None:
        if not 0 <= alpha <= 1:
            raise ValueError(f"alpha: expected a number in [0, 1], got {alpha}")
        values = whole("window_size", window_size, 2, WINDOW_MAX)
        recent = whole("stat_size", stat_size, 1, min(RECENT_MAX, values // 2))
        chosen = secrets.randbits(64) if seed is None else whole("seed", seed, 0, 2**64 - 1)
        numbers = (
            values,
            recent,
            _steps_min(recent, alpha),
            _pool_max(recent),
            chosen & 0xFFFFFFFF,
            chosen >> 32,
        )
        super().__init__(numbers, RING + values)
        if window is not None:
            self._fill(series("window", window)[-values:])

    def _fill(self, window: Floats) -> None:
        if not np.isfinite(window).all():
            raise ValueError("window: expected finite values, got NaN or an infinity")
        self._state[RING : RING + window.size] = window
        self._state[FILLED] = window.size

    def _check(self) -> None:
        self._require("window_size", (WINDOW,), 2, WINDOW_MAX)
        window = int(self._state[WINDOW])
        self._require("stat_size", (RECENT,), 1, min(RECENT_MAX, window // 2))
        self._require_size(RING + window)
        pool_max = _pool_max(int(self._state[RECENT]))
        self._require("pool_max", (POOL_MAX,), pool_max, pool_max)
        self._require("seed", (SEED_LOW, SEED_HIGH), 0, 2**32 - 1)
        self._require("ring", (FILLED,), 0, window)
        self._require("ring", (OLDEST,), 0, window - 1)
        self._require("twister", slice(TWISTER, RING - 1), 0, 2**32 - 1)
        self._require("twister", (RING - 1,), 0, _mersenne.WORDS)
        if not np.isfinite(self._state[RING:]).all():
            raise ValueError(f"state of {self.name}: expected finite values in its window")
        # All words 0 stay 0 for ever, and a draw by rejection would never end.
        if not self._state[TWISTER + 1 : RING - 1].any():
            raise ValueError(f"state of {self.name}: expected a seeded generator")


@warm_up
def _warm() -> None:
    Kswin(seed=0).update([0.0])
