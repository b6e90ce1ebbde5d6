"""Raw batches to what a module takes, and what it answers back to raw batches.

The same for every format and device: inputs are read where they lie, outputs are checked against
the declaration. Not here: who lends the buffers and who runs the module (`local.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from math import prod

import numpy as np
import torch

from kedge.core.bytes_elements import LENGTH_BYTES
from kedge.core.errors import ModelFailed
from kedge.core.ports import Buffer, OutputTensor
from kedge.core.values import ModelSchema, TensorSpec, VersionManifest
from kedge.executors.strings import array_to_raw, strings_from_raw, strings_to_raw

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
# A model as a function of its inputs, in the schema's order.
Forward = Callable[..., object]


def input_tensors(
    schema: ModelSchema, rows: int, dims: Sequence[tuple[int, ...]], inputs: Sequence[Buffer]
) -> list[object]:
    """The module's arguments: a tensor on each buffer's own memory, for BYTES lists of `str`.

    inputs: writable, C-contiguous, exactly as long as `rows` and `dims` say. Raises InvalidRequest
    for BYTES that are no UTF-8.
    """
    batch_dims = (rows,) if schema.batched else ()
    arguments: list[object] = []
    for spec, row_dims, raw in zip(schema.inputs, dims, inputs, strict=True):
        shape = (*batch_dims, *row_dims)
        dtype = TORCH_DTYPES.get(spec.datatype.name)
        if dtype is None:
            arguments.append(strings_from_raw(raw, shape, spec.name))
        elif raw.size == 0:
            arguments.append(torch.empty(shape, dtype=dtype))
        else:
            arguments.append(torch.frombuffer(raw, dtype=dtype).reshape(shape))
    return arguments


def staging_tensors(schema: ModelSchema, rows: int) -> list[torch.Tensor]:
    """Zeros for a batch of `rows` rows, one tensor per input; only for `is_fixed` schemas."""
    batch_dims = (rows,) if schema.batched else ()
    return [
        torch.zeros((*batch_dims, *spec.dims), dtype=TORCH_DTYPES[spec.datatype.name])
        for spec in schema.inputs
    ]


def is_fixed(schema: ModelSchema) -> bool:
    """Whether the number of rows alone says how many bytes each input has."""
    return all(spec.has_fixed_dims and spec.datatype.is_fixed_size for spec in schema.inputs)


def zero_inputs(schema: ModelSchema, rows: int) -> tuple[list[tuple[int, ...]], list[Buffer]]:
    """Per-row dimensions and raw zeros of a batch that the schema allows; free ones are 1.

    For BYTES the zeros are empty elements.
    """
    dims = [tuple(1 if dim < 0 else dim for dim in spec.dims) for spec in schema.inputs]
    inputs: list[Buffer] = [
        np.zeros(rows * prod(row) * (spec.datatype.item_bytes or LENGTH_BYTES), dtype=np.uint8)
        for spec, row in zip(schema.inputs, dims, strict=True)
    ]
    return dims, inputs


def random_inputs(schema: ModelSchema, rows: int, free_size: int) -> list[torch.Tensor]:
    """The same random batch at every call: normal numbers, and for other types 0 and 1, which are
    legal in every table. free_size: of dimensions that may have any. Not for BYTES.
    """
    generator = torch.Generator().manual_seed(rows)
    batch_dims = (rows,) if schema.batched else ()
    return [
        random_tensor(
            (*batch_dims, *(dim if dim >= 0 else free_size for dim in spec.dims)),
            TORCH_DTYPES[spec.datatype.name],
            generator,
        )
        for spec in schema.inputs
    ]


def random_tensor(
    shape: tuple[int, ...], dtype: torch.dtype, generator: torch.Generator
) -> torch.Tensor:
    """Normal numbers, or 0 and 1 of a type without fractions."""
    if dtype.is_floating_point:
        return torch.randn(shape, generator=generator).to(dtype)
    return torch.randint(0, 2, shape, generator=generator).to(dtype)


def tensors_of(answer: object) -> Iterator[torch.Tensor]:
    """The tensors of a module's answer, in its order."""
    if isinstance(answer, torch.Tensor):
        yield answer
    elif isinstance(answer, Mapping):
        for value in answer.values():
            yield from tensors_of(value)
    elif isinstance(answer, (tuple, list)):
        for value in answer:
            yield from tensors_of(value)


