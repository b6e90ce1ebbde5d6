"""The requests that servers get, and the check that they are answered.

Model `bench` takes [1, 32] FP32, `image` [1, 3, 224, 224] FP32, which is 602 KB, `strings` [1, 4]
BYTES, `large` [1, 1048576] FP32, which is 4 MiB. All travel as raw contents.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import grpc
import numpy as np
from _harness import BenchmarkFailed
from numpy.typing import NDArray
from tritonclient.grpc import service_pb2, service_pb2_grpc
from tritonclient.utils import deserialize_bytes_tensor, serialize_byte_tensor

# FP32, or objects of type bytes.
Rows = NDArray[Any]

MODEL = "bench"
METHOD_PATH = "/inference.GRPCInferenceService/ModelInfer"
CALL_TIMEOUT_S = 5.0
RECOVERY_S = 30.0
# As long as a code, a name, a time and a short text; one needs UTF-8.
STRINGS = ("LGA", "Zürich", "2013-06-14T08:35:00Z", "delayed by the late arrival of the aircraft")


@dataclass(frozen=True)
class Interface:
    """One model's only input INPUT0 and only output OUTPUT0, without the batch dimension.

    rows_max: largest batch, the same at every server.
    """

    input_dims: tuple[int, ...]
    output_dims: tuple[int, ...]
    datatype: str = "FP32"
    rows_max: int = 256

    @property
    def is_identity(self) -> bool:
        """Whether Kedge's TorchScript model answers its input."""
        return self.input_dims == self.output_dims


MODELS = {
    "bench": Interface((32,), (8,)),
    "image": Interface((3, 224, 224), (3, 224, 224), rows_max=16),
    "strings": Interface((4,), (4,), "BYTES"),
    "large": Interface((1_048_576,), (1,), rows_max=8),
    "hanging": Interface((1_048_576,), (1,), rows_max=8),
    "slow": Interface((32,), (32,), rows_max=16),
    "steady": Interface((32,), (8,)),
    "heavy": Interface((32,), (32,), rows_max=1),
    "spinning": Interface((32,), (32,), rows_max=1),
    "row_8k": Interface((2048,), (2048,), rows_max=64),
}


class WrongAnswer(BenchmarkFailed):
    """A server answered, but not with the values that its model gives."""


def payload(model: str = MODEL) -> Rows:
    """One row for the model, the same in every run."""
    interface = MODELS[model]
    if interface.datatype == "BYTES":
        return np.array([[text.encode() for text in STRINGS]], dtype=np.object_)
    shape = (1, *interface.input_dims)
    return np.random.default_rng(0).standard_normal(shape, dtype=np.float32)


def infer_request(model: str = MODEL) -> service_pb2.ModelInferRequest:
    """ModelInfer of the model's payload, in the form the stock client sends: raw contents."""
    rows, datatype = payload(model), MODELS[model].datatype
    request = service_pb2.ModelInferRequest(model_name=model)
    request.inputs.add(name="INPUT0", datatype=datatype, shape=rows.shape)
    is_bytes = datatype == "BYTES"
    raw = serialize_byte_tensor(rows).item() if is_bytes else rows.tobytes()
    request.raw_input_contents.append(raw)
    return request


def grpc_frame(message: bytes) -> bytes:
    """A message as gRPC puts it on the HTTP/2 stream: not compressed, length, message."""
    return b"\0" + len(message).to_bytes(4, "big") + message


def infer(address: str, model: str = MODEL) -> Rows:
    """One real call; raises grpc.RpcError unless its status is OK."""
    with grpc.insecure_channel(address) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        response = stub.ModelInfer(infer_request(model), timeout=CALL_TIMEOUT_S)
    return answered_rows(response)


def answered_rows(response: service_pb2.ModelInferResponse) -> Rows:
    """The first output of an answer with raw contents."""
    output, raw = response.outputs[0], response.raw_output_contents[0]
    is_bytes = output.datatype == "BYTES"
    rows: Rows = deserialize_bytes_tensor(raw) if is_bytes else np.frombuffer(raw, np.float32)
    return rows.reshape(tuple(output.shape))


def check_answer(address: str, expected: Rows, model: str = MODEL) -> None:
    """Calls until the server answers, then compares the values.

    The retries are for a server that was paused: its connections and health checks have to
    recover. Raises WrongAnswer, or the last grpc.RpcError after RECOVERY_S.
    """
    deadline_s = time.monotonic() + RECOVERY_S
    while True:
        try:
            got = infer(address, model)
            break
        except grpc.RpcError:
            if time.monotonic() > deadline_s:
                raise
            time.sleep(0.1)
    if not _equal(got, expected):
        raise WrongAnswer(f"{address} answered {_text(got)}, expected {_text(expected)}")


def _equal(got: Rows, expected: Rows) -> bool:
    if got.shape != expected.shape or got.dtype != expected.dtype:
        return False
    if got.dtype == np.object_:
        return bool(np.array_equal(got, expected))
    # Other kernels and batch sizes add in another order.
    return bool(np.allclose(got, expected, rtol=1e-4, atol=1e-5))


def _text(rows: Rows) -> str:
    return f"{list(rows.shape)} {rows.reshape(-1)[:8].tolist()}"


def success_count(address: str, model: str = MODEL) -> int:
    """How many requests the server says it has answered with OK (ModelStatistics)."""
    with grpc.insecure_channel(address) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        request = service_pb2.ModelStatisticsRequest(name=model)
        answer = stub.ModelStatistics(request, timeout=CALL_TIMEOUT_S)
    return sum(int(found.inference_stats.success.count) for found in answer.model_stats)
