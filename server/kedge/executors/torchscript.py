"""The inline executor: a frozen TorchScript module on the CPU, run to completion in the caller's
thread.
 For small, trusted models that do not hold the GIL. Not here: worker processes, devices, other
formats.
"""

from __future__ import annotations

import threading
import time
import warnings
from collections.abc import Mapping, Sequence
from math import prod

import numpy as np
import torch

from kedge.core.errors import LoadFailed, ModelFailed, ServeError
from kedge.core.ports import BatchResult, Buffer, OnResult, OutputTensor
from kedge.core.values import TensorSpec, VersionManifest
from kedge.executors.strings import strings_from_raw, strings_to_raw

TORCH_DTYPES = {
    "BOOL": torch.bool,
    "UINT8": torch.uint8,
    "UINT16": torch.uint16,
    "UINT32": torch.uint32,
    "UINT64": torch.uint64,
    "INT8": torch.int8,
    "INT16": torch.int16,
    "INT32": torch.int32,
    "INT64": torch.int64,
    "FP16": torch.float16,
    "FP32": torch.float32,
    "FP64": torch.float64,
    "BF16": torch.bfloat16,
}
# TorchScript specializes a graph in its first two runs; the third is as fast as all later ones.
WARMUP_RUNS = 3
_of_thread = threading.local()


class TorchScriptExecutor:
    """Implements `core.ports.Executor` for one version.

    The constructor loads, freezes and warms the module; it raises LoadFailed with the reason.
    Buffers lent by `allocate` are reused by the next batch: inline execution is over when `submit`
    returns.
    """

    def __init__(self, manifest: VersionManifest) -> None:
        self._manifest = manifest
        self._schema = manifest.schema
        self._is_fixed = all(
            spec.has_fixed_dims and spec.datatype.is_fixed_size for spec in self._schema.inputs
        )
        self._lent: dict[int, tuple[list[Buffer], list[torch.Tensor]]] = {}
        self._dtypes = [TORCH_DTYPES.get(spec.datatype.name) for spec in self._schema.outputs]
        try:
            # The method itself: calling the module first looks for hooks, a frozen one has none.
            self._forward = _load_frozen(manifest).forward
            self._staging = self._allocate_staging()
            self._warm_up()
        except ServeError:
            raise
        except Exception as error:
            raise LoadFailed(f"{manifest.path}: {_last_line(error)}") from error

    def __repr__(self) -> str:
        return f"<TorchScriptExecutor {self._manifest.ref}>"

    @property
    def batches_free(self) -> int:
        return 1

    def close(self) -> None:
        """Nothing to end: the module goes with the last batch that refers to it."""

    # Inputs

    def _allocate_staging(self) -> list[torch.Tensor]:
        if not self._is_fixed:
            return []
        batch_dims = (self._schema.rows_max,) if self._schema.batched else ()
        return [
            torch.zeros((*batch_dims, *spec.dims), dtype=TORCH_DTYPES[spec.datatype.name])
            for spec in self._schema.inputs
        ]

    def allocate(
        self, rows: int, dims: Sequence[tuple[int, ...]], nbytes: Sequence[int]
    ) -> Sequence[Buffer]:
        if not self._is_fixed:
            return [np.empty(size, dtype=np.uint8) for size in nbytes]
        lent = self._lent.get(rows)
        if lent is None:
            tensors = [t[:rows] if self._schema.batched else t for t in self._staging]
            lent = self._lent[rows] = ([_raw_view(tensor) for tensor in tensors], tensors)
        return lent[0]

    def _tensors(
        self, rows: int, dims: Sequence[tuple[int, ...]], inputs: Sequence[Buffer]
    ) -> Sequence[object]:
        if self._is_fixed:
            return self._lent[rows][1]
        batch_dims = (rows,) if self._schema.batched else ()
        arguments: list[object] = []
        for spec, row_dims, raw in zip(self._schema.inputs, dims, inputs, strict=True):
            shape = (*batch_dims, *row_dims)
            dtype = TORCH_DTYPES.get(spec.datatype.name)
            if dtype is None:
                arguments.append(strings_from_raw(raw, shape, spec.name))
            elif raw.size == 0:
                arguments.append(torch.empty(shape, dtype=dtype))
            else:
                arguments.append(torch.frombuffer(raw, dtype=dtype).reshape(shape))
        return arguments

    # Execution

    def submit(
        self,
        rows: int,
        dims: Sequence[tuple[int, ...]],
        inputs: Sequence[Buffer],
        on_result: OnResult,
    ) -> None:
        started_ns = time.perf_counter_ns()
        try:
            _enter_inference_mode()
            answer = self._forward(*self._tensors(rows, dims, inputs))
            outputs = self._outputs(answer, rows)
            result = BatchResult(outputs, None, time.perf_counter_ns() - started_ns)
        except ServeError as error:
            result = BatchResult((), error, time.perf_counter_ns() - started_ns)
        except Exception as error:
            failed = ModelFailed(f"model '{self._manifest.ref}' failed: {_last_line(error)}")
            result = BatchResult((), failed, time.perf_counter_ns() - started_ns)
        on_result(result, True)

    # Outputs

    def _outputs(self, answer: object, rows: int) -> list[OutputTensor]:
        """The module's answer as raw tensors, checked against the declared outputs."""
        specs = self._schema.outputs
        values = _as_sequence(answer, specs)
        if len(values) != len(specs):
            raise self._broken(f"expected {len(specs)} outputs, got {len(values)}")
        return [
            self._output(value, spec, dtype, rows)
            for value, spec, dtype in zip(values, specs, self._dtypes, strict=True)
        ]

    def _output(
        self, value: object, spec: TensorSpec, dtype: torch.dtype | None, rows: int
    ) -> OutputTensor:
        if dtype is None:
            shape, data, row_ends = strings_to_raw(value, spec.name, self._schema.batched)
            # The counterpart of `strings_from_raw`: a List[str] is a column of one string per row.
            if len(shape) == 1 and len(spec.dims) == 1 and self._schema.batched:
                shape = (*shape, 1)
            self._check_shape(shape, spec, rows)
            return OutputTensor(data, shape, row_ends)
        if not isinstance(value, torch.Tensor):
            raise self._broken(
                f"output '{spec.name}': expected a tensor, got {type(value).__name__}"
            )
        if value.dtype != dtype:
            raise self._broken(
                f"output '{spec.name}': expected {spec.datatype.name}, got {value.dtype}"
            )
        shape = tuple(value.shape)
        self._check_shape(shape, spec, rows)
        return OutputTensor(_raw_view(value), shape)

    def _check_shape(self, shape: tuple[int, ...], spec: TensorSpec, rows: int) -> None:
        expected = (rows, *spec.dims) if self._schema.batched else spec.dims
        if shape == expected:
            return
        if len(shape) != len(expected) or any(
            wanted not in (-1, size) for size, wanted in zip(shape, expected, strict=True)
        ):
            raise self._broken(
                f"output '{spec.name}': expected shape {list(expected)}, got {list(shape)}"
            )

    def _broken(self, what: str) -> ModelFailed:
        return ModelFailed(f"model '{self._manifest.ref}' breaks its declaration: {what}")

    # Warm-up

    def _warm_up(self) -> None:
        """Run zeros through the module at the smallest and the largest batch.

        With free dimensions no shape is known to be legal, so a failure there proves nothing.
        """
        rows_max = self._schema.rows_max
        dims = [tuple(max(dim, 1) for dim in spec.dims) for spec in self._schema.inputs]
        for rows in sorted({1, min(2, rows_max), rows_max}):
            for _ in range(WARMUP_RUNS):
                error = self._run_zeros(rows, dims)
                if error is not None and self._is_fixed:
                    raise LoadFailed(f"warm-up with {rows} rows of zeros: {error}")

    def _run_zeros(self, rows: int, dims: Sequence[tuple[int, ...]]) -> ServeError | None:
        inputs: Sequence[Buffer] = []
        if not self._is_fixed:
            inputs = [
                np.zeros(rows * prod(row) * (spec.datatype.item_bytes or 4), dtype=np.uint8)
                for spec, row in zip(self._schema.inputs, dims, strict=True)
            ]
        else:
            self.allocate(rows, dims, ())
        results: list[BatchResult] = []
        self.submit(rows, dims, inputs, lambda result, final: results.append(result))
        return results[0].error


