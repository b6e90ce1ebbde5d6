"""The peer grpc.aio: one asyncio process that echoes ModelInfer. Usage: grpc_aio_echo.py PORT"""

import asyncio
import sys

import grpc
from echo import Echo
from tritonclient.grpc import service_pb2, service_pb2_grpc


class EchoServicer(service_pb2_grpc.GRPCInferenceServiceServicer):
    """The two calls that the benchmark makes."""

    def __init__(self) -> None:
        self._echo = Echo()

    async def ModelInfer(  # noqa: N802 (the protocol's name)
        self, request: service_pb2.ModelInferRequest, _context: grpc.aio.ServicerContext
    ) -> service_pb2.ModelInferResponse:
        return self._echo.infer(request)

    async def ModelStatistics(  # noqa: N802
        self, request: service_pb2.ModelStatisticsRequest, _context: grpc.aio.ServicerContext
    ) -> service_pb2.ModelStatisticsResponse:
        return self._echo.statistics(request)


async def serve(port: int) -> None:
    """Serves until the process is ended."""
    server = grpc.aio.server()
    service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(EchoServicer(), server)
    server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    print(f"ready grpc=127.0.0.1:{port}", flush=True)
    await server.wait_for_termination()


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1])))
