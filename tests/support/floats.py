"""Arrays with everything that a float can be, and seeds that differ from commit to commit."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import hypothesis.extra.numpy as arrays
import numpy as np
from hypothesis import settings
from hypothesis import strategies as st
from numpy.typing import NDArray

# The first example of a kernel may wait for the compiler; 60 examples take about a second.
property_test = settings(deadline=None, max_examples=60)


def special_values(dtype: Any) -> list[float]:
    """Zeros, infinities, NaN, the least denormal, the least normal and the greatest number."""
    limits = np.finfo(dtype)
    edges = [0.0, 1.0, float(limits.smallest_subnormal), float(limits.tiny), float(limits.max)]
    return [*edges, *(-edge for edge in edges), np.inf, -np.inf, np.nan]


def matrices(
    dtype: Any, rows_max: int = 40, features_max: int = 4, rows_min: int = 0
) -> st.SearchStrategy[NDArray[Any]]:
    """[n, F] arrays; half of the values are special ones or small integers, so that many tie."""
    width = np.dtype(dtype).itemsize * 8
    elements = st.one_of(
        st.sampled_from(special_values(dtype)),
        st.integers(-3, 3).map(float),
        st.floats(width=width),
    )
    shapes = st.tuples(st.integers(rows_min, rows_max), st.integers(1, features_max))
    return shapes.flatmap(lambda shape: arrays.arrays(dtype, shape, elements=elements))


def samples(size_min: int = 0, size_max: int = 30) -> st.SearchStrategy[NDArray[np.float64]]:
    """float64[n] with ties, and none of NaN, infinities or numbers whose differences overflow."""
    elements = st.one_of(
        st.integers(-5, 5).map(float), st.floats(-1e6, 1e6), st.sampled_from([0.0, -0.0, 5e-324])
    )
    return arrays.arrays(np.float64, st.integers(size_min, size_max), elements=elements)


def counts(bins_min: int = 1, bins_max: int = 20) -> st.SearchStrategy[NDArray[np.int64]]:
    """int64[bins], with zeros."""
    return arrays.arrays(
        np.int64, st.integers(bins_min, bins_max), elements=st.integers(0, 100_000)
    )


def commit_seed() -> int:
    """A seed from the commit's hash: tests of statistical promises must not be tuned to a seed."""
    root = Path(__file__).parents[2]
    found = subprocess.run(
        ["git", "-C", str(root), "rev-parse", "HEAD"], capture_output=True, text=True, check=False
    )
    return int(found.stdout[:8] or "20130101", 16)
