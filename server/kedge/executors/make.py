"""From a manifest to a warm executor: finds the format, loads the file, measures.

Everything that reads a model file is reached from here, and only from here.
"""

from __future__ import annotations

import statistics
import threading
from functools import partial
from pathlib import Path
from typing import NamedTuple, assert_never

from kedge.core.errors import LoadFailed, ServeError
from kedge.core.ports import BatchResult, Executor
from kedge.core.settings import Compile
from kedge.core.values import ModelFormat, VersionManifest
from kedge.executors.aotinductor import load_aotinductor
from kedge.executors.archive import check_torchscript, resolve_format
from kedge.executors.compile import fastest
from kedge.executors.cuda.make import make_cuda_executor
from kedge.executors.deterministic import bit_equal
from kedge.executors.local import LocalExecutor
from kedge.executors.rows import at_sizes
from kedge.executors.tensors import Forward, last_line, zero_inputs
from kedge.executors.torchscript import load_torchscript
from kedge.executors.triton_python.executor import make_triton_python
from kedge.executors.triton_python.model import is_triton_python

# What runs with all that this process may do.
CODE_FORMATS = {ModelFormat.PYTHON, ModelFormat.AOTINDUCTOR}
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
        if allow_model_code and is_triton_python(manifest.path):
            return make_triton_python(manifest, device)
        load = partial(load_forward, allow_model_code=allow_model_code, state_dir=state_dir)
        if device != "cpu":
            return make_cuda_executor(manifest, device, load)
        return LocalExecutor(manifest, load(manifest, device))
    except ServeError:
        raise
    except Exception as error:
        raise LoadFailed(f"{manifest.path}: {last_line(error)}") from error


def load_forward(
    manifest: VersionManifest,
    device: str = "cpu",
    *,
    allow_model_code: bool,
    state_dir: Path | None = None,
) -> Forward:
    """The model as a function of its inputs, on `device`, as fast as `compile` makes it, at the
    batch sizes that it and the configuration ask for. Raises LoadFailed.
    """
    schema, execution = manifest.schema, manifest.execution
    found = resolve_format(manifest)
    if found in CODE_FORMATS and not allow_model_code:
        raise LoadFailed(
            f"{manifest.path}: {found.value} is code that the server would run; start it with "
            "--allow-model-code if you trust who wrote it"
        )
    _check_compile(manifest, found)
    match found:
        case ModelFormat.TORCHSCRIPT:
            check_torchscript(manifest.path)
            # The method itself: calling the module first looks for hooks, a frozen one has none.
            forward: Forward = load_torchscript(manifest.path, device).forward
        case ModelFormat.AOTINDUCTOR:
            forward = load_aotinductor(manifest.path, schema, _index(device)).forward
        case ModelFormat.EXPORTED | ModelFormat.PYTHON:
            forward = fastest(manifest, found, device, state_dir)
        case _:
            assert_never(found)
    if not schema.batched:
        return forward
    buckets = sorted(set(execution.batch_buckets))
    if execution.deterministic:
        return bit_equal(forward, buckets[-1] if buckets else schema.rows_max)
    return at_sizes(forward, buckets) if buckets else forward


def _check_compile(manifest: VersionManifest, found: ModelFormat) -> None:
    asked = manifest.execution.compile
    takes = {
        ModelFormat.TORCHSCRIPT: (Compile.AUTO, Compile.NONE, Compile.TORCHSCRIPT),
        ModelFormat.AOTINDUCTOR: (Compile.AUTO, Compile.NONE, Compile.AOTINDUCTOR),
    }.get(found, tuple(Compile))
    if asked not in takes:
        raise LoadFailed(
            f"{manifest.path}: compile: {asked.value} needs a torch.export file or a Python "
            f"model, this is {found.value}"
        )


def _index(device: str) -> int:
    """The number of a CUDA device; -1 for the CPU."""
    return int(device.partition(":")[2] or 0) if device.startswith("cuda") else -1


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
