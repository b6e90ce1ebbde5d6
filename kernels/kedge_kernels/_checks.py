"""What the classes of this package ask of their arguments, in one wording: thing, expected, got."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from kedge_kernels._frames import Floats


def within(thing: str, value: float, low: float, high: float) -> float:
    """`value` as a float, strictly between low and high; raises ValueError."""
    if not low < value < high:
        raise ValueError(f"{thing}: expected a number in ({low:g}, {high:g}), got {value}")
    return float(value)


def at_least(thing: str, value: float, low: float) -> float:
    """`value` as a float, finite and at least `low`; raises ValueError."""
    if not (value >= low and math.isfinite(value)):
        raise ValueError(f"{thing}: expected a finite number of at least {low:g}, got {value}")
    return float(value)


def whole(thing: str, value: int, low: int, high: int = 2**31 - 1) -> int:
    """`value` as an int, low..high inclusive; raises ValueError."""
    if isinstance(value, bool) or int(value) != value or not low <= value <= high:
        raise ValueError(f"{thing}: expected a whole number {low} to {high}, got {value}")
    return int(value)


def series(thing: str, values: ArrayLike) -> Floats:
    """`values` as contiguous f64[n]; a scalar is one value. Raises ValueError for other shapes."""
    array = np.ascontiguousarray(np.atleast_1d(np.asarray(values, dtype=np.float64)))
    if array.ndim != 1:
        raise ValueError(f"{thing}: expected one dimension, got shape {array.shape}")
    return array


def truths(thing: str, values: ArrayLike) -> NDArray[np.bool_]:
    """`values` as contiguous bool[n]; numbers must be 0 or 1. Raises ValueError."""
    array = np.atleast_1d(np.asarray(values))
    if array.dtype != np.bool_:
        wrong = (array != 0) & (array != 1)
        if wrong.any():
            raise ValueError(f"{thing}: expected truths, 0 or 1, got {array[wrong][0]}")
        array = array != 0
    if array.ndim != 1:
        raise ValueError(f"{thing}: expected one dimension, got shape {array.shape}")
    return np.ascontiguousarray(array)


def same_length(things: str, *arrays: NDArray[Any]) -> None:
    """Raises ValueError unless all arrays have as many entries as the first."""
    lengths = [array.shape[0] for array in arrays]
    if len(set(lengths)) > 1:
        raise ValueError(f"{things}: expected equal lengths, got {lengths}")
