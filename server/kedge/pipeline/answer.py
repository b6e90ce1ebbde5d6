"""From a batch's outputs to one serialized ModelInferResponse per request. Pure."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from kedge.core.ports import OutputTensor
from kedge.pipeline.lane import Lane
from kedge.proto import ModelInferResponse
from kedge_kernels.codec import ID_ADDRESS, ID_BYTES, OUTPUT_MASK, ROWS, encode


def encode_answers(
    lane: Lane, fields: NDArray[np.int64], outputs: Sequence[OutputTensor]
) -> Sequence[bytes]:
    """One answer per row of `fields`; request r owns the next ROWS rows of every output."""
    if lane.answers is None:
        return _encode_protobuf(lane, fields, outputs)
    if lane.padding is not None:
        return lane.padding.encode(lane.answers, fields, outputs)
    batched = lane.schema.batched
    dims = [output.shape[1:] if batched else output.shape for output in outputs]
    return encode(lane.answers, fields, dims, [output.data for output in outputs])


def _encode_protobuf(
    lane: Lane, fields: NDArray[np.int64], outputs: Sequence[OutputTensor]
) -> list[bytes]:
    """The slow twin of the codec's `encode`, and the only path for BYTES outputs."""
    answers = []
    row = 0
    for columns in fields.tolist():
        end = row + columns[ROWS]
        request_id = ctypes.string_at(columns[ID_ADDRESS], columns[ID_BYTES]).decode()
        answer = ModelInferResponse(
            model_name=lane.plan.name, model_version=str(lane.plan.version), id=request_id
        )
        for index, (spec, output) in enumerate(zip(lane.schema.outputs, outputs, strict=True)):
            if not columns[OUTPUT_MASK] >> index & 1:
                continue
            shape = (columns[ROWS], *output.shape[1:]) if lane.schema.batched else output.shape
            answer.outputs.add(name=spec.name, datatype=spec.datatype.name, shape=shape)
            answer.raw_output_contents.append(_rows_of(output, row, end, lane.schema.batched))
        answers.append(answer.SerializeToString())
        row = end
    return answers


def _rows_of(output: OutputTensor, start: int, end: int, batched: bool) -> bytes:
    """The raw bytes of rows start to end of one output."""
    if not batched:
        return output.data.tobytes()
    if output.row_ends is not None:
        ends = output.row_ends
        return output.data[ends[start - 1] if start else 0 : ends[end - 1]].tobytes()
    row_bytes = len(output.data) // output.shape[0]
    return output.data[start * row_bytes : end * row_bytes].tobytes()
