"""Slow, obvious twins of the sketches: one value at a time, in plain Python."""

from __future__ import annotations

import math
from bisect import bisect_right
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class SlowColumn(NamedTuple):
    """One column of a sketch."""

    counts: list[int]
    sum: float
    squares: float
    least: float
    greatest: float
    finite: int


def slow_column(values: list[float], edges: list[float], center: float, bins: int) -> SlowColumn:
    """counts has bins + 1 entries, the last for NaN; sums are correctly rounded."""
    counts = [0] * (bins + 1)
    for value in values:
        counts[bins if math.isnan(value) else bisect_right(edges, value)] += 1
    finite = [value for value in values if math.isfinite(value)]
    return SlowColumn(
        counts,
        math.fsum(value - center for value in finite),
        math.fsum((value - center) ** 2 for value in finite),
        min(finite, default=math.inf),
        max(finite, default=-math.inf),
        len(finite),
    )


def edges_of(edges: NDArray[np.floating]) -> list[float]:
    """One row of a reference's edges without its padding."""
    return [float(edge) for edge in edges if not math.isnan(edge)]
