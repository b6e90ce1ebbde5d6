"""The slow decoder: any ModelInferRequest, checked with a message that names tensor, expected and
got.
 The codec's fast path accepts only the plain shape of message; whatever it leaves is decided here,
so this file is where the rules of the protocol stand. Texts are Triton's where stock clients match
them.
"""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import NamedTuple

import numpy as np
from google.protobuf.message import DecodeError

from kedge.core.bytes_elements import unpack_bytes
from kedge.core.errors import InvalidRequest, ServeError, Unimplemented, UnparsableMessage
from kedge.core.values import ModelSchema, TensorSpec
from kedge.pipeline.blocks import NS_PER_US, Dims, RequestBlock
from kedge.pipeline.contents import raw_from_contents
from kedge.pipeline.lane import Lane
from kedge.proto import InferParameter, ModelInferRequest
from kedge_kernels.codec import address_of

FindLane = Callable[[str, str], Lane]
INTEGERS = ("int64_param", "uint64_param")
RESERVED_PARAMETERS = {
    "sequence_id": ("int64_param", "string_param"),
    "sequence_start": ("bool_param",),
    "sequence_end": ("bool_param",),
    "priority": INTEGERS,
    "timeout": ("int64_param",),
}
MAX_BATCH_NOTE = (
    "NOTE: Setting a non-zero max_batch_size in the model config requires a batch dimension to be "
    "prepended to each input shape."
)


class Decoded(NamedTuple):
    """One accepted request and the lane that it goes to."""

    lane: Lane
    block: RequestBlock


class RequestRefused(Exception):
    """Carries a refusal together with the lane it was addressed to, so that it is counted there."""

    def __init__(self, error: ServeError, lane: Lane | None) -> None:
        super().__init__(str(error))
        self.error = error
        self.lane = lane


def decode_protobuf(call_id: int, payload: bytes, find_lane: FindLane, arrived_ns: int) -> Decoded:
    """Decode and check one request. Raises RequestRefused."""
    try:
        request = ModelInferRequest.FromString(payload)
    except DecodeError:
        error = UnparsableMessage(
            f"expected an inference.ModelInferRequest, got {len(payload)} bytes that are none"
        )
        raise RequestRefused(error, None) from None
    try:
        lane = find_lane(request.model_name, request.model_version)
    except ServeError as error:
        # Without the id before it: stock clients look for this text at the start of the message.
        raise RequestRefused(error, None) from None
    try:
        return Decoded(lane, _block(call_id, request, lane, arrived_ns))
    except ServeError as error:
        named = type(error)(f"[request id: {request.id or '<id_unknown>'}] {error}")
        raise RequestRefused(named, lane) from None


def _block(call_id: int, request: ModelInferRequest, lane: Lane, arrived_ns: int) -> RequestBlock:
    timeout_us = _check_parameters(request)
    mask = _output_mask(request, lane)
    rows, dims, raws = _inputs(request, lane)
    request_id = request.id.encode()
    nbytes = sum(map(len, raws))
    row = [0, 0, rows, address_of(request_id), len(request_id), mask, nbytes]
    for raw in raws:
        row += (address_of(raw), len(raw))
    if lane.padding is not None:
        row += (size for own in dims for size in own)
        dims = lane.padding.check(dims)
    expires_ns = _expires_ns(lane, timeout_us, arrived_ns)
    fields = np.array([row], dtype=np.int64)
    return RequestBlock(
        [call_id], [(request_id, raws)], fields, dims, arrived_ns, expires_ns, path="protobuf"
    )


def _expires_ns(lane: Lane, timeout_us: int, arrived_ns: int) -> int:
    """A request's own timeout can only shorten the model's, and only where the model allows it."""
    limits = lane.served.manifest.queue
    if limits.timeout_us == 0:
        return 0
    if limits.timeout_override and timeout_us > 0:
        timeout_us = min(timeout_us, limits.timeout_us)
    else:
        timeout_us = limits.timeout_us
    return arrived_ns + timeout_us * NS_PER_US


def _check_parameters(request: ModelInferRequest) -> int:
    """Check names and types of the request's parameters; return `timeout` in us, 0 if absent."""
    timeout_us = 0
    for name, parameter in request.parameters.items():
        choice = parameter.WhichOneof("parameter_choice")
        allowed = RESERVED_PARAMETERS.get(name)
        if allowed is not None:
            if choice not in allowed:
                raise InvalidRequest(
                    f"parameter '{name}': expected {' or '.join(allowed)}, got {choice}"
                )
            if name == "timeout":
                timeout_us = _not_negative(name, parameter.int64_param)
            elif name == "priority":
                _not_negative(name, _integer(parameter))
        elif name.startswith("triton_") and name != "triton_enable_empty_final_response":
            raise InvalidRequest(f"parameter '{name}': names that begin with triton_ are reserved")
        elif choice in (None, "uint64_param"):
            raise InvalidRequest(
                f"parameter '{name}': expected a bool, int64, double or string, got {choice}"
            )
    return timeout_us


def _integer(parameter: InferParameter) -> int:
    return parameter.int64_param or parameter.uint64_param


def _not_negative(name: str, value: int) -> int:
    if value < 0:
        raise InvalidRequest(f"parameter '{name}': expected 0 or more, got {value}")
    return value


def _output_mask(request: ModelInferRequest, lane: Lane) -> int:
    names = lane.plan.outputs
    if not request.outputs:
        return (1 << len(names)) - 1
    mask = 0
    for output in request.outputs:
        if output.name not in names:
            raise InvalidRequest(
                f"unexpected inference output '{output.name}' requested for model "
                f"'{lane.plan.name}', it has {', '.join(names)}"
            )
        for parameter in ("classification", "shared_memory_region"):
            if parameter in output.parameters:
                raise Unimplemented(
                    f"output '{output.name}': {parameter} is not in this version of Kedge"
                )
        mask |= 1 << names.index(output.name)
    return mask


