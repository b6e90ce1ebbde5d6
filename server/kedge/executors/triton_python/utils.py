"""What a model imports as `triton_python_backend_utils`.

Every public name of this module is one of Triton's. What Triton has and Kedge has not raises
NotInKedge with its name.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from kedge import proto
from kedge.core.bytes_elements import unpack_bytes
from kedge.core.datatypes import BY_CONFIG_NAME, BYTES
from kedge.executors.strings import array_from_elements, array_to_raw
from kedge.executors.triton_python.messages import (
    InferenceRequest,
    InferenceResponse,
    Logger,
    LogLevel,
    TritonError,
)
from kedge.executors.triton_python.refusals import REFUSED, NotInKedge, TritonModelException
from kedge.executors.triton_python.tensor import BF16, BY_NUMPY, Tensor

__all__ = [
    "TRITON_STRING_TO_NUMPY",
    "InferenceRequest",
    "InferenceResponse",
    "LogLevel",
    "Logger",
    "Tensor",
    "TritonError",
    "TritonModelException",
    "deserialize_bytes_tensor",
    "get_input_config_by_name",
    "get_input_tensor_by_name",
    "get_output_config_by_name",
    "get_output_tensor_by_name",
    "numpy_to_triton_type",
    "serialize_byte_tensor",
    "triton_string_to_numpy",
    "triton_to_numpy_type",
    "using_decoupled_model_transaction_policy",
]

NAME = "triton_python_backend_utils"
TRITONSERVER_REQUEST_FLAG_SEQUENCE_START = 1
TRITONSERVER_REQUEST_FLAG_SEQUENCE_END = 2
TRITON_STRING_TO_NUMPY: dict[str, type[Any]] = {
    # A model compares with `bool`, as the name in Triton's table is.
    name: bool if datatype.name == "BOOL" else datatype.numpy.type
    for name, datatype in BY_CONFIG_NAME.items()
    if datatype is not BF16
}


def install() -> None:
    """Make `import triton_python_backend_utils` find this module."""
    sys.modules[NAME] = sys.modules[__name__]


def __getattr__(name: str) -> NoReturn:
    if name in REFUSED:
        # No AttributeError, of which `from ... import` would only tell that there is no such name.
        raise NotInKedge(REFUSED[name])
    raise AttributeError(f"module '{NAME}' has no attribute '{name}' in this version of Kedge")


def get_input_tensor_by_name(inference_request: InferenceRequest, name: str) -> Tensor | None:
    """None if there is none."""
    return _named(inference_request.inputs(), name)


def get_output_tensor_by_name(inference_response: InferenceResponse, name: str) -> Tensor | None:
    """None if there is none."""
    return _named(inference_response.output_tensors(), name)


def _named(tensors: Iterable[Tensor], name: str) -> Tensor | None:
    return next((tensor for tensor in tensors if tensor.name() == name), None)


def get_input_config_by_name(model_config: dict[str, Any], name: str) -> dict[str, Any] | None:
    """The input's part of the parsed `args["model_config"]`; None if there is none."""
    return _config_of(model_config, "input", name)


def get_output_config_by_name(model_config: dict[str, Any], name: str) -> dict[str, Any] | None:
    """The output's part of the parsed `args["model_config"]`; None if there is none."""
    return _config_of(model_config, "output", name)


def _config_of(model_config: dict[str, Any], kind: str, name: str) -> dict[str, Any] | None:
    return next((entry for entry in model_config.get(kind, []) if entry["name"] == name), None)


def using_decoupled_model_transaction_policy(model_config: dict[str, Any]) -> bool:
    """False: configurations that say so are refused."""
    return bool(model_config.get("model_transaction_policy", {}).get("decoupled", False))


def triton_string_to_numpy(triton_type_string: str) -> type[Any]:
    """The NumPy type of a name like `TYPE_FP32`; object for TYPE_STRING. KeyError for others."""
    return TRITON_STRING_TO_NUMPY[triton_type_string]


def triton_to_numpy_type(data_type: int) -> type[Any]:
    """The NumPy type of a number of model_config.proto."""
    return BY_CONFIG_NAME[proto.DataType.Name(proto.DataType.ValueType(data_type))].numpy.type


def numpy_to_triton_type(data_type: Any) -> int:
    """The number in model_config.proto of a NumPy type or dtype; KeyError for others."""
    dtype = np.dtype(data_type)
    datatype = BYTES if dtype.kind == "S" else BY_NUMPY[dtype]
    return proto.DataType.Value(datatype.config_name)


def serialize_byte_tensor(input_tensor: NDArray[Any]) -> bytes:
    """The elements in C order, each behind its length."""
    return array_to_raw(input_tensor.astype(np.object_), batched=False)[0].tobytes()


def deserialize_bytes_tensor(encoded_tensor: bytes) -> NDArray[np.object_]:
    """The other way round: a vector of `bytes`."""
    elements = unpack_bytes(bytes(encoded_tensor), "deserialize_bytes_tensor")
    return array_from_elements(elements, (len(elements),))
