"""A gateway of tritonclient's own messages, for what stands in front of one."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import grpc
from tritonclient.grpc import service_pb2 as pb
from tritonclient.grpc.service_pb2_grpc import (
    GRPCInferenceServiceServicer,
    add_GRPCInferenceServiceServicer_to_server,
)

from kedge import proto

SNAPSHOT = {
    "ready": True,
    "draining": False,
    "process": {
        "pid": 1,
        "version": "1.2.3",
        "refused": {},
        "queue_bytes": 7,
        "gateway_restarts": 0,
        "workers": [],
    },
    "models": [],
}
UNKNOWN = "Request for unknown model: '{}' is not found"


class FakeGateway(GRPCInferenceServiceServicer):  # type: ignore[misc]
    """Serves the model `echo`, version 2, whose outputs are its inputs.

    Other models: `wait` answers when `go` is set or the call is cancelled, which sets `cancelled`;
    a name that is a gRPC status fails with it. requests: every message received, in order;
    call_metadata, left_s: of the latest call; is_ready: what it says of itself and its model.
    """

    def __init__(self) -> None:
        self.requests: list[Any] = []
        self.call_metadata: dict[str, str | bytes] = {}
        self.left_s: float | None = None
        self.is_ready = True
        self.go = threading.Event()
        self.waiting = threading.Event()
        self.cancelled = threading.Event()

    @property
    def request(self) -> Any:
        """The latest message received."""
        return self.requests[-1]

    def ServerLive(self, request: Any, context: grpc.ServicerContext) -> Any:
        self._receive(request, context)
        return pb.ServerLiveResponse(live=True)

    def ServerReady(self, request: Any, context: grpc.ServicerContext) -> Any:
        self._receive(request, context)
        return pb.ServerReadyResponse(ready=self.is_ready)

    def ModelReady(self, request: Any, context: grpc.ServicerContext) -> Any:
        self._receive(request, context)
        return pb.ModelReadyResponse(ready=self.is_ready and request.name == "echo")

    def ServerMetadata(self, request: Any, context: grpc.ServicerContext) -> Any:
        self._receive(request, context)
        return pb.ServerMetadataResponse(name="triton", version="1.2.3", extensions=["statistics"])

    def ModelMetadata(self, request: Any, context: grpc.ServicerContext) -> Any:
        self._receive(request, context, request.name)
        tensor = {"name": "x", "datatype": "FP32", "shape": [-1, 4]}
        return pb.ModelMetadataResponse(
            name="echo", versions=["2"], platform="test", inputs=[tensor], outputs=[tensor]
        )

    def ModelConfig(self, request: Any, context: grpc.ServicerContext) -> Any:
        self._receive(request, context, request.name)
        return pb.ModelConfigResponse(config={"name": "echo", "max_batch_size": 8})

    def ModelStatistics(self, request: Any, context: grpc.ServicerContext) -> Any:
        self._receive(request, context)
        success = {"success": {"count": 3, "ns": 2**40}}
        entry = {"name": "echo", "version": "2", "inference_count": 5, "inference_stats": success}
        return pb.ModelStatisticsResponse(model_stats=[entry])

    def RepositoryIndex(self, request: Any, context: grpc.ServicerContext) -> Any:
        self._receive(request, context)
        ready = {"name": "echo", "version": "2", "state": "READY"}
        return pb.RepositoryIndexResponse(
            models=[ready] if request.ready else [ready, {"name": "n"}]
        )

    def RepositoryModelLoad(self, request: Any, context: grpc.ServicerContext) -> Any:
        self._receive(request, context, request.model_name)
        return pb.RepositoryModelLoadResponse()

    def RepositoryModelUnload(self, request: Any, context: grpc.ServicerContext) -> Any:
        self._receive(request, context, request.model_name)
        return pb.RepositoryModelUnloadResponse()

    def ModelInfer(self, request: Any, context: grpc.ServicerContext) -> Any:
        self._receive(request, context, request.model_name)
        answer = pb.ModelInferResponse(
            model_name=request.model_name,
            model_version="2",
            id=request.id,
            raw_output_contents=request.raw_input_contents,
        )
        for tensor in request.inputs:
            answer.outputs.add(name=tensor.name, datatype=tensor.datatype, shape=tensor.shape)
        return answer

    def metrics(self, request: Any, context: grpc.ServicerContext) -> Any:
        """Kedge's own method, which tritonclient does not know."""
        self._receive(request, context)
        return proto.MetricsReply(snapshot_json=json.dumps(SNAPSHOT).encode())

    def _receive(self, request: Any, context: grpc.ServicerContext, model: str = "echo") -> None:
        self.requests.append(request)
        self.call_metadata = dict(context.invocation_metadata())
        self.left_s = context.time_remaining()
        if model == "wait":
            context.add_callback(self._end)
            self.waiting.set()
            self.go.wait(30)
        elif model in grpc.StatusCode.__members__:
            context.abort(grpc.StatusCode[model], f"refused with {model}")
        elif model != "echo":
            context.abort(grpc.StatusCode.NOT_FOUND, UNKNOWN.format(model))

    def _end(self) -> None:
        if not self.go.is_set():
            self.cancelled.set()
        self.go.set()


@contextmanager
def running_gateway(port: int = 0) -> Iterator[tuple[FakeGateway, str]]:
    """A gateway and its address, ended when the block is left."""
    gateway = FakeGateway()
    server = grpc.server(ThreadPoolExecutor(8), options=[("grpc.max_receive_message_length", -1)])
    add_GRPCInferenceServiceServicer_to_server(gateway, server)
    service, _, method = proto.CONTROL_METRICS.strip("/").partition("/")
    handler = grpc.unary_unary_rpc_method_handler(
        gateway.metrics,
        proto.MetricsRequest.FromString,
        lambda reply: reply.SerializeToString(),
    )
    server.add_generic_rpc_handlers(
        [grpc.method_handlers_generic_handler(service, {method: handler})]
    )
    bound_port = server.add_insecure_port(f"127.0.0.1:{port}")
    server.start()
    try:
        yield gateway, f"127.0.0.1:{bound_port}"
    finally:
        gateway.go.set()
        server.stop(None).wait()
