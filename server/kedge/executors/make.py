"""From a manifest to a warm executor: finds the format, loads the file, measures.

Everything that reads a model file is reached from here, and only from here.
"""

from __future__ import annotations

import statistics
import threading
from pathlib import Path
from typing import NamedTuple

from kedge.core.errors import LoadFailed, ServeError
from kedge.core.ports import BatchResult, Executor
from kedge.core.values import VersionManifest
from kedge.executors.local import Forward, LocalExecutor
from kedge.executors.tensors import last_line, zero_inputs
from kedge.executors.torchscript import load_torchscript

# Odd, so that the median is one of them.
MEASURED_RUNS = 9
# Longest wait for one measured batch; a model that is slower is not inline in any case.
MEASURE_S_MAX = 60.0


def make_executor(
    manifest: VersionManifest,
    device: str = "cpu",
    *,
    allow_model_code: bool,
    state_dir: Path | None = None,
) -> Executor:
    """A loaded and warm executor of `manifest` on `device`.

    allow_model_code: whether formats that are code may be loaded at all. state_dir: where choices
    of `compile` are kept; without it nothing is compiled. Raises LoadFailed with the reason.
    """
    try:
        return LocalExecutor(manifest, load_forward(manifest, device))
    except ServeError:
        raise
    except Exception as error:
        raise LoadFailed(f"{manifest.path}: {last_line(error)}") from error


def load_forward(manifest: VersionManifest, device: str) -> Forward:
    """The model as a callable of its inputs, on `device`."""
    # The method itself: calling the module first looks for hooks, a frozen one has none.
    forward: Forward = load_torchscript(manifest.path, device).forward
    return forward


class Measured(NamedTuple):
    """Median times of an executor. row_us: a batch of one row; batch_us: a full batch."""

    row_us: float
    batch_us: float


def measure_us(executor: Executor, manifest: VersionManifest) -> Measured:
    """How long batches of zeros take, from `allocate` to the answer.

    A model that refuses zeros is measured by how long it takes to refuse them. Raises LoadFailed
    when no answer comes within `MEASURE_S_MAX`.
    """
    rows = sorted({1, manifest.schema.rows_max})
    medians = [
        statistics.median(_run_us(executor, manifest, r) for _ in range(MEASURED_RUNS))
        for r in rows
    ]
    return Measured(medians[0], medians[-1])


def _run_us(executor: Executor, manifest: VersionManifest, rows: int) -> float:
    dims, zeros = zero_inputs(manifest.schema, rows)
    results: list[BatchResult] = []
    is_done = threading.Event()

    def on_result(result: BatchResult, final: bool) -> None:
        results.append(result)
        if final:
            is_done.set()

    inputs = executor.allocate(rows, dims, [raw.size for raw in zeros])
    for buffer, raw in zip(inputs, zeros, strict=True):
        buffer[:] = raw
    executor.submit(rows, dims, inputs, on_result)
    if not is_done.wait(MEASURE_S_MAX):
        raise LoadFailed(f"{manifest.path}: no answer within {MEASURE_S_MAX:.0f} s")
    return results[-1].infer_ns / 1_000
