"""Sketches through Arrow and Parquet, read by pyarrow itself."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from numpy.testing import assert_array_equal

from kedge_kernels.sketch import Reference, Sketch, update
from kedge_kernels.sketch_arrow import sketch_from_arrow, sketch_to_arrow

VALUES = np.random.default_rng(0).normal(size=(100, 2))
REFERENCE = Reference.from_data(VALUES, bins=4)
SKETCH = Sketch(REFERENCE)
update(np.append(VALUES[:10], [[np.nan, np.inf]], axis=0), REFERENCE, SKETCH)


def test_a_sketch_survives_the_way_through_parquet(tmp_path: Path) -> None:
    batch = sketch_to_arrow(SKETCH, ["age", "price"])
    pq.write_table(pa.Table.from_batches([batch]), tmp_path / "sketch.parquet")
    read = pq.read_table(tmp_path / "sketch.parquet").combine_chunks().to_batches()[0]
    assert read.column("name").to_pylist() == ["age", "price"]
    assert read.column("counts")[0].as_py()[-1] == 1  # the missing age
    found = sketch_from_arrow(read, REFERENCE)
    assert_array_equal(found.counts, SKETCH.counts)
    assert_array_equal(found.moments, SKETCH.moments)


def test_what_is_no_sketch_of_this_reference_is_refused() -> None:
    batch = sketch_to_arrow(SKETCH, ["age", "price"])
    with pytest.raises(ValueError, match="batch: expected a sketch of <Reference"):
        sketch_from_arrow(batch, Reference.from_data(VALUES, bins=3))
    with pytest.raises(ValueError, match="batch: expected a sketch of <Reference"):
        sketch_from_arrow(batch.replace_schema_metadata({}), REFERENCE)
    with pytest.raises(ValueError, match="batch: expected the columns of a sketch"):
        sketch_from_arrow(batch.drop_columns(["maximum"]), REFERENCE)
    with pytest.raises(ValueError, match=r"counts: expected int64\[2, 5\]"):
        sketch_from_arrow(batch.slice(0, 1), REFERENCE)
    with pytest.raises(ValueError, match="names: expected 2, got 1"):
        sketch_to_arrow(SKETCH, ["age"])
