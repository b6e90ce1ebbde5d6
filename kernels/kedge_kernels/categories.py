"""Counts of a categorical column: the categories of a reference, all others, and missing ones."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Hashable, Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kedge_kernels import _checks, sketch_bytes
from kedge_kernels._jit import kernel, warm_up

Category = str | int | float


class CategoryReference:
    """The known categories of one column, most frequent first, with the counts of their data.

    counts: int64[K + 2]: each category, then all other values ("unknown"), then missing ones.
    key: 16 bytes that differ for different categories. Immutable.
    """

    __slots__ = ("_codes", "_indices", "_places", "categories", "counts", "key")

    def __init__(self, categories: Iterable[Category]) -> None:
        """Raises ValueError if a category comes twice, is missing (None, NaN) or cannot be one."""
        self.categories = tuple(_category(category) for category in categories)
        self._indices: dict[Any, int] = {name: i for i, name in enumerate(self.categories)}
        if len(self._indices) < len(self.categories) or None in self._indices:
            raise ValueError(f"categories: expected distinct values, got {self.categories!r}")
        self.key = hashlib.sha256(repr(self.categories).encode()).digest()[:16]
        self.counts: NDArray[np.int64] = np.zeros(len(self.categories) + 2, np.int64)
        codes = {code: i for code, i in self._indices.items() if _is_int64(code)}
        self._codes = np.array(sorted(codes), np.int64)
        self._places = np.array([codes[code] for code in sorted(codes)], np.int64)

    @classmethod
    def from_values(cls, values: Any, categories_max: int = 100) -> CategoryReference:
        """The `categories_max` most frequent values (ties: in the order of their text); the rest
        of the data counts as unknown.

        values: a sequence or one-dimensional array of str, bytes (UTF-8), bool, integers or
        floats; None and NaN are missing. Raises ValueError for other things.
        """
        _checks.at_least("categories_max", categories_max, 0)
        found = _count(values)
        found.pop(None, None)
        names = sorted(found, key=lambda name: (-found[name], str(name)))
        reference = cls(names[:categories_max])
        sketch = CategorySketch(reference)
        update_categories(values, reference, sketch)
        sketch.counts.setflags(write=False)
        reference.counts = sketch.counts
        return reference

    def __repr__(self) -> str:
        return f"<CategoryReference {len(self.categories)} categories, {self.key.hex()[:8]}>"


class CategorySketch:
    """What was seen of one column. counts: int64[K + 2] as of the reference; empty at first.

    Not for two threads at once: one each, merged by the reader.
    """

    __slots__ = ("counts", "reference")

    def __init__(self, reference: CategoryReference) -> None:
        self.reference = reference
        self.counts = np.zeros(len(reference.categories) + 2, np.int64)

    @property
    def unknown(self) -> int:
        """Values that are none of the reference's categories."""
        return int(self.counts[-2])

    @property
    def nulls(self) -> int:
        """Missing values."""
        return int(self.counts[-1])

    def to_bytes(self) -> bytes:
        """The counts and the reference's key, for `from_bytes` on any machine."""
        return sketch_bytes.pack(sketch_bytes.CATEGORIES, self.reference.key, (self.counts,))

    @classmethod
    def from_bytes(cls, data: bytes, reference: CategoryReference) -> CategorySketch:
        """What `to_bytes` wrote for the same categories. Raises ValueError for anything else."""
        key, (counts,) = sketch_bytes.unpack(sketch_bytes.CATEGORIES, data, 1)
        sketch = cls(reference)
        if key != reference.key:
            raise ValueError(f"sketch: expected one of {reference!r}, got {key.hex()[:8]}")
        same = counts.shape == sketch.counts.shape and counts.dtype == np.int64
        if not same or (counts < 0).any():
            raise ValueError(f"counts: expected {len(sketch.counts)} of at least 0, got {counts!r}")
        sketch.counts[:] = counts
        return sketch

    def __repr__(self) -> str:
        return f"<CategorySketch of {self.counts.sum()} values in {self.reference!r}>"


def update_categories(values: Any, reference: CategoryReference, sketch: CategorySketch) -> None:
    """Counts values, which may be anything that `CategoryReference.from_values` takes; ValueError
    otherwise or if the sketch is of another reference. Integer arrays are counted by a kernel.
    """
    if sketch.reference is not reference and sketch.reference.key != reference.key:
        raise ValueError(f"sketch: expected one of {reference!r}, got {sketch!r}")
    if isinstance(values, np.ndarray) and values.ndim == 1 and _fits_int64(values.dtype):
        codes = np.array(values, np.int64, order="C")
        count_codes(codes, reference._codes, reference._places, sketch.counts)
        return
    unknown = len(reference.categories)
    for name, count in _count(values).items():
        place = unknown + 1 if name is None else reference._indices.get(name, unknown)
        sketch.counts[place] += count


def merge_categories(sketch: CategorySketch, other: CategorySketch) -> None:
    """Adds `other` to `sketch`; both of the same reference, else ValueError."""
    if sketch.reference is not other.reference and sketch.reference.key != other.reference.key:
        raise ValueError(f"other: expected a sketch of {sketch.reference!r}, got {other!r}")
    sketch.counts += other.counts


@kernel
def count_codes(
    values: NDArray[np.int64],
    codes: NDArray[np.int64],
    places: NDArray[np.int64],
    counts: NDArray[np.int64],
) -> None:
    """Counts each value at the place of its code, else in the last but one. codes: ascending."""
    unknown = counts.size - 2
    for value in values:
        low = 0
        high = codes.size
        while low < high:
            middle = (low + high) // 2
            if codes[middle] < value:
                low = middle + 1
            else:
                high = middle
        is_known = low < codes.size and codes[low] == value
        counts[places[low] if is_known else unknown] += 1


def _count(values: Any) -> dict[Any, int]:
    """How often each category comes; None is missing."""
    if isinstance(values, np.ndarray):
        if values.ndim != 1:
            raise ValueError(f"values: expected 1 dimension, got shape {values.shape}")
        values = values.tolist()
    elif isinstance(values, str | bytes) or not isinstance(values, Iterable):
        raise ValueError(f"values: expected a sequence of categories, got {values!r}")
    try:
        # In C, 40 ns a value; what is done for each distinct value is then cheap.
        raw = Counter(values)
    except TypeError as error:
        raise ValueError(f"values: expected text or numbers, got something else: {error}") from None
    found: dict[Any, int] = {}
    for value, count in raw.items():
        name = _category(value)
        found[name] = found.get(name, 0) + count
    return found


def _category(value: Hashable) -> Category | None:
    """Text, or a number that is equal to one: True is 1 and 2.0 is 2. Missing: None."""
    match value:
        case None:
            return None
        case bytes():
            return value.decode(errors="backslashreplace")
        case str():
            return str(value)
        case int() | np.integer() | np.bool_():
            return int(value)
        case float() | np.floating():
            if value != value:  # noqa: PLR0124 - is NaN
                return None
            return int(value) if float(value).is_integer() else float(value)
    raise ValueError(f"values: expected text or numbers, got {value!r}")


def _fits_int64(dtype: np.dtype[Any]) -> bool:
    return dtype.kind in "iu" and dtype != np.uint64


def _is_int64(value: Any) -> bool:
    return isinstance(value, int) and -(2**63) <= value < 2**63


@warm_up
def _warm() -> None:
    reference = CategoryReference([1, "a"])
    update_categories(np.arange(2), reference, CategorySketch(reference))
