"""Builds requests and reads answers with tritonclient's messages, which are not ours: an oracle."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from tritonclient.grpc import service_pb2 as pb


def infer_request(
    model: str = "double",
    values: Sequence[float] | np.ndarray[Any, Any] = (1.0,),
    *,
    name: str = "x",
    datatype: str = "FP32",
    shape: Sequence[int] | None = None,
    version: str = "",
    request_id: str = "",
    outputs: Sequence[str] = (),
    parameters: Mapping[str, Any] | None = None,
    raw: bytes | None = None,
) -> pb.ModelInferRequest:
    """One input, raw contents; by default FP32 [rows, 1]."""
    array = np.asarray(values, dtype=np.float32)
    request = pb.ModelInferRequest(model_name=model, model_version=version, id=request_id)
    tensor = request.inputs.add(name=name, datatype=datatype)
    tensor.shape.extend(shape if shape is not None else (len(array), 1))
    request.raw_input_contents.append(array.tobytes() if raw is None else raw)
    for output in outputs:
        request.outputs.add(name=output)
    for key, value in (parameters or {}).items():
        field = {bool: "bool_param", int: "int64_param", str: "string_param"}[type(value)]
        setattr(request.parameters[key], field, value)
    return request


def values_of(answer: bytes) -> list[float]:
    """The FP32 values of an answer's first output."""
    response = pb.ModelInferResponse.FromString(answer)
    values: list[float] = np.frombuffer(response.raw_output_contents[0], np.float32).tolist()
    return values
