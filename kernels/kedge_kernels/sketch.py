"""Sketches of numeric columns: how many values fell in each bin of a frozen reference, how many
were missing, and their moments. One per thread, mergeable over threads, windows and machines.

    reference = Reference.from_data(training, bins=10)
    sketch = Sketch(reference)
    update(batch, reference, sketch)
    merge(total, sketch)

Categories are in `categories.py`, quantiles in `quantiles.py`, windows in `windows.py`.
"""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from kedge_kernels import _checks, sketch_bytes
from kedge_kernels._jit import warm_up
from kedge_kernels.bins import bin_table, equal_frequency_edges
from kedge_kernels.sketch_kernels import (
    FINITE,
    HIGHEST,
    LOWEST,
    MOMENTS,
    SQUARES,
    SUM,
    add_rows_by_comparison,
    add_rows_by_table,
    merge_sketches,
    update_by_comparison,
    update_by_table,
)

Float64s = NDArray[np.float64]

BINS_MAX = 1000
# Up to here a comparison with every edge is faster than the table (measured with 10 to 100 bins).
COMPARED_BINS_MAX = 32
# Larger batches give the GIL away: they take more than about 100 us.
BRIEF_VALUES_MAX = 1 << 15


class Reference:
    """The frozen bins of F numeric columns, with the sketch of the data they were made from.

    features: F. bins: of a column, without the one of missing values. dtype: float32 or float64,
    that of the edges and of the values that are compared with them.
    edges: [F, bins - 1], the inner edges, ascending, NaN where a column has less bins. Bin b holds
    edges[b - 1] <= x < edges[b]; the first reaches down to -inf, the last up to +inf.
    centers: float64[F], subtracted from values before they are summed: the mean of the reference.
    counts: int64[F, bins + 1], moments: float64[5, F], as of a `Sketch`.
    key: 16 bytes that differ for different dtype, edges or centers. Immutable.
    """

    __slots__ = (
        *("features", "bins", "dtype", "edges", "centers", "counts", "moments", "key"),
        *("_arguments", "_brief", "_long"),
    )

    def __init__(self, edges: NDArray[Any], centers: Float64s) -> None:
        self.features = len(edges)
        self.bins = edges.shape[1] + 1
        self.dtype = edges.dtype
        self.edges = _frozen(edges)
        self.centers = _frozen(centers)
        self.key = hashlib.sha256(
            b"|".join([str(edges.dtype).encode(), edges.tobytes(), centers.tobytes()])
        ).digest()[:16]
        table = bin_table(edges) if self.bins > COMPARED_BINS_MAX else None
        if table is None:
            self._brief: Any = update_by_comparison
            self._long: Any = add_rows_by_comparison
            self._arguments: tuple[Any, ...] = (_frozen(edges.T), self.centers)
        else:
            self._brief, self._long = update_by_table, add_rows_by_table
            arrays = (_frozen(table.edges), _frozen(table.cells), _frozen(table.scale))
            self._arguments = (*arrays, table.depth, self.centers)
        self.counts = np.zeros((self.features, self.bins + 1), np.int64)
        self.moments = _no_moments(self.features)

    @classmethod
    def from_data(cls, data: ArrayLike, bins: int = 10) -> Reference:
        """Bins with about as many values of each column, and the sketch of the data.

        data: [n, F], n >= 1. float16 and float32 are compared as float32, all else as float64
        (integers beyond 2**53 are rounded). NaN is a missing value. bins: 1 to 1000. A column of
        few or much repeated values gets less of them (see `bins.equal_frequency_edges`).
        Raises ValueError for other shapes, no rows, no numbers.
        """
        values = _values(data)
        _checks.at_least("bins", bins, 1)
        if bins > BINS_MAX:
            raise ValueError(f"bins: expected at most {BINS_MAX}, got {bins}")
        if len(values) == 0:
            raise ValueError("data: expected at least 1 row, got 0")
        return cls._filled(equal_frequency_edges(values, bins), _centers(values), values)

    @classmethod
    def from_edges(cls, edges: ArrayLike, centers: ArrayLike | None = None) -> Reference:
        """A reference without data, whose counts are 0.

        edges: [F, bins - 1], the inner edges of each column: finite, ascending and distinct, NaN
        only behind the last. centers: [F], finite; 0 by default. Raises ValueError otherwise.
        """
        checked = _values(edges, "edges")
        if checked.shape[1] >= BINS_MAX:
            raise ValueError(f"edges: expected less than {BINS_MAX} a column, got {edges!r}")
        _check_edges(checked)
        middle = np.zeros(len(checked)) if centers is None else _checks.float64s("centers", centers)
        if middle.shape != (len(checked),) or not np.isfinite(middle).all():
            raise ValueError(f"centers: expected {len(checked)} finite numbers, got {centers!r}")
        return cls(np.array(checked, order="C"), middle)

    @classmethod
    def _filled(cls, edges: NDArray[Any], centers: Float64s, values: NDArray[Any]) -> Reference:
        reference = cls(edges, centers)
        sketch = Sketch(reference)
        update(values, reference, sketch)
        reference.counts, reference.moments = _frozen(sketch.counts), _frozen(sketch.moments)
        return reference

    def bins_of(self, feature: int) -> int:
        """The bins of one column that its edges make, from 1 to `bins`."""
        return int(np.isfinite(self.edges[feature]).sum()) + 1

    def to_bytes(self) -> bytes:
        """The whole reference, for `from_bytes` of this or a later version, on any machine."""
        arrays = (self.edges, self.centers, self.counts, self.moments)
        return sketch_bytes.pack(sketch_bytes.REFERENCE, self.key, arrays)

    @classmethod
    def from_bytes(cls, data: bytes) -> Reference:
        """What `to_bytes` wrote. Raises ValueError for anything else."""
        key, (edges, centers, counts, moments) = sketch_bytes.unpack(
            sketch_bytes.REFERENCE, data, 4
        )
        if edges.ndim != 2 or edges.dtype.kind != "f" or edges.shape[1] >= BINS_MAX:
            raise ValueError("reference: the edges have a wrong shape or type")
        _check_edges(edges)
        if centers.shape != (len(edges),) or centers.dtype != np.float64:
            raise ValueError("reference: the centers have a wrong shape or type")
        reference = cls(edges, centers)
        if key != reference.key:
            raise ValueError("reference: the key does not fit the edges and centers")
        check_state(reference, counts, moments)
        reference.counts, reference.moments = _frozen(counts), _frozen(moments)
        return reference

    def __repr__(self) -> str:
        return f"<Reference {self.features} columns, {self.bins} bins, {self.key.hex()[:8]}>"


