"""Kedge: serve PyTorch models over gRPC. Public names load on first use: the import is cheap."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kedge.client import Client, KedgeError, Prediction, connect

__all__ = ["Client", "KedgeError", "Prediction", "__version__", "connect"]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    if name in __all__:
        import kedge.client  # noqa: PLC0415 - imports grpc, 0.1 s that `kedge --help` must not pay

        return getattr(kedge.client, name)
    raise AttributeError(f"module 'kedge' has no attribute {name!r}")
