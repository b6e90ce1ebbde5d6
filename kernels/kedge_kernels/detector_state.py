"""What all streaming detectors share: the head of their flat state, and the class around it.

A detector's whole state, parameters included, is one f64 array. So the states of all detectors of
an endpoint can lie one behind another and advance in one call (`detectors.py`), and a state is
saved by saving its numbers. Whole numbers in it are exact up to 2**53.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, NamedTuple, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from kedge_kernels._checks import series
from kedge_kernels._frames import Floats, pack, unpack
from kedge_kernels._jit import kernel

# The head of every state: which detector it is, how many numbers it has, values seen so far
# (skipped ones too), values skipped because they were not finite, whether the last value was a
# detection or lies in the warning zone, detections so far.
KIND, SIZE, SEEN, SKIPPED, DRIFT, WARNING, DETECTIONS = 0, 1, 2, 3, 4, 5, 6
HEAD = 7
_HEAD_COUNTS = (SEEN, SKIPPED, DETECTIONS)

ADWIN, PAGE_HINKLEY, DDM, EDDM, HDDM_A, HDDM_W, KSWIN, E_CUSUM, E_SR = range(1, 10)

COUNT_MAX = 2.0**53


@kernel
def admit(state: Floats, x: float) -> bool:
    """Counts a value in; False if it is not finite and so says nothing."""
    state[SEEN] += 1
    if math.isfinite(x):
        return True
    state[SKIPPED] += 1
    return False


@kernel
def flag(state: Floats, drift: bool, warning: bool) -> None:
    """Records what the last value was."""
    state[WARNING] = 1.0 if warning else 0.0
    if drift:
        state[DRIFT] = 1.0
        state[DETECTIONS] += 1


class Kernels(NamedTuple):
    """What a detector runs. begin(state): all behind the parameters as it is before the first
    value. fold(state, values, hits): takes the values in, answers how many positions are in hits.
    """

    begin: Callable[[Floats], None]
    fold: Callable[[Floats, Floats, NDArray[np.int64]], int]


class Detector:
    """A streaming change detector: values in, positions of detections out.

    After a detection the next value starts it anew, as in river. A value that is NaN or infinite
    counts as a position and is otherwise skipped: it can neither cause a detection nor spoil what
    follows. How a stream is cut into blocks changes nothing.
    """

    name: ClassVar[str]
    _kind: ClassVar[int]
    _kernels: ClassVar[Kernels]

    __slots__ = ("_state",)

    def __init__(self, numbers: Sequence[float], size: int) -> None:
        """numbers: the parameters, behind the head; size: numbers in the whole state."""
        self._state = np.zeros(size)
        self._state[KIND] = self._kind
        self._state[SIZE] = size
        self._state[HEAD : HEAD + len(numbers)] = numbers
        self._kernels.begin(self._state)

    def update(self, values: ArrayLike) -> NDArray[np.int64]:
        """Feeds values, f64[n] or one number; answers i64[k], the positions of detections, counted
        from 0 at the first value ever fed. Raises ValueError if values has another shape.
        """
        block = series("values", values)
        hits = np.empty(block.size, dtype=np.int64)
        found = self._kernels.fold(self._state, block, hits)
        return hits[:found].copy()

    def reset(self) -> None:
        """Forgets all values; the next one is position 0 again."""
        self._state[SEEN:HEAD] = 0.0
        self._kernels.begin(self._state)

    @property
    def drift_detected(self) -> bool:
        """Whether the last value was a detection."""
        return bool(self._state[DRIFT])

    @property
    def seen(self) -> int:
        """Values fed so far."""
        return int(self._state[SEEN])

    @property
    def skipped(self) -> int:
        """Values that were skipped, being NaN or infinite."""
        return int(self._state[SKIPPED])

    @property
    def detections(self) -> int:
        """Detections so far."""
        return int(self._state[DETECTIONS])

    @property
    def state(self) -> Floats:
        """The flat state itself, f64[s], not a copy: write to it only what a kernel would."""
        return self._state

    def to_bytes(self) -> bytes:
        """The whole detector, parameters included."""
        return pack(self.name, self._state)

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """The detector that `to_bytes` wrote. Raises ValueError for anything else: no bytes make a
        detector whose kernel would leave its own state.
        """
        state = unpack(cls.name, data)
        made = cls.__new__(cls)
        made._state = state
        if state.size < HEAD or state[KIND] != cls._kind or state[SIZE] != state.size:
            raise ValueError(f"state of {cls.name}: expected its head, got {state[:HEAD].tolist()}")
        made._require("head", _HEAD_COUNTS, 0, COUNT_MAX)
        made._require("head", (DRIFT, WARNING), 0, 1)
        made._check()
        return made

    def _check(self) -> None:
        """Raises ValueError unless parameters and positions are within their bounds."""
        raise NotImplementedError

    def _require(self, what: str, fields: Sequence[int] | slice, low: float, high: float) -> None:
        """Raises ValueError unless these numbers of the state are whole and low..high."""
        numbers: Any = self._state[fields if isinstance(fields, slice) else list(fields)]
        # NaN fails every comparison, so it is refused here too.
        if not np.all((numbers >= low) & (numbers <= high) & (numbers == np.floor(numbers))):
            raise ValueError(
                f"state of {self.name}: expected {what} in {low:g}..{high:g}, got {numbers}"
            )

    def _require_size(self, size: int) -> None:
        if self._state.size != size:
            raise ValueError(
                f"state of {self.name}: expected {size} numbers, got {self._state.size}"
            )

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.seen} values, {self.detections} detections>"


class WarningDetector(Detector):
    """A detector that also has a warning zone before a detection."""

    __slots__ = ()

    @property
    def in_warning(self) -> bool:
        """Whether the last value lies in the warning zone (river: `warning_detected`)."""
        return bool(self._state[WARNING])