class Sketch:
    """What was seen of F columns, in the bins of one reference; empty at first.

    counts: int64[F, bins + 1], values in each bin; the last is NaN, missing. Infinities are in the
    first and the last bin of a column.
    moments: float64[5, F], over finite values: the sums of x - center and (x - center)**2, least
    (inf if none), greatest (-inf if none), how many. float64 values beyond 1e150 make the squares
    infinite; float32 values cannot.

    Not for two threads at once, which would lose counts: one each, merged by the reader.
    """

    __slots__ = ("counts", "moments", "reference")

    def __init__(self, reference: Reference) -> None:
        self.reference = reference
        self.counts = np.zeros((reference.features, reference.bins + 1), np.int64)
        self.moments = _no_moments(reference.features)

    @property
    def rows(self) -> int:
        """Rows folded in."""
        return int(self.counts[0].sum()) if len(self.counts) else 0

    @property
    def nulls(self) -> NDArray[np.int64]:
        """int64[F], missing values."""
        return np.array(self.counts[:, -1])

    @property
    def means(self) -> Float64s:
        """float64[F], of the finite values; NaN where there are none."""
        with np.errstate(invalid="ignore"):
            return np.asarray(self.reference.centers + self.moments[SUM] / self.moments[FINITE])

    @property
    def variances(self) -> Float64s:
        """float64[F], divided by the count of finite values, as NumPy's; NaN where there are none.

        Exact to rounding while the mean is near the reference's; the digits lost grow with
        (shift / standard deviation)**2.
        """
        with np.errstate(invalid="ignore"):
            shift = self.moments[SUM] / self.moments[FINITE]
            spread: Float64s = self.moments[SQUARES] / self.moments[FINITE] - shift * shift
        return np.maximum(spread, 0.0)

    @property
    def minima(self) -> Float64s:
        """float64[F], least finite value; inf where there are none."""
        return np.array(self.moments[LOWEST])

    @property
    def maxima(self) -> Float64s:
        """float64[F], greatest finite value; -inf where there are none."""
        return np.array(self.moments[HIGHEST])

    def clear(self) -> None:
        """Empty again, in the same memory."""
        self.counts[:] = 0
        self.moments[:] = _no_moments(len(self.counts))

    def copy(self) -> Sketch:
        """One that later updates do not change."""
        copied = Sketch(self.reference)
        copied.counts[:], copied.moments[:] = self.counts, self.moments
        return copied

    def to_bytes(self) -> bytes:
        """Counts, moments and the reference's key, for `from_bytes` on any machine."""
        return sketch_bytes.pack(
            sketch_bytes.SKETCH, self.reference.key, (self.counts, self.moments)
        )

    @classmethod
    def from_bytes(cls, data: bytes, reference: Reference) -> Sketch:
        """What `to_bytes` wrote for the same reference. Raises ValueError for anything else."""
        key, (counts, moments) = sketch_bytes.unpack(sketch_bytes.SKETCH, data, 2)
        if key != reference.key:
            raise ValueError(
                f"sketch: expected one of reference {reference.key.hex()[:8]}, got {key.hex()[:8]}"
            )
        check_state(reference, counts, moments)
        sketch = cls(reference)
        sketch.counts[:], sketch.moments[:] = counts, moments
        return sketch

    def __repr__(self) -> str:
        return f"<Sketch of {self.rows} rows in {self.reference!r}>"