class OutputReader:
    """A version's answers as raw tensors, each checked against its declaration."""

    def __init__(self, manifest: VersionManifest) -> None:
        self._manifest = manifest
        self._schema = manifest.schema
        self._dtypes = [TORCH_DTYPES.get(spec.datatype.name) for spec in self._schema.outputs]

    def read(self, answer: object, rows: int) -> list[OutputTensor]:
        """What the module answered for `rows` rows, in the declared order: a tensor, a list or
        tuple by position, a mapping by name. BYTES are lists of `str` or object arrays.

        Contiguous CPU tensors are passed on without a copy. Raises ModelFailed, saying what was
        declared and what came.
        """
        return [
            self._output(value, spec, dtype, rows) for value, spec, dtype in self._declared(answer)
        ]

    def tensors(self, answer: object, rows: int) -> list[torch.Tensor]:
        """As `read`, but the checked tensors themselves, wherever they lie; not for BYTES."""
        return [
            self._tensor(value, spec, dtype, rows) for value, spec, dtype in self._declared(answer)
        ]

    def _declared(self, answer: object) -> Iterable[tuple[object, TensorSpec, torch.dtype | None]]:
        specs = self._schema.outputs
        values = _as_sequence(answer, specs)
        if len(values) != len(specs):
            raise self._broken(f"expected {len(specs)} outputs, got {len(values)}")
        return zip(values, specs, self._dtypes, strict=True)

    def _output(
        self, value: object, spec: TensorSpec, dtype: torch.dtype | None, rows: int
    ) -> OutputTensor:
        if dtype is None and isinstance(value, np.ndarray):
            self._check_shape(value.shape, spec, rows)
            data, row_ends = array_to_raw(value, self._schema.batched)
            return OutputTensor(data, value.shape, row_ends)
        if dtype is None:
            shape, data, row_ends = strings_to_raw(value, spec.name, self._schema.batched)
            # The counterpart of `strings_from_raw`: a List[str] is a column of one string per row.
            if len(shape) == 1 and len(spec.dims) == 1 and self._schema.batched:
                shape = (*shape, 1)
            self._check_shape(shape, spec, rows)
            return OutputTensor(data, shape, row_ends)
        tensor = self._tensor(value, spec, dtype, rows)
        return OutputTensor(raw_view(tensor), tuple(tensor.shape))

    def _tensor(
        self, value: object, spec: TensorSpec, dtype: torch.dtype | None, rows: int
    ) -> torch.Tensor:
        if not isinstance(value, torch.Tensor):
            raise self._broken(
                f"output '{spec.name}': expected a tensor, got {type(value).__name__}"
            )
        if value.dtype != dtype:
            raise self._broken(
                f"output '{spec.name}': expected {spec.datatype.name}, got {value.dtype}"
            )
        self._check_shape(tuple(value.shape), spec, rows)
        return value

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


def raw_view(tensor: torch.Tensor) -> Buffer:
    """A tensor's bytes; without a copy if it is contiguous and on the CPU."""
    if tensor.dtype == torch.bfloat16:
        tensor = tensor.view(torch.uint16)
    if tensor.requires_grad:
        tensor = tensor.detach()
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


def last_line(error: BaseException) -> str:
    """The reason in an error of torch: TorchScript puts its traceback before it, C++ its frames
    behind it.
    """
    text = str(error).partition("Exception raised from")[0]
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