def _load_frozen(manifest: VersionManifest) -> torch.jit.ScriptModule:
    with warnings.catch_warnings():
        # torch.jit is deprecated as a way to make models; loading what exists is our purpose.
        warnings.simplefilter("ignore", DeprecationWarning)
        module = torch.jit.load(str(manifest.path), map_location="cpu").eval()  # type: ignore[no-untyped-call]
        frozen: torch.jit.ScriptModule = torch.jit.freeze(module)
        return frozen


def _enter_inference_mode() -> None:
    """Once per thread, for good: entering it for every batch costs 1 us of a lone request's 100."""
    if not torch.is_inference_mode_enabled():
        _of_thread.inference_mode = torch.inference_mode()
        _of_thread.inference_mode.__enter__()


def _raw_view(tensor: torch.Tensor) -> Buffer:
    """A tensor's bytes; without a copy if it is contiguous."""
    if tensor.dtype == torch.bfloat16:
        tensor = tensor.view(torch.uint16)
    raw: Buffer = tensor.contiguous().numpy().reshape(-1).view(np.uint8)
    return raw


def _as_sequence(answer: object, specs: Sequence[TensorSpec]) -> Sequence[object]:
    """Outputs in the declared order: a dict by name, a tuple or list by position."""
    if isinstance(answer, Mapping):
        missing = [spec.name for spec in specs if spec.name not in answer]
        if missing:
            raise ModelFailed(f"outputs {missing} are declared, the model answers {list(answer)}")
        return [answer[spec.name] for spec in specs]
    if isinstance(answer, tuple):
        return answer
    if isinstance(answer, list) and not (len(specs) == 1 and not specs[0].datatype.is_fixed_size):
        return answer
    return (answer,)


def _last_line(error: Exception) -> str:
    """TorchScript puts its traceback first and the reason last."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
