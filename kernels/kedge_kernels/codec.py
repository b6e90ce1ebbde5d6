"""ModelInferRequest messages to columns, and columns to ModelInferResponse messages.

What is not here: rare forms of message. `scan` marks them, and the protobuf library reads them.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from kedge_kernels import lengths
from kedge_kernels._jit import warm_up
from kedge_kernels.answer_table import AnswerLayout, AnswerTable, OutputPlan
from kedge_kernels.answer_write import (
    TOO_LONG,
    describe_output,
    measure_answers,
    write_answers,
    write_long_answers,
)
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
from kedge_kernels.gather import gather_input, gather_long_input
from kedge_kernels.memory import DATA_OFFSET, address_of, identities, unwritten_bytes
from kedge_kernels.request_scan import scan_objects, scan_ranges
from kedge_kernels.request_table import InputPlan, RequestPlan, RequestTable
from kedge_kernels.summary import summarize_fields
from kedge_kernels.wire import bytes_field, text_field, varint

__all__ = [
    "CODE",
    "FALLBACK_CONTENTS",
    "FALLBACK_FORM",
    "FALLBACK_ID",
    "FALLBACK_INPUT",
    "FALLBACK_MODEL",
    "FALLBACK_OUTPUT",
    "FALLBACK_SHAPE",
    "ID_ADDRESS",
    "ID_BYTES",
    "INPUTS",
    "NBYTES",
    "OUTPUT_MASK",
    "PLAN",
    "ROWS",
    "AnswerTable",
    "InputPlan",
    "OutputPlan",
    "RequestPlan",
    "RequestTable",
    "address_of",
    "encode",
    "gather",
    "scan",
    "scan_addresses",
    "summarize",
    "warm",
]

Fields = NDArray[np.int64]
Buffer = NDArray[np.uint8]

# Copies of more bytes give the GIL away: they take over 50 us.
_BRIEF_BYTES_MAX = 1 << 20


def scan(payloads: Sequence[bytes], table: RequestTable) -> Fields:
    """The fields array of ModelInferRequest messages, one row each: int64[n, table.width].

    Where CODE is 0, protobuf would parse the message and every rule about the request would accept
    it with just these values; the addresses point into the payload, which must be kept. All other
    messages, good or bad, have a FALLBACK code and nothing else. TypeError if a payload is not
    exactly `bytes`.
    """
    fields = np.empty((len(payloads), table.width), np.int64)
    scanned = scan_objects(identities(payloads), table.packed, fields)
    if scanned < len(payloads):
        raise TypeError(f"expected bytes to scan, got {type(payloads[scanned]).__name__}")
    return fields


def scan_addresses(
    addresses: NDArray[np.int64], lengths: NDArray[np.int64], table: RequestTable
) -> Fields:
    """As `scan`, of messages anywhere in memory: int64[n], where each begins and its bytes."""
    assert addresses.shape == lengths.shape, "one length for each address"
    fields = np.empty((len(addresses), table.width), np.int64)
    scan_ranges(addresses, lengths, table.packed, fields)
    return fields


def summarize(fields: Fields) -> tuple[int, int, int]:
    """(plan, rows, bytes) of one request or more: the PLAN of all of them, -1 if one fell back or
    they differ; the sums of ROWS and NBYTES.
    """
    plan, rows, nbytes = summarize_fields(fields)
    return plan, rows, nbytes


def gather(fields: Fields, destinations: Sequence[Buffer]) -> None:
    """Fills destination k, uint8[b], with the raw contents of input k of all requests, one behind
    another in the order of `fields`.

    The requests are of one plan, with one input per destination, and their payloads are alive.
    ValueError if the contents have not exactly b bytes; a destination may then be partly written.
    """
    fields = np.ascontiguousarray(fields)
    if INPUTS + 2 * len(destinations) > fields.shape[1]:
        raise ValueError(f"{len(destinations)} destinations are more than there are inputs")
    for k, destination in enumerate(destinations):
        fill = gather_input if destination.size <= _BRIEF_BYTES_MAX else gather_long_input
        if fill(fields, k, destination) != destination.size:
            raise ValueError(
                f"input {k}: the batch has room for {destination.size} bytes of raw contents, its "
                f"requests have {fields[:, INPUTS + 2 * k + 1].sum()}"
            )


def encode(
    table: AnswerTable,
    fields: Fields,
    dims: Sequence[tuple[int, ...]],
    outputs: Sequence[Buffer],
) -> list[bytes]:
    """One serialized ModelInferResponse per row of `fields`, byte for byte as protobuf writes it.

    outputs[j]: uint8[b], the raw contents of output j for the whole batch, of which each request
    owns the next ROWS rows; dims[j]: one row's dimensions, without the batch. An answer has the
    request's id (ID_ADDRESS, ID_BYTES) and the outputs in its OUTPUT_MASK, in the model's order.
    ValueError if an output has not the bytes of all rows, or an answer would be 2 GiB long.
    """
    layout = table.layout(dims)  # held until the end, for it owns what `packed` points to
    fields = np.ascontiguousarray(fields)
    data = _described(outputs, len(dims))
    starts = np.empty(len(fields), np.int64)
    total_bytes = measure_answers(fields, layout.packed, data, starts)
    if total_bytes < 0:
        raise ValueError(_complaint(total_bytes, layout, fields, outputs))
    if total_bytes <= _BRIEF_BYTES_MAX:
        joined = unwritten_bytes(total_bytes)
        write_answers(fields, layout.packed, data, starts, address_of(joined))
        if len(fields) == 1:
            return [joined]
        return [joined[start:stop] for start, stop in pairwise((*starts.tolist(), total_bytes))]
    # Each in its own memory: slices would copy megabytes a second time.
    answers = [unwritten_bytes(size) for size in np.diff(starts, append=total_bytes).tolist()]
    write_long_answers(fields, layout.packed, data, identities(answers), DATA_OFFSET)
    return answers


def _described(outputs: Sequence[Buffer], expected: int) -> NDArray[np.int64]:
    """int64[outputs, 2]: where each output begins, and its bytes."""
    if len(outputs) != expected:
        raise ValueError(f"expected {expected} outputs, got {len(outputs)}")
    data = np.empty((expected, 2), np.int64)
    for j, output in enumerate(outputs):
        if not describe_output(output, j, data):
            raise ValueError(f"output {j} must be contiguous")
    return data


def _complaint(code: int, layout: AnswerLayout, fields: Fields, outputs: Sequence[Buffer]) -> str:
    """Why measure_answers refused, in words."""
    if code == TOO_LONG:
        return "an answer would be longer than 2 GiB, the most that a protobuf message may have"
    expected = [int(fields[:, ROWS].sum()) * row_bytes for row_bytes in layout.row_bytes]
    return f"the outputs of the batch need {expected} bytes, got {[each.size for each in outputs]}"


@warm_up
def warm() -> None:
    """Compiles every kernel of the codec, or loads it from the cache: seconds when cold, else about
    0.5 s.
    """
    tensor = InputPlan("x", "UINT8", 1, (-1,))
    table = RequestTable([RequestPlan("m", 1, True, (tensor,), ("y",), batched=False, rows_max=1)])
    answers = AnswerTable("m", 1, [OutputPlan("y", "UINT8", 1)], batched=False)
    for contents_bytes in (1, _BRIEF_BYTES_MAX + 1):
        shape = varint(contents_bytes)
        payload = (
            text_field(1, "m")
            + bytes_field(5, text_field(1, "x") + text_field(2, "UINT8") + bytes_field(3, shape))
            + bytes_field(7, bytes(contents_bytes))
        )
        fields = scan([payload], table)
        assert summarize(fields) == (0, 1, contents_bytes)
        batch = np.empty(contents_bytes, np.uint8)
        gather(fields, [batch])
        encode(answers, fields, [(contents_bytes,)], [batch])
        batch.setflags(write=False)  # read-only arrays are another type to Numba
        encode(answers, fields, [(contents_bytes,)], [batch])
    start = np.array([address_of(payload)])
    scan_addresses(start, np.array([len(payload)]), table)
    lengths.warm()
