"""ModelInferRequest messages to rows of the fields array.

The parser accepts one form: fields in the order of their numbers, each singular one at most once,
nothing unknown, no typed contents, and no parameter but the one that Triton's C++ client always
sends and that means nothing to a unary call. Clients write just that. Whatever differs gets a
fallback code, and the protobuf library decides what it means.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from kedge_kernels._jit import brief_kernel, kernel
from kedge_kernels.fields import (
    CODE,
    FALLBACK_CONTENTS,
    FALLBACK_FORM,
    FALLBACK_ID,
    FALLBACK_INPUT,
    FALLBACK_MODEL,
    FALLBACK_OUTPUT,
    FALLBACK_SHAPE,
    ID_ADDRESS,
    ID_BYTES,
    INPUTS,
    NBYTES,
    OUTPUT_MASK,
    PLAN,
    ROWS,
)
from kedge_kernels.memory import DATA_OFFSET, SIZE_OFFSET, TYPE_OFFSET, load_byte, load_word
from kedge_kernels.request_table import ELEMENTS_MAX, OpenTable, find_plan, is_text, open_table
from kedge_kernels.wire import next_is, read_field, read_optional, read_varint, tag_of

# Model name, version and id. Looking at every byte of longer ones would keep the GIL for long.
TEXT_BYTES_MAX = 1024
# Protobuf refuses longer messages.
MESSAGE_BYTES_MAX = 2**31 - 1

MODEL_NAME, MODEL_VERSION, REQUEST_ID = tag_of(1), tag_of(2), tag_of(3)
PARAMETER, INPUT, OUTPUT, RAW_CONTENTS = tag_of(4), tag_of(5), tag_of(6), tag_of(7)
INPUT_NAME, INPUT_DATATYPE, INPUT_SHAPE = tag_of(1), tag_of(2), tag_of(3)
OUTPUT_NAME = tag_of(1)
# The map entry `triton_enable_empty_final_response: bool_param`, up to the bool's one byte.
# perf_analyzer and all else on Triton's C++ client send it with every request.
FINAL_RESPONSE = np.frombuffer(
    b'\n"triton_enable_empty_final_response\x12\x02\x08', dtype=np.uint8
).copy()


@brief_kernel
def scan_objects(objects: NDArray[Any], packed: NDArray[Any], fields: NDArray[Any]) -> int:
    """Scans the `bytes` objects that begin at `objects`, int64[n], into `fields`, int64[n, width].
    Answers the index of the first object that is no `bytes`; n if there is none.
    """
    table = open_table(packed)
    for message in range(objects.size):
        if load_word(objects[message] + TYPE_OFFSET) != table.bytes_type:
            return message
        start = objects[message] + DATA_OFFSET
        end = start + load_word(objects[message] + SIZE_OFFSET)
        scan_message(start, end, table, fields[message])
    return objects.size


@brief_kernel
def scan_ranges(
    addresses: NDArray[Any], lengths: NDArray[Any], packed: NDArray[Any], fields: NDArray[Any]
) -> None:
    """As `scan_objects`, of messages anywhere in memory: int64[n] addresses and bytes."""
    table = open_table(packed)
    for message in range(addresses.size):
        start = addresses[message]
        scan_message(start, start + lengths[message], table, fields[message])


@kernel
def scan_message(start: int, end: int, table: OpenTable, row: NDArray[Any]) -> None:
    """Fills `row` from the ModelInferRequest in [start, end)."""
    row[:] = 0
    code = read_request(start, end, table, row)
    if code != 0:
        row[:] = 0
        row[CODE] = code


@kernel
def read_request(cursor: int, end: int, table: OpenTable, row: NDArray[Any]) -> int:
    """A whole message into a row of zeros; answers its CODE."""
    if end - cursor > MESSAGE_BYTES_MAX:
        return FALLBACK_FORM
    name, name_end = read_optional(MODEL_NAME, cursor, end)
    version, version_end = read_optional(MODEL_VERSION, name_end, end)
    if version_end - name > TEXT_BYTES_MAX:
        return FALLBACK_MODEL
    index = find_plan(name, name_end - name, version, version_end - version, table)
    if index < 0 or not table.plans[index].is_fast:
        return FALLBACK_MODEL
    row[PLAN] = index

    request_id, cursor = read_optional(REQUEST_ID, version_end, end)
    row[ID_ADDRESS], row[ID_BYTES] = request_id, cursor - request_id
    if not is_short_ascii(request_id, cursor):
        return FALLBACK_ID

    cursor = skip_final_response(cursor, end)
    code, cursor = read_inputs(cursor, end, table, row)
    if code == 0:
        code, cursor = read_outputs(cursor, end, table, row)
    if code == 0:
        code, cursor = read_contents(cursor, end, table, row)
    if code == 0 and cursor != end:
        code = FALLBACK_FORM
    return code


@kernel
def skip_final_response(cursor: int, end: int) -> int:
    """The cursor behind a FINAL_RESPONSE parameter if that is what stands here, else `cursor`."""
    start, stop = read_optional(PARAMETER, cursor, end)
    if stop - start != FINAL_RESPONSE.size + 1 or load_byte(stop - 1) > 1:
        return cursor
    for index in range(FINAL_RESPONSE.size):
        if load_byte(start + index) != FINAL_RESPONSE[index]:
            return cursor
    return stop


@kernel
def is_short_ascii(start: int, stop: int) -> bool:
    """Whether [start, stop) is text that needs no UTF-8 check and is short enough to look at."""
    if stop - start > TEXT_BYTES_MAX:
        return False
    bits = 0
    for position in range(start, stop):
        bits |= load_byte(position)
    return bits < 0x80


@kernel
def read_inputs(cursor: int, end: int, table: OpenTable, row: NDArray[Any]) -> tuple[int, int]:
    """(code, next cursor) of all inputs. Leaves in the row: ROWS, the dimensions, the bytes that
    each input's raw contents must have, and from `order_start` on the message's order of inputs.
    """
    plan = table.plans[row[PLAN]]
    inputs = table.inputs[plan.inputs_start : plan.inputs_start + plan.inputs]
    for index in range(plan.inputs):
        row[INPUTS + 2 * index + 1] = -1  # not seen yet
    for position in range(plan.inputs):
        if not next_is(INPUT, cursor, end):
            return FALLBACK_INPUT, cursor
        start, cursor = read_field(cursor, end)
        name, name_end = read_optional(INPUT_NAME, start, cursor)
        index = find_name(name, name_end, inputs, position)
        if index < 0 or row[INPUTS + 2 * index + 1] >= 0:
            return FALLBACK_INPUT, cursor
        row[table.order_start + position] = index
        code, elements = read_tensor(name_end, cursor, plan.inputs_start + index, table, row)
        if code != 0:
            return code, cursor
        row[INPUTS + 2 * index + 1] = elements * inputs[index].item_bytes
    return 0, cursor


@kernel
def read_tensor(
    cursor: int, end: int, index: int, table: OpenTable, row: NDArray[Any]
) -> tuple[int, int]:
    """(code, number of elements) of what follows the name in an input; index: in the table."""
    expected = table.inputs[index]
    datatype, cursor = read_optional(INPUT_DATATYPE, cursor, end)
    if not is_text(datatype, cursor - datatype, expected.datatype, expected.datatype_bytes):
        return FALLBACK_INPUT, 0
    cursor, shape_end = read_optional(INPUT_SHAPE, cursor, end)
    if shape_end != end:
        return FALLBACK_FORM, 0
    rows, cursor = read_rows(cursor, end, table, row)
    elements = rows
    for axis in range(expected.rank):
        dim, cursor = read_varint(cursor, end)
        planned = table.dims[expected.dims_start + axis]
        if dim > ELEMENTS_MAX or planned not in (dim, -1):
            return FALLBACK_SHAPE, 0
        row[expected.dims_column + axis] = dim
        elements *= dim
        if elements > ELEMENTS_MAX:
            return FALLBACK_SHAPE, 0
    return 0 if rows > 0 and cursor == end else FALLBACK_SHAPE, elements


@kernel
def read_rows(cursor: int, end: int, table: OpenTable, row: NDArray[Any]) -> tuple[int, int]:
    """(rows, next cursor) of a shape; rows 0: not what the plan or another input says."""
    plan = table.plans[row[PLAN]]
    rows = 1
    if plan.batched:
        rows, cursor = read_varint(cursor, end)
        if rows > plan.rows_max or row[ROWS] not in (0, rows):
            return 0, cursor
    row[ROWS] = rows
    return rows, cursor


@kernel
def read_outputs(cursor: int, end: int, table: OpenTable, row: NDArray[Any]) -> tuple[int, int]:
    """(code, next cursor) of the requested outputs; fills OUTPUT_MASK."""
    plan = table.plans[row[PLAN]]
    outputs = table.outputs[plan.outputs_start : plan.outputs_start + plan.outputs]
    mask = 0
    while next_is(OUTPUT, cursor, end):
        start, cursor = read_field(cursor, end)
        name, name_end = read_optional(OUTPUT_NAME, start, cursor)
        if name_end != cursor:
            return FALLBACK_FORM, cursor
        index = find_name(name, name_end, outputs, 0)
        if index < 0 or mask >> index & 1:
            return FALLBACK_OUTPUT, cursor
        mask |= 1 << index
    row[OUTPUT_MASK] = mask if mask != 0 else (1 << plan.outputs) - 1
    return 0, cursor


@kernel
def read_contents(cursor: int, end: int, table: OpenTable, row: NDArray[Any]) -> tuple[int, int]:
    """(code, next cursor) of the raw contents, which come in the message's order of the inputs."""
    for position in range(table.plans[row[PLAN]].inputs):
        if not next_is(RAW_CONTENTS, cursor, end):
            return FALLBACK_CONTENTS, cursor
        start, cursor = read_field(cursor, end)
        column = INPUTS + 2 * row[table.order_start + position]
        if cursor - start != row[column + 1]:
            return FALLBACK_CONTENTS, cursor
        row[column] = start
        row[NBYTES] += cursor - start
    return 0, cursor


@kernel
def find_name(name: int, name_end: int, specs: NDArray[Any], guess: int) -> int:
    """Index of the spec that has the name in [name, name_end), or -1. `guess` is looked at first,
    for most clients keep the model's order.
    """
    for step in range(specs.size):
        index = guess + step
        if index >= specs.size:
            index -= specs.size
        if is_text(name, name_end - name, specs[index].name, specs[index].name_bytes):
            return index
    return -1
