"""From ModelInferResponse to the body of an answer: JSON, and binary tensors behind it. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import NamedTuple

from kedge import proto
from kedge.control.http.infer_request import InferCall
from kedge.control.http.json_tensors import json_from_raw
from kedge.core.datatypes import DATATYPES


class InferAnswer(NamedTuple):
    """body: the JSON's `json_bytes` bytes, then the binary tensors in the order of the outputs;
    json_bytes is None when there are none.
    """

    body: bytes
    json_bytes: int | None


def write_infer_response(response: proto.ModelInferResponse, call: InferCall) -> InferAnswer:
    """The answer to `call`. Raises InvalidRequest for data that JSON cannot carry."""
    outputs: list[dict[str, object]] = []
    binary: list[bytes] = []
    for output, raw in zip(response.outputs, response.raw_output_contents, strict=True):
        described: dict[str, object] = {
            "name": output.name,
            "datatype": output.datatype,
            "shape": list(output.shape),
        }
        parameters = _plain(output.parameters)
        if call.binary.get(output.name, call.binary_default):
            parameters["binary_data_size"] = len(raw)
            binary.append(raw)
        else:
            label = f"output '{output.name}'"
            described["data"] = json_from_raw(label, DATATYPES[output.datatype], raw)
        if parameters:
            described["parameters"] = parameters
        outputs.append(described)
    document: dict[str, object] = {"id": response.id} if response.id else {}
    document |= {"model_name": response.model_name, "model_version": response.model_version}
    if response.parameters:
        document["parameters"] = _plain(response.parameters)
    text = to_json(document | {"outputs": outputs})
    return InferAnswer(b"".join((text, *binary)), len(text) if binary else None)


def to_json(value: object) -> bytes:
    """Compact UTF-8, as Triton writes it."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def _plain(parameters: Mapping[str, proto.InferParameter]) -> dict[str, object]:
    return {
        key: getattr(parameter, choice)
        for key, parameter in parameters.items()
        if (choice := parameter.WhichOneof("parameter_choice"))
    }
