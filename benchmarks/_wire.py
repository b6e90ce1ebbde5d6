"""The requests that servers get, FP32 raw, and the check that they are answered.

Model `bench` takes [1, 32], `large` takes [1, 1048576], which is 4 MiB.
"""

from __future__ import annotations

import time

import grpc
import numpy as np
from numpy.typing import NDArray
from tritonclient.grpc import service_pb2, service_pb2_grpc

Rows = NDArray[np.float32]

MODEL = "bench"
COLUMNS = {"bench": 32, "large": 1_048_576}
METHOD_PATH = "/inference.GRPCInferenceService/ModelInfer"
CALL_TIMEOUT_S = 5.0
RECOVERY_S = 30.0


class WrongAnswer(RuntimeError):
    """A server answered, but not with the values that its model gives."""


def payload(model: str = MODEL) -> Rows:
    """One row for the model, the same numbers in every run."""
    return np.random.default_rng(0).standard_normal((1, COLUMNS[model]), dtype=np.float32)


def infer_request(model: str = MODEL) -> service_pb2.ModelInferRequest:
    """ModelInfer of the model's payload, in the form the stock client sends: raw contents."""
    rows = payload(model)
    request = service_pb2.ModelInferRequest(model_name=model)
    request.inputs.add(name="INPUT0", datatype="FP32", shape=rows.shape)
    request.raw_input_contents.append(rows.tobytes())
    return request


def grpc_frame(message: bytes) -> bytes:
    """A message as gRPC puts it on the HTTP/2 stream: not compressed, length, message."""
    return b"\0" + len(message).to_bytes(4, "big") + message


def infer(address: str, model: str = MODEL) -> Rows:
    """One real call; raises grpc.RpcError unless its status is OK."""
    with grpc.insecure_channel(address) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        response = stub.ModelInfer(infer_request(model), timeout=CALL_TIMEOUT_S)
    shape = tuple(response.outputs[0].shape)
    return np.frombuffer(response.raw_output_contents[0], np.float32).reshape(shape)


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
    # Other kernels and batch sizes add in another order.
    if got.shape != expected.shape or not np.allclose(got, expected, rtol=1e-4, atol=1e-5):
        raise WrongAnswer(f"{address} answered {got.tolist()}, expected {expected.tolist()}")


def success_count(address: str, model: str = MODEL) -> int:
    """How many requests the server says it has answered with OK (ModelStatistics)."""
    with grpc.insecure_channel(address) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        request = service_pb2.ModelStatisticsRequest(name=model)
        answer = stub.ModelStatistics(request, timeout=CALL_TIMEOUT_S)
    return sum(int(found.inference_stats.success.count) for found in answer.model_stats)
