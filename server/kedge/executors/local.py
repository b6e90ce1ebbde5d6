"""The executor of this process: a module on the CPU, run to completion in the caller's thread.

Inline in the gateway for small models that do not hold the GIL, in a worker process for all others.
Not here: how a module comes from a file (one file per format), other devices.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence

import numpy as np
import torch

from kedge.core.errors import LoadFailed, ModelFailed, ServeError
from kedge.core.ports import BatchResult, Buffer, OnResult
from kedge.core.values import VersionManifest
from kedge.executors.tensors import (
    Forward,
    OutputReader,
    input_tensors,
    is_fixed,
    last_line,
    raw_view,
    staging_tensors,
    zero_inputs,
)

# TorchScript specializes a graph in its first two runs; the third is as fast as all later ones.
WARMUP_RUNS = 3
_of_thread = threading.local()


class LocalExecutor:
    """Implements `core.ports.Executor` around `forward(*inputs)`, in the schema's order.

    The constructor warms up; it raises LoadFailed with the reason if zeros, whose shape is known to
    be legal, fail. Buffers lent by `allocate` are used again by the next batch: execution is over
    when `submit` returns. Other buffers are read in place; an output may lie in them.
    """

    def __init__(self, manifest: VersionManifest, forward: Forward) -> None:
        self._manifest = manifest
        self._schema = manifest.schema
        self._forward = forward
        self._read_outputs = OutputReader(manifest).read
        self._is_fixed = is_fixed(self._schema)
        # By rows. The list of buffers itself is the key to its tensors: it comes back to `submit`.
        self._lent: dict[int, tuple[list[Buffer], list[torch.Tensor]]] = {}
        self._staging = (
            staging_tensors(self._schema, self._schema.rows_max) if self._is_fixed else []
        )
        self._warm_up()

    def __repr__(self) -> str:
        return f"<LocalExecutor {self._manifest.ref}>"

    @property
    def manifest(self) -> VersionManifest:
        """What it was made of."""
        return self._manifest

    @property
    def batches_free(self) -> int:
        return 1

    def close(self) -> None:
        """Nothing to end: the module goes with the last batch that refers to it."""

    def allocate(
        self, rows: int, dims: Sequence[tuple[int, ...]], nbytes: Sequence[int]
    ) -> Sequence[Buffer]:
        if not self._is_fixed:
            return [np.empty(size, dtype=np.uint8) for size in nbytes]
        lent = self._lent.get(rows)
        if lent is None:
            tensors = [t[:rows] if self._schema.batched else t for t in self._staging]
            lent = self._lent[rows] = ([raw_view(tensor) for tensor in tensors], tensors)
        return lent[0]

    def submit(
        self,
        rows: int,
        dims: Sequence[tuple[int, ...]],
        inputs: Sequence[Buffer],
        on_result: OnResult,
    ) -> None:
        started_ns = time.perf_counter_ns()
        try:
            enter_inference_mode()
            lent = self._lent.get(rows)
            if lent is not None and inputs is lent[0]:
                answer = self._forward(*lent[1])
            else:
                answer = self._forward(*input_tensors(self._schema, rows, dims, inputs))
            outputs = self._read_outputs(answer, rows)
            result = BatchResult(outputs, None, time.perf_counter_ns() - started_ns)
        except ServeError as error:
            result = BatchResult((), error, time.perf_counter_ns() - started_ns)
        except Exception as error:
            failed = ModelFailed(f"model '{self._manifest.ref}' failed: {last_line(error)}")
            result = BatchResult((), failed, time.perf_counter_ns() - started_ns)
        on_result(result, True)

    def _warm_up(self) -> None:
        """Run zeros through the module at the smallest and the largest batch.

        With free dimensions no shape is known to be legal, so a failure there proves nothing.
        """
        rows_max = self._schema.rows_max
        for rows in sorted({1, min(2, rows_max), rows_max}):
            for _ in range(WARMUP_RUNS):
                error = self._run_zeros(rows)
                if error is not None and self._is_fixed:
                    raise LoadFailed(f"warm-up with {rows} rows of zeros: {error}")

    def _run_zeros(self, rows: int) -> ServeError | None:
        dims, zeros = zero_inputs(self._schema, rows)
        # The staging has nothing but zeros before the first request.
        inputs = self.allocate(rows, dims, ()) if self._is_fixed else zeros
        results: list[BatchResult] = []
        self.submit(rows, dims, inputs, lambda result, final: results.append(result))
        return results[0].error


def enter_inference_mode() -> None:
    """Once per thread, for good: entering it for every batch costs 1 us of a lone request's 100."""
    if not torch.is_inference_mode_enabled():
        _of_thread.inference_mode = torch.inference_mode()
        _of_thread.inference_mode.__enter__()
