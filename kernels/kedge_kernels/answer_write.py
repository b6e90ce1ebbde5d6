"""Rows of a batch to ModelInferResponse messages, byte for byte as protobuf writes them."""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

from kedge_kernels._jit import brief_kernel, kernel
from kedge_kernels.answer_table import OpenLayout, open_layout
from kedge_kernels.fields import ID_ADDRESS, ID_BYTES, OUTPUT_MASK, ROWS
from kedge_kernels.memory import copy_bytes, is_contiguous
from kedge_kernels.request_scan import MESSAGE_BYTES_MAX
from kedge_kernels.wire import field_bytes, tag_of, varint_bytes, write_header, write_varint

REQUEST_ID, OUTPUT, RAW_CONTENTS, OUTPUT_SHAPE = tag_of(3), tag_of(5), tag_of(6), tag_of(3)

WRONG_ROWS = -1  # an output has not the bytes that the rows of all requests need
TOO_LONG = -2  # an answer would be longer than a protobuf message may be


@brief_kernel
def describe_output(output: NDArray[Any], j: int, data: NDArray[Any]) -> bool:
    """Puts the address and the bytes of `output`, uint8[b], in row j of `data`, int64[outputs, 2].
    False if it is not contiguous. (NumPy's own `array.ctypes.data` takes 0.7 us, this 0.15 us.)
    """
    data[j, 0] = output.ctypes.data
    data[j, 1] = output.size * output.itemsize
    return is_contiguous(output)


@brief_kernel
def measure_answers(
    fields: NDArray[Any], packed: NDArray[Any], data: NDArray[Any], starts: NDArray[Any]
) -> int:
    """Fills `starts`, int64[n]: where each answer begins if all are written one behind another.
    Answers their bytes in all, or WRONG_ROWS or TOO_LONG, and then nothing may be written. data:
    int64[outputs, 2], the address of each output and its bytes; see `describe_output`.
    """
    layout = open_layout(packed)
    total_bytes = 0
    rows = 0
    for answer in range(fields.shape[0]):
        starts[answer] = total_bytes
        size_bytes = answer_bytes(fields[answer], layout)
        if size_bytes > MESSAGE_BYTES_MAX:
            return TOO_LONG
        if fields[answer, ROWS] < 0:
            return WRONG_ROWS
        total_bytes += size_bytes
        rows += fields[answer, ROWS]
    for j in range(layout.tensors.size):
        # Divided, because a product of wrong numbers could overflow and then agree.
        row_bytes = max(1, layout.tensors[j].row_bytes)
        rows_expected = rows if layout.tensors[j].row_bytes > 0 else 0
        if data[j, 1] // row_bytes != rows_expected or data[j, 1] % row_bytes != 0:
            return WRONG_ROWS
    return total_bytes


@brief_kernel
def write_answers(
    fields: NDArray[Any], packed: NDArray[Any], data: NDArray[Any], starts: NDArray[Any], base: int
) -> None:
    """Writes every answer at its start, counted from the address `base`."""
    write_all(fields, packed, data, starts, base)


@kernel
def write_long_answers(
    fields: NDArray[Any], packed: NDArray[Any], data: NDArray[Any], starts: NDArray[Any], base: int
) -> None:
    """As `write_answers`, without the GIL."""
    write_all(fields, packed, data, starts, base)


@kernel
def write_all(
    fields: NDArray[Any], packed: NDArray[Any], data: NDArray[Any], starts: NDArray[Any], base: int
) -> None:
    """What `write_answers` and `write_long_answers` share."""
    layout = open_layout(packed)
    row = 0
    for answer in range(fields.shape[0]):
        write_answer(fields[answer], layout, data, row, base + starts[answer])
        row += fields[answer, ROWS]


@kernel
def answer_bytes(request: NDArray[Any], layout: OpenLayout) -> int:
    """Bytes of the answer to one row of the fields array."""
    size = layout.head_bytes
    if request[ID_BYTES] > 0:
        size += field_bytes(request[ID_BYTES])
    for j in range(layout.tensors.size):
        if request[OUTPUT_MASK] >> j & 1:
            size += field_bytes(tensor_bytes(j, request[ROWS], layout))
            size += field_bytes(request[ROWS] * layout.tensors[j].row_bytes)
    return size


@kernel
def tensor_bytes(j: int, rows: int, layout: OpenLayout) -> int:
    """Bytes of the InferOutputTensor of output j."""
    packed_bytes = shape_bytes(j, rows, layout)
    size: int = layout.tensors[j].head_bytes
    return size + field_bytes(packed_bytes) if packed_bytes > 0 else size


@kernel
def shape_bytes(j: int, rows: int, layout: OpenLayout) -> int:
    """Bytes of output j's packed shape; 0 for a scalar, whose shape is not sent."""
    size: int = layout.tensors[j].dims_bytes
    return size + varint_bytes(rows) if layout.batched else size


@kernel
def write_answer(
    request: NDArray[Any], layout: OpenLayout, data: NDArray[Any], row: int, cursor: int
) -> None:
    """Writes one ModelInferResponse at `cursor`; its tensors begin at `row` of the batch."""
    rows = request[ROWS]
    cursor = write_text(layout.head, layout.head_bytes, cursor)
    if request[ID_BYTES] > 0:
        cursor = write_header(REQUEST_ID, request[ID_BYTES], cursor)
        cursor = write_text(request[ID_ADDRESS], request[ID_BYTES], cursor)
    for j in range(layout.tensors.size):
        if request[OUTPUT_MASK] >> j & 1:
            cursor = write_tensor(j, rows, layout, cursor)
    for j in range(layout.tensors.size):
        if request[OUTPUT_MASK] >> j & 1:
            row_bytes = layout.tensors[j].row_bytes
            cursor = write_header(RAW_CONTENTS, rows * row_bytes, cursor)
            cursor = write_text(data[j, 0] + row * row_bytes, rows * row_bytes, cursor)


@kernel
def write_tensor(j: int, rows: int, layout: OpenLayout, cursor: int) -> int:
    """Writes the InferOutputTensor of output j; answers where it ends."""
    tensor = layout.tensors[j]
    cursor = write_header(OUTPUT, tensor_bytes(j, rows, layout), cursor)
    cursor = write_text(tensor.head, tensor.head_bytes, cursor)
    packed_bytes = shape_bytes(j, rows, layout)
    if packed_bytes > 0:
        cursor = write_header(OUTPUT_SHAPE, packed_bytes, cursor)
        if layout.batched:
            cursor = write_varint(rows, cursor)
        cursor = write_text(tensor.dims, tensor.dims_bytes, cursor)
    return cursor


@kernel
def write_text(source: int, size_bytes: int, cursor: int) -> int:
    """Copies bytes to `cursor`; answers where they end."""
    copy_bytes(cursor, source, size_bytes)
    return cursor + size_bytes
