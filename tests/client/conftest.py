"""A small real gRPC server that speaks the protocol through tritonclient's own messages."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import grpc
import pytest
from tritonclient.grpc import service_pb2 as pb
from tritonclient.grpc.service_pb2_grpc import (
    GRPCInferenceServiceServicer,
    add_GRPCInferenceServiceServicer_to_server,
)

from kedge.client import Client, connect


@dataclass
class EchoServer(GRPCInferenceServiceServicer):  # type: ignore[misc]
    """Answers every input as the output of the same name. What it was asked is kept."""

    datatype: str = "FP32"
    shape: tuple[int, ...] = (-1, 2)
    refusal: tuple[grpc.StatusCode, str] | None = None
    drops_bytes: int = 0
    requests: list[Any] = field(default_factory=list)
    call_metadata: dict[str, str | bytes] = field(default_factory=dict)
    metadata_calls: int = 0
    port: int = 0

    def ServerReady(self, _request: Any, _context: Any) -> Any:
        return pb.ServerReadyResponse(ready=True)

    def ModelReady(self, request: Any, _context: Any) -> Any:
        return pb.ModelReadyResponse(ready=request.name == "echo")

    def ModelMetadata(self, request: Any, context: grpc.ServicerContext) -> Any:
        self.metadata_calls += 1
        if request.name != "echo":
            context.abort(grpc.StatusCode.NOT_FOUND, f"unknown model: '{request.name}'")
        tensor = {"name": "x", "datatype": self.datatype, "shape": self.shape}
        return pb.ModelMetadataResponse(
            name="echo", versions=["1", "2"], platform="test", inputs=[tensor], outputs=[tensor]
        )

    def ModelInfer(self, request: Any, context: grpc.ServicerContext) -> Any:
        self.requests.append(request)
        self.call_metadata = dict(context.invocation_metadata())
        if self.refusal:
            context.abort(*self.refusal)
        if request.inputs[0].datatype != self.datatype:
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, "unexpected datatype")
        answer = pb.ModelInferResponse(
            model_name=request.model_name,
            model_version=request.model_version or "2",
            id=request.id,
        )
        for tensor, raw in zip(request.inputs, request.raw_input_contents, strict=True):
            answer.outputs.add(name=tensor.name, datatype=tensor.datatype, shape=tensor.shape)
            answer.raw_output_contents.append(raw[: len(raw) - self.drops_bytes])
        return answer


@pytest.fixture
def server() -> Iterator[EchoServer]:
    echo = EchoServer()
    # Messages beyond gRPC's default of 4 MiB, as a compatible server takes them.
    options = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
    running = grpc.server(ThreadPoolExecutor(4), options=options)
    add_GRPCInferenceServiceServicer_to_server(echo, running)
    echo.port = running.add_insecure_port("127.0.0.1:0")
    running.start()
    yield echo
    running.stop(grace=None).wait()


@pytest.fixture
def client(server: EchoServer) -> Iterator[Client]:
    with connect(f"127.0.0.1:{server.port}", timeout_s=30) as connected:
        yield connected
