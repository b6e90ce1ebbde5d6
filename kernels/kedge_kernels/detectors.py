"""All detectors of an endpoint in one call.

A call from Python costs more than a detector's step, so one value for each of D detectors goes in
at once, and their states lie one behind another in one array.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from kedge_kernels import adwin, ddm, e_detectors, hddm, kswin, page_hinkley
from kedge_kernels._checks import series
from kedge_kernels._frames import Floats, pack, unpack
from kedge_kernels._jit import brief_kernel, warm_up
from kedge_kernels.adwin import Adwin
from kedge_kernels.ddm import Ddm, Eddm
from kedge_kernels.detector_state import (
    ADWIN,
    DDM,
    DRIFT,
    E_CUSUM,
    E_SR,
    EDDM,
    HDDM_A,
    HDDM_W,
    HEAD,
    KIND,
    KSWIN,
    PAGE_HINKLEY,
    SIZE,
    WARNING,
    Detector,
)
from kedge_kernels.e_detectors import ECusum, ESr
from kedge_kernels.hddm import HddmA, HddmW
from kedge_kernels.kswin import Kswin
from kedge_kernels.page_hinkley import PageHinkley

NOTHING, IN_WARNING, DETECTED = 0, 1, 2

_FLOAT64 = np.dtype(np.float64)

_CLASSES: dict[int, type[Detector]] = {
    cls._kind: cls for cls in (Adwin, PageHinkley, Ddm, Eddm, HddmA, HddmW, Kswin, ECusum, ESr)
}

_adwin_step = adwin.step
_page_hinkley_step = page_hinkley.step
_ddm_step = ddm.ddm_step
_eddm_step = ddm.eddm_step
_hddm_a_step = hddm.a_step
_hddm_w_step = hddm.w_step
_kswin_step = kswin.step
_e_step = e_detectors.step


@brief_kernel
def _step_all(x: Floats, states: Floats, levels: NDArray[np.uint8]) -> int:
    """Advances every detector by its value; the number of detectors, or -1 if `states` is not that
    many states, one behind another. Nothing is written then.
    """
    start = 0
    for _ in range(x.size):
        if start + HEAD > states.size:
            return -1
        size = int(states[start + SIZE])
        if size < HEAD or size > states.size - start:
            return -1
        start += size
    if start != states.size:
        return -1
    start = 0
    for d in range(x.size):
        size = int(states[start + SIZE])
        state = states[start : start + size]
        _step_one(state, x[d])
        if state[DRIFT] != 0.0:
            levels[d] = DETECTED
        else:
            levels[d] = IN_WARNING if state[WARNING] != 0.0 else NOTHING
        start += size
    return x.size


@brief_kernel
def _step_one(state: Floats, x: float) -> None:
    kind = int(state[KIND])
    if kind == ADWIN:
        _adwin_step(state, x)
    elif kind == PAGE_HINKLEY:
        _page_hinkley_step(state, x)
    elif kind == DDM:
        _ddm_step(state, x)
    elif kind == EDDM:
        _eddm_step(state, x)
    elif kind == HDDM_A:
        _hddm_a_step(state, x)
    elif kind == HDDM_W:
        _hddm_w_step(state, x)
    elif kind == KSWIN:
        _kswin_step(state, x)
    elif kind in (E_CUSUM, E_SR):
        _e_step(state, x)


def detectors_step(x: ArrayLike, states: Floats) -> NDArray[np.uint8]:
    """Feeds x, f64[D], one value to each of D detectors; answers u8[D]: 2 for a detection, 1 within
    the warning zone, else 0. A NaN (and an infinity) is skipped: no value for that detector.

    states: f64[s], contiguous, as `join_states` made it; it is advanced in place. Raises ValueError
    if it is not D states, one behind another.
    """
    # Asked first: the whole check costs 0.7 us, as much as a dozen detectors.
    values = x if isinstance(x, np.ndarray) and _is_row(x) else series("x", x)
    if not _is_row(states):
        raise ValueError(f"states: expected writable contiguous f64[s], got {states.dtype} array")
    levels = np.empty(values.size, dtype=np.uint8)
    if _step_all(values, states, levels) != values.size:
        raise ValueError(f"states: expected {values.size} states, one behind another, got others")
    return levels


def _is_row(array: NDArray[Any]) -> bool:
    """Whether it is f64[n], contiguous and writable, as the kernel is compiled for."""
    return array.dtype == _FLOAT64 and array.ndim == 1 and array.flags.carray


def join_states(detectors: Sequence[Detector]) -> Floats:
    """The states of these detectors, f64[s], copied one behind another."""
    if not detectors:
        return np.empty(0)
    return np.concatenate([detector.state for detector in detectors])


def split_states(states: Floats) -> list[Detector]:
    """The detectors, each with a copy of its state, whose states lie one behind another. Raises
    ValueError if any is not a detector's state.
    """
    found = []
    rest = np.asarray(states, dtype=np.float64)
    while rest.size:
        cls = _CLASSES.get(int(rest[KIND])) if np.isfinite(rest[KIND]) else None
        if cls is None:
            raise ValueError(f"states: expected the kind of a detector, got {rest[KIND]}")
        if rest.size < HEAD or not HEAD <= rest[SIZE] <= rest.size:
            raise ValueError(
                f"states: expected a whole state of {cls.name}, got {rest.size} numbers"
            )
        size = int(rest[SIZE])
        found.append(cls.from_bytes(pack(cls.name, rest[:size])))
        rest = rest[size:]
    return found


class Detectors:
    """The detectors of one endpoint, advanced together.

    detectors: copied at construction. Raises ValueError as `detectors_step` does.
    """

    __slots__ = ("states",)

    def __init__(self, detectors: Sequence[Detector]) -> None:
        self.states = join_states(detectors)

    def step(self, x: ArrayLike) -> NDArray[np.uint8]:
        """As `detectors_step`."""
        return detectors_step(x, self.states)

    def split(self) -> list[Detector]:
        """A copy of each detector as it is now."""
        return split_states(self.states)

    def to_bytes(self) -> bytes:
        """All of them, parameters included."""
        return pack("Detectors", self.states)

    @classmethod
    def from_bytes(cls, data: bytes) -> Detectors:
        """What `to_bytes` wrote. Raises ValueError for anything else."""
        return cls(split_states(unpack("Detectors", data)))


@warm_up
def _warm() -> None:
    detectors_step([0.0], join_states([Ddm()]))
