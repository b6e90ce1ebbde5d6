"""Equal-frequency bins of a reference, and a look-up table from a value to its bin.

Both are made once with NumPy; the kernels that use them are in `sketch_kernels.py`.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

# Cells of the table: with 1,024 most of them hold one edge or none, and 50 columns of them still
# fit the second-level cache.
CELLS_MIN = 64
CELLS_MAX = 1024
# More edges than this in one cell, as in heavy tails, cost more than the comparison with all edges.
DEPTH_MAX = 8


class BinTable(NamedTuple):
    """Where to begin to look for the bin of a value.

    edges: [F, bins - 1 + depth], each row ascending, the rest NaN. cells: uint16[F, C], the bin of
    the smallest value of a cell. scale: [2, F], lowest edge and cells per unit, in the dtype of the
    edges. depth: edges that a cell holds at most, over all columns.
    """

    edges: NDArray[Any]
    cells: NDArray[np.uint16]
    scale: NDArray[Any]
    depth: int


def equal_frequency_edges(data: NDArray[Any], bins: int) -> NDArray[Any]:
    """The inner edges of `bins` bins with about as many finite values each, per column.

    data: float[n, F], n >= 1. The result has the same dtype and shape [F, bins - 1]: ascending and
    distinct, NaN behind the last where ties or few values leave less bins. Every edge is a value of
    the data, and bin b holds edges[b - 1] <= x < edges[b], so no bin of the reference is empty and
    a value that fills more than a bin has one of its own. A constant column has three: below, the
    value, above; a column without finite values has no edges.
    """
    edges = np.full((data.shape[1], bins - 1), np.nan, data.dtype)
    if bins < 2:
        return edges
    for feature in range(data.shape[1]):
        column = data[:, feature]
        column = np.sort(column[np.isfinite(column)])
        found = _column_edges(column, bins)
        edges[feature, : found.size] = found
    return edges


def _column_edges(column: NDArray[Any], bins: int) -> NDArray[Any]:
    """column: sorted and finite. At most bins - 1 edges."""
    if column.size == 0:
        return column
    if column[0] == column[-1]:
        with np.errstate(over="ignore"):  # above the greatest number is only infinity
            above = np.nextafter(column[0], np.array(np.inf, column.dtype))
        pair = np.array([column[0], above], column.dtype)
        return np.asarray(pair[np.isfinite(pair)][: bins - 1])
    candidates = column[np.arange(1, bins) * column.size // bins]
    # A value that is a candidate twice fills a bin. The next larger value ends it.
    repeated = candidates[1:][candidates[1:] == candidates[:-1]]
    ends = column.searchsorted(np.unique(repeated), side="right")
    edges = np.unique(np.concatenate([candidates, column[ends[ends < column.size]]]))
    return np.asarray(edges[edges > column[0]])


def bin_table(edges: NDArray[Any]) -> BinTable | None:
    """The table for ascending, NaN-padded edges [F, bins - 1], or None where it would not pay.

    A value's cell grows with the value however the arithmetic rounds, so what the table leaves to
    compare is exact: the bins are bit for bit those of `searchsorted(side="right")`.
    """
    cells = CELLS_MIN
    while True:
        scale = _scale(edges, cells)
        places, depth = _places(edges, scale, cells)
        if depth <= 1 or cells == CELLS_MAX:
            break
        cells *= 2
    if depth > DEPTH_MAX:
        return None
    # starts[f, c]: edges in the cells below c.
    starts = np.zeros((len(edges), cells), np.uint16)
    for feature, row in enumerate(places):
        histogram = np.bincount(row[row >= 0], minlength=cells)
        starts[feature, 1:] = np.cumsum(histogram)[:-1]
    padding = np.full((len(edges), depth), np.nan, edges.dtype)
    return BinTable(np.concatenate([edges, padding], axis=1), starts, scale, depth)


def _scale(edges: NDArray[Any], cells: int) -> NDArray[Any]:
    scale = np.zeros((2, len(edges)), edges.dtype)
    if edges.shape[1] == 0:
        return scale
    with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
        spans = np.fmax.reduce(edges, axis=1) - edges[:, 0]
        per_unit = np.array(cells - 1, edges.dtype) / spans
    scale[0] = np.nan_to_num(edges[:, 0])
    # No edge, one edge, or a span beyond the largest float: everything is in the lowest cell.
    scale[1] = np.where(np.isfinite(per_unit), per_unit, 0)
    return scale


def _places(edges: NDArray[Any], scale: NDArray[Any], cells: int) -> tuple[NDArray[Any], int]:
    """The cell of each edge, -1 for padding, and the most edges in one cell; in the arithmetic of
    `sketch_kernels.update_by_table`, operation by operation.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        place = (edges - scale[0][:, None]) * scale[1][:, None]
    place = np.where(place > 0, place, 0)
    place = np.where(place < cells - 1, place, cells - 1).astype(np.int64)
    place[np.isnan(edges)] = -1
    depth = max((int(np.bincount(row[row >= 0]).max(initial=0)) for row in place), default=0)
    return place, depth
