"""Sketches as Arrow record batches, one row per column: for Parquet, Flight and whatever reads it.

Needs pyarrow (`pip install kedge[stats]`); the import of this module does not. For a few bytes
between processes, `Sketch.to_bytes` does.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from kedge_kernels.sketch import Reference, Sketch, check_state

if TYPE_CHECKING:
    import pyarrow

KEY = b"kedge.reference"
MOMENT_NAMES = ("sum_centered", "sum_squares_centered", "minimum", "maximum", "finite")


def sketch_to_arrow(sketch: Sketch, names: Sequence[str]) -> pyarrow.RecordBatch:
    """One row per column: name, center, counts (a list, the last of missing values) and the
    moments; the reference's key is in the schema's metadata. ValueError unless there are F names.
    """
    arrow = _pyarrow()
    reference = sketch.reference
    if len(names) != reference.features:
        raise ValueError(f"names: expected {reference.features}, got {len(names)}")
    flat = arrow.array(sketch.counts.ravel(), arrow.int64())
    columns: dict[str, Any] = {
        "name": arrow.array(list(names), arrow.string()),
        "center": arrow.array(reference.centers),
        "counts": arrow.FixedSizeListArray.from_arrays(flat, sketch.counts.shape[1]),
    }
    columns |= {
        name: arrow.array(row) for name, row in zip(MOMENT_NAMES, sketch.moments, strict=True)
    }
    batch = arrow.RecordBatch.from_pydict(columns)
    return batch.replace_schema_metadata({KEY: reference.key.hex().encode()})


def sketch_from_arrow(batch: pyarrow.RecordBatch, reference: Reference) -> Sketch:
    """What `sketch_to_arrow` made of a sketch of the same reference, also after a way through
    Parquet. ValueError for anything else.
    """
    key = (batch.schema.metadata or {}).get(KEY, b"").decode()
    if key != reference.key.hex():
        raise ValueError(f"batch: expected a sketch of {reference!r}, got key {key[:8]!r}")
    try:
        counts = np.array(batch.column("counts").to_pylist(), np.int64)
        moments = np.array([batch.column(name).to_pylist() for name in MOMENT_NAMES], np.float64)
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise ValueError(f"batch: expected the columns of a sketch, got {error}") from None
    check_state(reference, counts, moments)
    sketch = Sketch(reference)
    sketch.counts[:], sketch.moments[:] = counts, moments
    return sketch


def _pyarrow() -> Any:
    try:
        import pyarrow  # noqa: PLC0415 - an extra that the rest of the package does without
    except ImportError:
        raise ImportError("Arrow needs pyarrow: pip install 'kedge[stats]'") from None
    return pyarrow
