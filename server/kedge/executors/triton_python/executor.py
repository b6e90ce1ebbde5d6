"""The executor around a `TritonPythonModel`: one batch, one request object, one response.

Runs in the caller's thread, like `executors/local.py`, and only on the CPU.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kedge.core.bytes_elements import unpack_bytes
from kedge.core.errors import (
    InvalidRequest,
    LoadFailed,
    ModelFailed,
    ServeError,
    Unavailable,
    Unimplemented,
)
from kedge.core.ports import BatchResult, Buffer, OnResult, OutputTensor
from kedge.core.settings import Compile
from kedge.core.values import TensorSpec, VersionManifest
from kedge.executors.archive import resolve_format
from kedge.executors.strings import array_from_elements
from kedge.executors.tensors import OutputReader, last_line
from kedge.executors.triton_python.messages import InferenceRequest, InferenceResponse, TritonError
from kedge.executors.triton_python.model import CLASS, load_triton_python
from kedge.executors.triton_python.tensor import Tensor

log = logging.getLogger("kedge.model")

# What a client can act upon; everything else is the model's failure.
_BY_CODE: dict[int, type[ServeError]] = {
    TritonError.INVALID_ARG: InvalidRequest,
    TritonError.UNAVAILABLE: Unavailable,
    TritonError.UNSUPPORTED: Unimplemented,
}


def make_triton_python(manifest: VersionManifest, device: str) -> TritonPythonExecutor:
    """The executor of a version whose file `is_triton_python`; code that may run was allowed.

    Raises LoadFailed with the reason, also for settings that would do nothing.
    """
    resolve_format(manifest)
    where, execution = manifest.path, manifest.execution
    if device != "cpu":
        raise LoadFailed(
            f"{where}: {CLASS} runs on the CPU only, not on {device}; declare KIND_CPU, or "
            "`device: cpu`"
        )
    for name, is_set in (
        (f"compile: {execution.compile.value}", execution.compile not in _COMPILE),
        ("batching.deterministic", execution.deterministic),
        ("batching.buckets", bool(execution.batch_buckets)),
    ):
        if is_set:
            raise LoadFailed(f"{where}: {name}: {CLASS} is run as it is; leave it out")
    return TritonPythonExecutor(manifest, load_triton_python(manifest))


_COMPILE = (Compile.AUTO, Compile.NONE)


class TritonPythonExecutor:
    """Implements `core.ports.Executor` around an initialized model.

    `execute` is called for clients' batches only, never for zeros: unlike a module, it may do
    anything. Buffers are read in place; an output may lie in them.
    """

    def __init__(self, manifest: VersionManifest, model: Any) -> None:
        self._manifest = manifest
        self._schema = manifest.schema
        self._model = model
        self._read_outputs = OutputReader(manifest).read
        self._output_names = [spec.name for spec in manifest.schema.outputs]
        self._is_open = True

    def __repr__(self) -> str:
        return f"<TritonPythonExecutor {self._manifest.ref}>"

    @property
    def batches_free(self) -> int:
        return 1

    def close(self) -> None:
        """Let the model finalize, once; what it raises is logged."""
        if not self._is_open:
            return
        self._is_open = False
        finalize = getattr(self._model, "finalize", None)
        if finalize is None:
            return
        try:
            finalize()
        except Exception:
            log.exception("model.finalize_failed %s", self._manifest.ref)

    def allocate(
        self, rows: int, dims: Sequence[tuple[int, ...]], nbytes: Sequence[int]
    ) -> Sequence[Buffer]:
        return [np.empty(size, dtype=np.uint8) for size in nbytes]

    def submit(
        self,
        rows: int,
        dims: Sequence[tuple[int, ...]],
        inputs: Sequence[Buffer],
        on_result: OnResult,
    ) -> None:
        started_ns = time.perf_counter_ns()
        outputs: Sequence[OutputTensor] = ()
        failed: ServeError | None = None
        try:
            outputs = self._run(rows, self._tensors(rows, dims, inputs))
        except ServeError as error:
            failed = error
        except Exception as error:
            failed = ModelFailed(f"model '{self._manifest.ref}' failed: {last_line(error)}")
        on_result(BatchResult(outputs, failed, time.perf_counter_ns() - started_ns), True)

    def _tensors(
        self, rows: int, dims: Sequence[tuple[int, ...]], inputs: Sequence[Buffer]
    ) -> list[Tensor]:
        batch_dims = (rows,) if self._schema.batched else ()
        return [
            Tensor.of_raw(spec.name, spec.datatype, _array(spec, (*batch_dims, *row_dims), raw))
            for spec, row_dims, raw in zip(self._schema.inputs, dims, inputs, strict=True)
        ]

    def _run(self, rows: int, tensors: list[Tensor]) -> list[OutputTensor]:
        ref = self._manifest.ref
        request = InferenceRequest(
            inputs=tensors,
            requested_output_names=self._output_names,
            model_name=ref.name,
            model_version=ref.version,
        )
        answer = self._model.execute([request])
        if inspect.iscoroutine(answer):
            answer = asyncio.run(answer)
        response = self._the_response(answer)
        error = response.error()
        if error is not None:
            # In the model's own words, as in Triton: its clients may know them.
            code = getattr(error, "code", lambda: TritonError.INTERNAL)()
            raise _BY_CODE.get(code, ModelFailed)(str(error))
        return self._read_outputs(self._values(response), rows)

    def _the_response(self, answer: object) -> InferenceResponse:
        """The one response of the one request."""
        expected = "execute: expected a list of 1 response for 1 request"
        if answer is None:
            raise self._broken(
                f"{expected}, got None; answers through response senders (decoupled) are not in "
                "this version of Kedge"
            )
        if not isinstance(answer, (list, tuple)):
            raise self._broken(f"{expected}, got {type(answer).__name__}")
        if len(answer) != 1:
            raise self._broken(f"{expected}, got {len(answer)}")
        (response,) = answer
        if not isinstance(response, InferenceResponse):
            raise self._broken(f"{expected}, got a list of {type(response).__name__}")
        return response

    def _values(self, response: InferenceResponse) -> dict[str, object]:
        """What `OutputReader` takes; outputs that are not declared are left out, as in Triton."""
        tensors = {}
        for tensor in response.output_tensors():
            if not isinstance(tensor, Tensor):
                raise self._broken(f"expected outputs of pb_utils.Tensor, got {type(tensor)}")
            tensors[tensor.name()] = tensor
        values: dict[str, object] = {}
        for spec in self._schema.outputs:
            found = tensors.get(spec.name)
            if found is None:
                raise self._broken(f"output '{spec.name}' is missing, got {sorted(tensors)}")
            if found.datatype != spec.datatype:
                raise self._broken(
                    f"output '{spec.name}': expected {spec.datatype.name}, got "
                    f"{found.datatype.name}"
                )
            is_fixed = spec.datatype.is_fixed_size
            values[spec.name] = found.as_torch() if is_fixed else found.as_numpy()
        return values

    def _broken(self, what: str) -> ModelFailed:
        return ModelFailed(f"model '{self._manifest.ref}' breaks its declaration: {what}")


def _array(spec: TensorSpec, shape: tuple[int, ...], raw: Buffer) -> NDArray[Any]:
    """An input's array: on the buffer's own memory, for BYTES one of `bytes`."""
    if spec.datatype.is_fixed_size:
        return raw.view(spec.datatype.numpy).reshape(shape)
    return array_from_elements(unpack_bytes(raw.tobytes(), f"input '{spec.name}'"), shape)