def _inputs(request: ModelInferRequest, lane: Lane) -> tuple[int, Dims, tuple[bytes, ...]]:
    """Rows, per-row dimensions and raw bytes of every input, in the model's order."""
    schema = lane.schema
    model = lane.plan.name
    given = _given_by_name(request, schema, model)
    rows_of: dict[str, int] = {}
    dims: list[tuple[int, ...]] = []
    raws: list[bytes] = []
    for spec in schema.inputs:
        tensor, raw = given[spec.name]
        _check_datatype(tensor.datatype, spec, model)
        rows_of[spec.name], row_dims = _shape(tuple(tensor.shape), spec, schema, model)
        elements = prod(tensor.shape)
        if raw is None:
            name = f"input '{spec.name}' for model '{model}'"
            raw = raw_from_contents(tensor.contents, spec.datatype, elements, name)
        else:
            _check_raw(raw, spec, elements, model)
        dims.append(row_dims)
        raws.append(raw)
    rows = next(iter(rows_of.values()))
    for name, other in rows_of.items():
        if other != rows:
            raise InvalidRequest(
                f"input '{name}' batch size does not match other inputs for '{model}': expected "
                f"{rows}, got {other}"
            )
    return rows, tuple(dims), tuple(raws)


def _given_by_name(
    request: ModelInferRequest, schema: ModelSchema, model: str
) -> dict[str, tuple[ModelInferRequest.InferInputTensor, bytes | None]]:
    """Each input with its raw buffer, None where it has typed contents instead.

    Raw buffers belong to the inputs in the request's order; surplus ones are ignored, as in Triton.
    """
    names = [spec.name for spec in schema.inputs]
    given: dict[str, tuple[ModelInferRequest.InferInputTensor, bytes | None]] = {}
    has_raw = len(request.raw_input_contents) > 0
    for index, tensor in enumerate(request.inputs):
        if tensor.name not in names:
            raise InvalidRequest(
                f"unexpected inference input '{tensor.name}' for model '{model}', it expects "
                f"{', '.join(names)}"
            )
        if tensor.name in given:
            raise InvalidRequest(f"input '{tensor.name}' is given twice for model '{model}'")
        if "shared_memory_region" in tensor.parameters:
            raise Unimplemented(
                f"input '{tensor.name}': shared memory is not in this version of Kedge"
            )
        has_contents = tensor.HasField("contents") and bool(tensor.contents.ListFields())
        if has_raw and has_contents:
            raise InvalidRequest(
                "contents field must not be specified when using raw_input_contents for "
                f"'{tensor.name}' for model '{model}'"
            )
        if has_raw and index >= len(request.raw_input_contents):
            raise InvalidRequest(_no_data(tensor.name, model))
        if not has_raw and not has_contents:
            raise InvalidRequest(_no_data(tensor.name, model))
        given[tensor.name] = (tensor, request.raw_input_contents[index] if has_raw else None)
    if len(given) != len(names):
        missing = [name for name in names if name not in given]
        raise InvalidRequest(
            f"expected {len(names)} inputs but got {len(given)} inputs for model '{model}'. Got "
            f"input(s) {list(given)}, but missing required input(s) {missing}. Please provide all "
            "required input(s)."
        )
    return given


def _no_data(name: str, model: str) -> str:
    return f"unable to find data for input tensor '{name}' for model '{model}' in request."


def _check_datatype(datatype: str, spec: TensorSpec, model: str) -> None:
    if datatype != spec.datatype.name:
        raise InvalidRequest(
            f"inference input '{spec.name}' data-type is '{datatype}', but model '{model}' expects "
            f"'{spec.datatype.name}'"
        )


def _shape(
    shape: tuple[int, ...], spec: TensorSpec, schema: ModelSchema, model: str
) -> tuple[int, tuple[int, ...]]:
    """Rows and per-row dimensions of one input's wire shape."""
    expected = (-1, *spec.dims) if schema.batched else spec.dims
    fits = len(shape) == len(expected) and all(
        size >= 0 and wanted in (-1, size) for size, wanted in zip(shape, expected, strict=True)
    )
    if not fits:
        note = f" {MAX_BATCH_NOTE}" if schema.batched else ""
        raise InvalidRequest(
            f"unexpected shape for input '{spec.name}' for model '{model}'. Expected "
            f"{_text(expected)}, got {_text(shape)}.{note}"
        )
    if not schema.batched:
        return 1, shape
    if shape[0] == 0:
        raise InvalidRequest(
            f"input '{spec.name}' for model '{model}': expected a batch size of 1 to "
            f"{schema.rows_max}, got 0"
        )
    if shape[0] > schema.rows_max:
        raise InvalidRequest(
            f"inference request batch-size must be <= {schema.rows_max} for '{model}', got "
            f"{shape[0]} in input '{spec.name}'"
        )
    return shape[0], shape[1:]


def _text(shape: tuple[int, ...]) -> str:
    return f"[{','.join(map(str, shape))}]"


def _check_raw(raw: bytes, spec: TensorSpec, elements: int, model: str) -> None:
    name = f"input '{spec.name}' for model '{model}'"
    if spec.datatype.is_fixed_size:
        expected = elements * spec.datatype.item_bytes
        if len(raw) != expected:
            raise InvalidRequest(
                f"input byte size mismatch for {name}. Expected {expected}, got {len(raw)}"
            )
        return
    got = len(unpack_bytes(raw, name))
    if got != elements:
        raise InvalidRequest(f"{name}: expected {elements} BYTES elements, got {got}")
