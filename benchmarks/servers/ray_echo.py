"""The peer Ray Serve: one replica that echoes ModelInfer, reached through Serve's own gRPC ingress.

Usage: ray_echo.py TEMP_DIR GRPC_PORT HTTP_PORT. The environment switches direct ingress, HAProxy
and the throughput settings on, see peers.py.
"""

# Annotations stay text: Ray pickles the class, and the message classes cannot be pickled.
from __future__ import annotations

import sys
import threading

import ray
from echo import Echo
from ray import serve
from ray.serve.config import HTTPOptions, gRPCOptions
from ray.serve.schema import LoggingConfig
from tritonclient.grpc import service_pb2

SERVICER = "tritonclient.grpc.service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server"


# Serve's default of 5 ongoing requests would refuse most of 256 in flight.
@serve.deployment(max_ongoing_requests=1024, logging_config=LoggingConfig(enable_access_log=False))
class EchoDeployment:
    """The two calls that the benchmark makes."""

    def __init__(self) -> None:
        self._echo = Echo()

    async def ModelInfer(  # noqa: N802 (the protocol's name)
        self, request: service_pb2.ModelInferRequest
    ) -> service_pb2.ModelInferResponse:
        return self._echo.infer(request)

    async def ModelStatistics(  # noqa: N802
        self, request: service_pb2.ModelStatisticsRequest
    ) -> service_pb2.ModelStatisticsResponse:
        return self._echo.statistics(request)


def main(temp_dir: str, grpc_port: int, http_port: int) -> None:
    """Serves until the process is ended."""
    ray.init(include_dashboard=False, log_to_driver=False, _temp_dir=temp_dir)
    serve.start(
        http_options=HTTPOptions(port=http_port),
        grpc_options=gRPCOptions(port=grpc_port, grpc_servicer_functions=[SERVICER]),
    )
    serve.run(EchoDeployment.bind(), name="bench")
    print(f"ready grpc=127.0.0.1:{grpc_port}", flush=True)
    threading.Event().wait()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
