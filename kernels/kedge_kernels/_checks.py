"""What public functions accept, and the words in which they refuse the rest.

Every check raises ValueError with the argument's name, what was expected and what came.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Float64s = NDArray[np.float64]

NUMERIC_KINDS = "biuf"


def numeric(name: str, values: ArrayLike, ndim: int) -> NDArray[Any]:
    """An array of so many dimensions of bool, integers or floats."""
    array = np.asarray(values)
    if array.ndim != ndim:
        raise ValueError(f"{name}: expected {ndim} dimension(s), got shape {array.shape}")
    # An empty list is float64 to NumPy, and an array of None or Decimal is object.
    if array.dtype.kind not in NUMERIC_KINDS:
        raise ValueError(f"{name}: expected numbers, got dtype {array.dtype}")
    return array


def float64s(name: str, values: ArrayLike, ndim: int = 1) -> Float64s:
    """A contiguous, writable float64 array; the argument itself if it is one already."""
    array = np.ascontiguousarray(numeric(name, values, ndim), np.float64)
    # Read-only arrays are another type to Numba: one copy is cheaper than a second compilation.
    return array if array.flags.writeable else array.copy()


def counts(name: str, values: ArrayLike, ndim: int = 1) -> Float64s:
    """float64 counts: finite and not negative. They may be fractions, for weights are counts."""
    array = float64s(name, values, ndim)
    # One comparison for both: NaN fails every comparison, and inf the second one.
    valid = (array >= 0.0) & (array < np.inf)
    if not valid.all():
        found = array[~valid].flat[0]
        raise ValueError(f"{name}: expected counts that are finite and at least 0, got {found}")
    return array


def same_bins(name_a: str, counts_a: Float64s, name_b: str, counts_b: Float64s) -> None:
    """Both have the same bins, at least one."""
    if counts_a.shape != counts_b.shape:
        raise ValueError(
            f"{name_a} and {name_b}: expected the same bins, got {counts_a.shape} and "
            f"{counts_b.shape}"
        )
    if counts_a.size == 0:
        raise ValueError(f"{name_a} and {name_b}: expected at least 1 bin, got 0")


def sorted_sample(name: str, values: ArrayLike) -> Float64s:
    """The values without NaN, which is a missing one, as sorted float64[n]; -0.0 is 0.0."""
    array = float64s(name, values)
    array = array[~np.isnan(array)]
    array.sort()
    return array


def probability(name: str, value: float) -> float:
    """A number strictly between 0 and 1."""
    if not 0.0 < value < 1.0:
        raise ValueError(f"{name}: expected a number between 0 and 1, both excluded, got {value}")
    return float(value)


def at_least(name: str, value: int, least: int) -> int:
    """An integer with a lower bound."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < least:
        raise ValueError(f"{name}: expected an integer of at least {least}, got {value!r}")
    return int(value)


def within(name: str, value: float, low: float, high: float) -> float:
    """A number strictly between low and high."""
    if not low < value < high:
        raise ValueError(f"{name}: expected a number in ({low:g}, {high:g}), got {value}")
    return float(value)


def finite_at_least(name: str, value: float, least: float) -> float:
    """A finite number with a lower bound."""
    if not (value >= least and math.isfinite(value)):
        raise ValueError(f"{name}: expected a finite number of at least {least:g}, got {value}")
    return float(value)


def whole(name: str, value: float, low: int, high: int = 2**31 - 1) -> int:
    """A whole number, low..high inclusive."""
    if isinstance(value, bool) or not low <= value <= high or int(value) != value:
        raise ValueError(f"{name}: expected a whole number {low} to {high}, got {value}")
    return int(value)


def series(name: str, values: ArrayLike) -> Float64s:
    """As `float64s` with one dimension; a number by itself is a series of one."""
    return float64s(name, np.atleast_1d(np.asarray(values)))


def truths(name: str, values: ArrayLike) -> NDArray[np.bool_]:
    """Contiguous, writable bool[n]; numbers must be 0 or 1, one by itself is a series of one."""
    array = numeric(name, np.atleast_1d(np.asarray(values)), 1)
    if array.dtype != np.bool_:
        wrong = (array != 0) & (array != 1)
        if wrong.any():
            raise ValueError(f"{name}: expected truths, 0 or 1, got {array[wrong][0]}")
    # A new array: read-only ones are another type to Numba.
    return np.array(array != 0, dtype=np.bool_)


def same_length(names: str, *arrays: NDArray[Any]) -> None:
    """All arrays have as many entries as the first."""
    lengths = [array.shape[0] for array in arrays]
    if len(set(lengths)) > 1:
        raise ValueError(f"{names}: expected equal lengths, got {lengths}")
