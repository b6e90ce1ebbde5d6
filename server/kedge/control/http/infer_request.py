"""From the body of an infer request, JSON with or without binary tensors, to ModelInferRequest.

All tensors become raw contents, the form that the gateway's codec reads. Whether model, tensors and
parameters exist and fit is the gateway's to say. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from kedge import proto
from kedge.control.http.json_fields import checked, optional, parsed_object, required
from kedge.control.http.json_tensors import raw_from_json
from kedge.core.addressing import INT64_MAX
from kedge.core.datatypes import DATATYPES
from kedge.core.errors import InvalidRequest

UINT64_MAX = 2**64 - 1

Parameters = Mapping[str, object]


class InferCall(NamedTuple):
    """A request for the gateway, and how its answer is to be written.

    binary: per output name, whether its data goes behind the JSON; outputs that are not in it
    follow binary_default.
    """

    message: proto.ModelInferRequest
    binary: Mapping[str, bool]
    binary_default: bool


def read_infer_request(model: str, version: str, body: bytes, json_bytes: int | None) -> InferCall:
    """json_bytes: where the JSON ends and binary data begins; None = the body is JSON throughout.

    Raises InvalidRequest.
    """
    if json_bytes is not None and not 0 < json_bytes <= len(body):
        raise InvalidRequest(
            "Inference-Header-Content-Length is the length of the JSON: expected 1 to the body's "
            f"{len(body)} bytes, got {json_bytes}"
        )
    with parsed_object(body if json_bytes is None else body[:json_bytes]) as document:
        return _read_request(model, version, document, memoryview(body)[json_bytes or len(body) :])


def _read_request(
    model: str, version: str, document: Mapping[str, object], binary: memoryview
) -> InferCall:
    message = proto.ModelInferRequest(
        model_name=model, model_version=version, id=optional("request", document, "id", "")
    )
    parameters = optional("request", document, "parameters", dict[str, object]())
    binary_default = optional("request parameters", parameters, "binary_data_output", False)
    _set_parameters(message.parameters, "request", parameters, "binary_data_output")
    _read_inputs(message, document, binary)
    return InferCall(message, _read_outputs(message, document, binary_default), binary_default)


def _read_inputs(
    message: proto.ModelInferRequest, document: Mapping[str, object], binary: memoryview
) -> None:
    for index, item in enumerate(required("request", document, "inputs", list)):
        given = checked(f"inputs[{index}]", item, dict)
        name = required(f"inputs[{index}]", given, "name", str)
        label = f"input '{name}'"
        tensor = message.inputs.add(
            name=name,
            datatype=required(label, given, "datatype", str),
            shape=_shape(label, required(label, given, "shape", list)),
        )
        parameters = optional(label, given, "parameters", dict[str, object]())
        _set_parameters(tensor.parameters, label, parameters, "binary_data_size")
        if "binary_data_size" in parameters:
            raw, binary = _split(label, given, parameters["binary_data_size"], binary)
            message.raw_input_contents.append(raw)
        elif "data" in given:
            message.raw_input_contents.append(_raw(label, tensor, given["data"]))
        elif "shared_memory_region" not in parameters:
            raise InvalidRequest(
                f"{label}: expected 'data', or one of the parameters 'binary_data_size' and "
                "'shared_memory_region', got none"
            )
    if binary:
        raise InvalidRequest(
            f"unexpected additional input data for model '{message.model_name}': "
            f"{len(binary)} bytes belong to no input"
        )


def _shape(label: str, shape: list[object]) -> list[int]:
    dims = [dim for dim in shape if type(dim) is int and 0 <= dim <= INT64_MAX]
    if len(dims) != len(shape):
        raise InvalidRequest(f"{label}: expected 'shape' to be whole numbers from 0, got {shape}")
    return dims


def _raw(label: str, tensor: proto.ModelInferRequest.InferInputTensor, data: object) -> bytes:
    datatype = DATATYPES.get(tensor.datatype)
    if datatype is None:
        raise InvalidRequest(
            f"{label}: invalid datatype '{tensor.datatype}', expected one of {', '.join(DATATYPES)}"
        )
    return raw_from_json(label, datatype, tensor.shape, data)


def _split(
    label: str, given: Mapping[str, object], size: object, binary: memoryview
) -> tuple[bytes, memoryview]:
    """The next `size` bytes, and the rest."""
    if "data" in given:
        raise InvalidRequest(f"{label}: expected either 'data' or 'binary_data_size', got both")
    if type(size) is not int or not 0 <= size <= len(binary):
        raise InvalidRequest(
            f"{label}: unexpected 'binary_data_size' {size}, {len(binary)} bytes are left in the "
            "body behind the JSON, whose length Inference-Header-Content-Length gives"
        )
    return bytes(binary[:size]), binary[size:]


def _read_outputs(
    message: proto.ModelInferRequest, document: Mapping[str, object], binary_default: bool
) -> Mapping[str, bool]:
    binary: dict[str, bool] = {}
    for index, item in enumerate(optional("request", document, "outputs", list[object]())):
        wanted = checked(f"outputs[{index}]", item, dict)
        name = required(f"outputs[{index}]", wanted, "name", str)
        label = f"output '{name}'"
        parameters = optional(label, wanted, "parameters", dict[str, object]())
        binary[name] = optional(f"{label} parameters", parameters, "binary_data", binary_default)
        output = message.outputs.add(name=name)
        _set_parameters(output.parameters, label, parameters, "binary_data")
    return binary


def _set_parameters(
    target: Mapping[str, proto.InferParameter], label: str, parameters: Parameters, ours: str
) -> None:
    """Copy all parameters but `ours`, which is a matter of HTTP."""
    for key, value in parameters.items():
        if key == ours:
            continue
        where = f"{label} parameter '{checked(label, key, str)}'"
        parameter = target[key]
        if isinstance(value, bool):
            parameter.bool_param = value
        elif isinstance(value, int) and -INT64_MAX <= value <= INT64_MAX:
            parameter.int64_param = value
        elif isinstance(value, int) and 0 <= value <= UINT64_MAX:
            parameter.uint64_param = value
        elif isinstance(value, float):
            parameter.double_param = value
        elif isinstance(value, str):
            parameter.string_param = checked(where, value, str)
        else:
            raise InvalidRequest(f"{where}: expected a string, number, true or false")
