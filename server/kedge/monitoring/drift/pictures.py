"""What a plot of a column shows: shares per bar, of both files over the same bars."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

BARS_MAX = 40
CATEGORIES_MAX = 24
# What lies beyond these shares of both files together goes into the outermost bars, else one
# outlier would squeeze all the rest into one bar.
TAIL_SHARE = 0.005


@dataclass(frozen=True)
class Picture:
    """Shares of the values that are present. As numbers: edges has one entry more than the shares;
    as categories: labels has as many.
    """

    reference: tuple[float, ...]
    current: tuple[float, ...]
    edges: tuple[float, ...] = ()
    labels: tuple[str, ...] = ()


def histogram(reference: NDArray[np.float64], current: NDArray[np.float64]) -> Picture:
    """Bars of equal width; infinities are in the outermost ones."""
    finite = [values[np.isfinite(values)] for values in (reference, current)]
    both = np.concatenate(finite)
    if both.size == 0:
        return Picture((), ())
    low, high = (
        np.array([np.quantile(values, share) for values in finite if values.size])
        for share in (TAIL_SHARE, 1 - TAIL_SHARE)
    )
    start, stop = float(low.min()), float(high.max())
    if not stop > start:
        start, stop = start - 0.5, stop + 0.5
    edges = _edges(both, start, stop)
    return Picture(_shares(reference, edges), _shares(current, edges), edges=tuple(edges.tolist()))


def _edges(values: NDArray[np.float64], start: float, stop: float) -> NDArray[np.float64]:
    """At least 8 bars; whole numbers get whole bars, else some hold one number more than others."""
    if (values == np.round(values)).all() and 8 <= stop - start < 2**53:
        width = -(-(stop - start + 1) // BARS_MAX)
        return np.arange(np.floor(start) - 0.5, stop + width, width)
    distinct = np.unique(values[:10_000]).size
    return np.linspace(start, stop, min(max(distinct, 8), BARS_MAX) + 1)


def bars(
    categories: Sequence[object], reference: NDArray[np.int64], current: NDArray[np.int64]
) -> Picture:
    """The most frequent categories of both, numbers in their order. Counts as of a CategorySketch:
    the last two entries are other values and missing ones, of which the second is not drawn.
    """
    totals = reference[:-1] + current[:-1]
    order = np.argsort(-totals[:-1], kind="stable")[:CATEGORIES_MAX]
    if all(isinstance(categories[index], int | float) for index in order):
        order = np.array(sorted(order, key=lambda index: categories[index]), np.int64)
    shares = []
    for counts in (reference, current):
        present = counts[:-1] / max(int(counts[:-1].sum()), 1)
        shown = present[order]
        shares.append((*shown.tolist(), float(max(present.sum() - shown.sum(), 0.0))))
    labels = (*(str(categories[index]) for index in order), "other")
    if shares[0][-1] < 1e-12 and shares[1][-1] < 1e-12:
        return Picture(shares[0][:-1], shares[1][:-1], labels=labels[:-1])
    return Picture(shares[0], shares[1], labels=labels)


def _shares(values: NDArray[np.float64], edges: NDArray[np.float64]) -> tuple[float, ...]:
    present = values[~np.isnan(values)]
    clipped = np.clip(present, edges[0], edges[-1])
    counts, _ = np.histogram(clipped, edges)
    return tuple((counts / max(present.size, 1)).tolist())
