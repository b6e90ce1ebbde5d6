"""The codec's slow, obvious twin: tritonclient's messages parse and serialize, one rule a line.

It accepts what the protocol allows in its plain shape. What is refused here the codec must never
accept; what is accepted here the codec may still leave to protobuf, if its bytes are unusual.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from math import prod
from typing import NamedTuple

import numpy as np
from google.protobuf.message import DecodeError
from numpy.typing import NDArray
from tritonclient.grpc.service_pb2 import ModelInferRequest, ModelInferResponse

from kedge_kernels import codec
from kedge_kernels.codec import OutputPlan, RequestPlan, RequestTable


class Columns(NamedTuple):
    """A request by value. plan: its index; output_mask: bit j for output j; dims and raw: of every
    input in the plan's order, without the batch dimension.
    """

    plan: int
    rows: int
    id: bytes
    output_mask: int
    dims: tuple[tuple[int, ...], ...]
    raw: tuple[bytes, ...]


class Refused(Exception):
    """A request that is wrong, or not plain."""


def _has_no_other_parameter(request: ModelInferRequest) -> bool:
    """Whether the parameters are none, or the one that Triton's C++ client always sends."""
    name = "triton_enable_empty_final_response"
    others = set(request.parameters) - {name}
    return not others and (
        name not in request.parameters or request.parameters[name].HasField("bool_param")
    )


def read(payload: bytes, plans: Sequence[RequestPlan]) -> Columns:
    """The columns of a serialized ModelInferRequest; raises Refused."""
    try:
        request = ModelInferRequest.FromString(payload)
    except DecodeError as error:
        raise Refused("protobuf cannot parse it") from error
    index = _find(request, plans)
    plan = plans[index]
    _require(_has_no_other_parameter(request), "parameters of the request")
    tensors = {tensor.name: tensor for tensor in request.inputs}
    raws = dict(zip(tensors, request.raw_input_contents, strict=False))
    _require(len(request.inputs) == len(plan.inputs), "number of inputs")
    _require(set(tensors) == {spec.name for spec in plan.inputs}, "names of inputs")
    _require(len(request.raw_input_contents) == len(plan.inputs), "number of raw contents")
    for spec in plan.inputs:
        tensor = tensors[spec.name]
        _require(not tensor.parameters and not tensor.HasField("contents"), "plain inputs")
        _require(tensor.datatype == spec.datatype and spec.item_bytes > 0, "datatype")
        _require(_fits(tensor.shape, spec.dims, plan), "shape")
        _require(len(raws[spec.name]) == prod(tensor.shape) * spec.item_bytes, "raw length")
    rows = {tensor.shape[0] for tensor in tensors.values()} if plan.batched else {1}
    _require(len(rows) == 1, "equal rows")
    return Columns(
        plan=index,
        rows=rows.pop(),
        id=request.id.encode(),
        output_mask=_output_mask(request, plan),
        dims=tuple(tuple(tensors[spec.name].shape[plan.batched :]) for spec in plan.inputs),
        raw=tuple(raws[spec.name] for spec in plan.inputs),
    )


def _require(holds: bool, rule: str) -> None:
    if not holds:
        raise Refused(rule)


def _find(request: ModelInferRequest, plans: Sequence[RequestPlan]) -> int:
    for index, plan in enumerate(plans):
        versions = {str(plan.version), "" if plan.newest else str(plan.version)}
        if request.model_name == plan.name and request.model_version in versions:
            return index
    raise Refused("unknown model or version")


def _fits(shape: Sequence[int], dims: tuple[int, ...], plan: RequestPlan) -> bool:
    sizes = list(shape)
    if plan.batched and not (sizes and 1 <= sizes.pop(0) <= plan.rows_max):
        return False
    return len(sizes) == len(dims) and all(
        size >= 0 and planned in (-1, size) for size, planned in zip(sizes, dims, strict=True)
    )


def _output_mask(request: ModelInferRequest, plan: RequestPlan) -> int:
    for output in request.outputs:
        _require(not output.parameters, "plain outputs")
        _require(output.name in plan.outputs, "names of outputs")
    wanted = {output.name for output in request.outputs} or set(plan.outputs)
    return sum(1 << j for j, name in enumerate(plan.outputs) if name in wanted)


def columns_of(row: NDArray[np.int64], table: RequestTable) -> Columns:
    """A row of the codec's fields array, with what its addresses point to."""
    plan = table.plans[row[codec.PLAN]]
    dims, raw = [], []
    start = table.dims_start
    for k, spec in enumerate(plan.inputs):
        dims.append(tuple(row[start : start + len(spec.dims)].tolist()))
        start += len(spec.dims)
        raw.append(ctypes.string_at(*row[codec.INPUTS + 2 * k :][:2].tolist()))
    assert row[codec.NBYTES] == sum(map(len, raw))
    return Columns(
        plan=int(row[codec.PLAN]),
        rows=int(row[codec.ROWS]),
        id=ctypes.string_at(*row[[codec.ID_ADDRESS, codec.ID_BYTES]].tolist()),
        output_mask=int(row[codec.OUTPUT_MASK]),
        dims=tuple(dims),
        raw=tuple(raw),
    )


def write(
    plan: RequestPlan,
    requests: Sequence[Columns],
    specs: Sequence[OutputPlan],
    dims: Sequence[tuple[int, ...]],
    outputs: Sequence[bytes],
) -> list[bytes]:
    """The answers to requests of one batch, of which `outputs` has the raw contents."""
    answers = []
    row = 0
    for request in requests:
        answer = ModelInferResponse(
            model_name=plan.name, model_version=str(plan.version), id=request.id.decode()
        )
        for j, spec in enumerate(specs):
            if request.output_mask >> j & 1:
                shape = (request.rows, *dims[j]) if plan.batched else dims[j]
                answer.outputs.add(name=spec.name, datatype=spec.datatype, shape=shape)
                row_bytes = spec.item_bytes * prod(dims[j])
                mine = outputs[j][row * row_bytes : (row + request.rows) * row_bytes]
                answer.raw_output_contents.append(mine)
        answers.append(answer.SerializeToString())
        row += request.rows
    return answers
