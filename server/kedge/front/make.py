"""Chooses the front that the settings ask for and makes it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from kedge.core.ports import Front
from kedge.core.settings import (
    MESSAGE_BYTES_MAX,
    CompressionLevel,
    FrontKind,
    FrontSettings,
    ServerSettings,
)
from kedge.front.auth import Access
from kedge.front.grpcio import GrpcioFront
from kedge.front.methods import Methods
from kedge.front.native import NativeFront


def make_front(
    settings: ServerSettings,
    infer_method: str,
    stream_method: str,
    methods: Mapping[str, frozenset[str]],
    access: Access,
) -> Front:
    """A listener on the settings' address that has not started.

    Raises OSError when it cannot listen there, ValueError for certificates that cannot be used and
    for what the native front is asked for and has not.
    """
    served = Methods(infer_method, stream_method, methods)
    if chosen_kind(settings.front) is FrontKind.NATIVE:
        return NativeFront(settings.front, settings.host, settings.grpc_port, served, access)
    return GrpcioFront(settings.front, settings.host, settings.grpc_port, served, access)


def chosen_kind(settings: FrontSettings) -> FrontKind:
    """NATIVE or GRPCIO. Raises ValueError for --front native with what it cannot do."""
    only_grpcio = dict(_only_grpcio(settings))
    match settings.kind:
        case FrontKind.AUTO:
            return FrontKind.GRPCIO if only_grpcio else FrontKind.NATIVE
        case FrontKind.NATIVE if only_grpcio:
            option, reason = next(iter(only_grpcio.items()))
            raise ValueError(
                f"{option} cannot be used with --front native, which has no {reason}; "
                "use --front grpcio or leave the choice to --front auto"
            )
    return settings.kind


def _only_grpcio(settings: FrontSettings) -> Iterator[tuple[str, str]]:
    """The options in use that need grpcio, each with what the native front lacks."""
    if settings.tls_cert is not None:
        yield "--tls-cert", "TLS (a proxy in front can end it)"
    if settings.connection_age_ms_max:
        yield "--grpc-max-connection-age", "maximum connection age"
    if settings.compression is not CompressionLevel.NONE:
        yield "--grpc-infer-response-compression-level", "compression of answers"
    if settings.message_bytes_max != MESSAGE_BYTES_MAX:
        yield "--grpc-max-message-bytes", "limit on messages"