def update(values: NDArray[Any], reference: Reference, sketch: Sketch) -> None:
    """Folds rows into a sketch, in one pass: bins, missing values, moments, least and greatest.

    values: [n, F], n >= 0; fastest as a contiguous array of the reference's dtype, which is read in
    place (also read-only memory); other dtypes and layouts are converted first. The bin is that of
    `numpy.searchsorted(edges, x, side="right")`, bit for bit. Raises ValueError if F, the dtype or
    the sketch's reference do not fit; the sketch is then unchanged.
    """
    if (
        values.__class__ is not np.ndarray
        or values.dtype is not reference.dtype
        or not values.flags.c_contiguous
    ):
        values = _values(values, "values", reference.dtype)
    shape = values.shape
    if len(shape) != 2 or shape[1] != reference.features:
        raise ValueError(f"values: expected shape [n, {reference.features}], got {list(shape)}")
    if sketch.reference is not reference and sketch.reference.key != reference.key:
        raise ValueError(f"sketch: expected one of {reference!r}, got {sketch!r}")
    fold = reference._brief if values.size <= BRIEF_VALUES_MAX else reference._long
    fold(values, *reference._arguments, sketch.counts, sketch.moments)


def merge(sketch: Sketch, other: Sketch) -> None:
    """Adds `other` to `sketch`; both of the same reference, else ValueError.

    Counts are the same in any order of merging, sums equal up to rounding.
    """
    if sketch.reference is not other.reference and sketch.reference.key != other.reference.key:
        raise ValueError(f"other: expected a sketch of {sketch.reference!r}, got {other!r}")
    merge_sketches(sketch.counts, sketch.moments, other.counts, other.moments)


def _values(
    data: ArrayLike, name: str = "data", dtype: np.dtype[Any] | None = None
) -> NDArray[Any]:
    array = _checks.numeric(name, data, 2)
    if dtype is None:
        is_small = array.dtype in (np.float16, np.float32)
        dtype = np.dtype(np.float32 if is_small else np.float64)
    with np.errstate(over="ignore"):  # a float64 beyond float32's range is an infinity
        return np.ascontiguousarray(array, dtype)


def _centers(values: NDArray[Any]) -> Float64s:
    """The mean of each column's finite values, 0 where there are none or it is not finite."""
    finite = np.isfinite(values)
    with np.errstate(over="ignore", invalid="ignore"):
        sums = np.where(finite, values, 0).sum(axis=0, dtype=np.float64)
        means = sums / finite.sum(axis=0)
    return np.where(np.isfinite(means), means, 0.0)


def _check_edges(edges: NDArray[Any]) -> None:
    inner = np.isfinite(edges)
    padded = (inner[:, 1:] <= inner[:, :-1]) & (inner[:, 1:] | np.isnan(edges[:, 1:]))
    ascending = (edges[:, 1:] > edges[:, :-1]) | ~inner[:, 1:]
    first = inner[:, :1] | np.isnan(edges[:, :1])
    if not (padded.all() and ascending.all() and first.all()):
        raise ValueError(
            "edges: expected finite and ascending numbers, with NaN only behind the last, "
            f"got {edges.tolist()}"
        )


def check_state(reference: Reference, counts: NDArray[Any], moments: NDArray[Any]) -> None:
    """Raises ValueError unless these can be the arrays of a sketch of `reference`."""
    for name, array, like in (
        ("counts", counts, reference.counts),
        ("moments", moments, reference.moments),
    ):
        if array.shape != like.shape or array.dtype != like.dtype:
            raise ValueError(
                f"{name}: expected {like.dtype}{list(like.shape)}, "
                f"got {array.dtype}{list(array.shape)}"
            )
    if (counts < 0).any() or (counts.sum(axis=1) != counts[:1].sum()).any():
        raise ValueError("counts: expected as many rows in every column, none below 0")


def _no_moments(features: int) -> Float64s:
    moments = np.zeros((MOMENTS, features))
    moments[LOWEST] = np.inf
    moments[HIGHEST] = -np.inf
    return moments


def _frozen(array: NDArray[Any]) -> NDArray[Any]:
    """A contiguous array that nobody can write to, the same type to Numba for every reference."""
    frozen = np.array(array, order="C")
    frozen.setflags(write=False)
    return frozen


@warm_up
def _warm() -> None:
    for dtype in (np.float32, np.float64):
        for bins in (2, COMPARED_BINS_MAX + 1):
            edges = np.arange(bins - 1, dtype=dtype)[None]
            reference = Reference.from_edges(edges)
            sketch = Sketch(reference)
            for rows in (1, BRIEF_VALUES_MAX + 1):
                values = np.zeros((rows, 1), dtype)
                update(values, reference, sketch)
                values.setflags(write=False)  # as numpy.frombuffer(bytes) is
                update(values, reference, sketch)
            merge(sketch, sketch.copy())
