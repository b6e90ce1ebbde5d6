"""How a listener's address is written for gRPC, and where this machine finds it."""

from __future__ import annotations


def grpc_target(host: str, port: int) -> str:
    return f"{f'[{host}]' if ':' in host else host}:{port}"


def reachable_target(host: str, port: int) -> str:
    """Where a process on this machine finds a listener on `host`."""
    return grpc_target({"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host), port)  # noqa: S104
