"""The HTTP process: bind, say where, serve until SIGTERM or the parent's death, drain."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import uvicorn
from starlette.types import ASGIApp

from kedge.control.http.caller import Caller
from kedge.control.http.connection import BoundedHttpProtocol
from kedge.control.http.gateway import Gateway
from kedge.control.http.limits import (
    CONNECTIONS_MAX,
    DRAIN_S_MAX,
    IDLE_S_MAX,
    METRICS_CONNECTIONS_MAX,
)
from kedge.control.http.rest import RenderMetrics, metrics_app, rest_app


@dataclass(frozen=True, slots=True)
class HttpSettings:
    """grpc_address: the gateway's HOST:PORT or socket; gateway_secret: what it asks of this process
    besides the caller's token, "" for nothing. Ports: 0 means any free one. parent_fd: read end of
    a pipe whose other end only the parent holds; it is at its end when the parent is.
    """

    grpc_address: str
    gateway_secret: str
    host: str
    http_port: int
    metrics_port: int
    control_from_loopback_only: bool
    parent_fd: int


class CannotListen(Exception):
    """An address is taken or not this machine's; the message says which."""


def run(settings: HttpSettings, render_metrics: RenderMetrics) -> None:
    """Serve; returns when the process should end. Raises CannotListen."""
    http = _listener(settings.host, settings.http_port)
    metrics = _listener(settings.host, settings.metrics_port)
    # Ctrl-C reaches every process of the terminal; the gateway drains and then ends this one.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    asyncio.run(_serve(settings, http, metrics, render_metrics))


async def _serve(
    settings: HttpSettings,
    http: socket.socket,
    metrics: socket.socket,
    render_metrics: RenderMetrics,
) -> None:
    gateway = Gateway(settings.grpc_address, settings.gateway_secret)
    caller = Caller(gateway)
    rest = rest_app(caller, render_metrics, settings.control_from_loopback_only)
    servers = {
        http: _Server(rest, CONNECTIONS_MAX),
        metrics: _Server(metrics_app(caller, render_metrics), METRICS_CONNECTIONS_MAX),
    }

    def stop() -> None:
        for server in servers.values():
            server.should_exit = True

    def on_pipe() -> None:
        if not os.read(settings.parent_fd, 1):
            loop.remove_reader(settings.parent_fd)
            stop()

    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, stop)
    loop.add_reader(settings.parent_fd, on_pipe)
    serving = [loop.create_task(server.serve([own])) for own, server in servers.items()]
    for server in servers.values():
        await server.listening.wait()
    print(  # noqa: T201 - the line that the parent waits for
        f"http={_address(settings.host, http)} metrics={_address(settings.host, metrics)}",
        flush=True,
    )
    await asyncio.gather(*serving)
    await gateway.close()


class _Server(uvicorn.Server):
    """One of several servers in a process, which leaves the signals to the process."""

    def __init__(self, app: ASGIApp, connections_max: int) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                loop="asyncio",
                http=BoundedHttpProtocol,
                ws="none",
                lifespan="off",
                log_config=None,
                access_log=False,
                # Headers that name another peer are forgeable, and load and unload look at it.
                proxy_headers=False,
                server_header=False,
                limit_concurrency=connections_max,
                timeout_keep_alive=IDLE_S_MAX,
                timeout_graceful_shutdown=DRAIN_S_MAX,
            )
        )
        self.listening = asyncio.Event()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.listening.set()


def _listener(host: str, port: int) -> socket.socket:
    """A bound socket that does not listen yet."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
    except OSError as error:
        raise CannotListen(f"cannot listen on {host}:{port}: {error.strerror}") from None
    return listener


def _address(host: str, listener: socket.socket) -> str:
    return f"{f'[{host}]' if ':' in host else host}:{listener.getsockname()[1]}"
