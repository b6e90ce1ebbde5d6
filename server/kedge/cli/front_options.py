"""The options of `kedge serve` that say how the gRPC listener treats connections and messages.

Names are Triton's where Triton has the option; times are milliseconds there and here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any, TypeVar

import click

from kedge.core.settings import CompressionLevel, FrontKind, FrontSettings

_Command = TypeVar("_Command", bound=Callable[..., Any])
_DEFAULTS = {field.name: field.default for field in fields(FrontSettings)}
_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
_MS = click.IntRange(min=0, max=2**31 - 1)
_MS_ABOVE_0 = click.IntRange(min=1, max=2**31 - 1)
_BYTES = click.IntRange(min=1, max=2**31 - 1)

# Option, field of FrontSettings, type, metavar, help.
_OPTIONS: tuple[tuple[str, str, Any, str | None, str], ...] = (
    (
        "--front",
        "kind",
        click.Choice([kind.value for kind in FrontKind]),
        None,
        "gRPC library; auto: native unless an option needs grpcio.",
    ),
    ("--tls-cert", "tls_cert", _FILE, None, "PEM certificate chain of the gRPC port."),
    ("--tls-key", "tls_key", _FILE, None, "PEM key of --tls-cert."),
    ("--tls-client-ca", "tls_client_ca", _FILE, None, "PEM; clients need its certificate (mTLS)."),
    (
        "--grpc-max-connection-age",
        "connection_age_ms_max",
        _MS,
        "MS",
        "Close connections politely after that long; 0: never.",
    ),
    (
        "--grpc-max-connection-age-grace",
        "connection_age_grace_ms",
        _MS,
        "MS",
        "Then wait so long for their calls; 0: for all of them.",
    ),
    (
        "--grpc-infer-response-compression-level",
        "compression",
        click.Choice([level.value for level in CompressionLevel]),
        None,
        "Compress answers for clients that accept it.",
    ),
    (
        "--grpc-max-message-bytes",
        "message_bytes_max",
        _BYTES,
        "BYTES",
        "Largest message that is taken in.",
    ),
    ("--grpc-keepalive-time", "keepalive_ms", _MS_ABOVE_0, "MS", "Ping a silent connection."),
    (
        "--grpc-keepalive-timeout",
        "keepalive_timeout_ms",
        _MS_ABOVE_0,
        "MS",
        "Close it if no answer comes.",
    ),
)


def front_options(command: _Command) -> _Command:
    """Adds them all, with the defaults of `FrontSettings`."""
    for option, name, kind, metavar, text in reversed(_OPTIONS):
        default = _DEFAULTS[name]
        command = click.option(
            option,
            name,
            type=kind,
            metavar=metavar,
            default=getattr(default, "value", default),
            show_default=default is not None,
            help=text,
        )(command)
    return command


def front_settings(options: dict[str, Any]) -> FrontSettings:
    """Takes what `front_options` added out of `options`. Raises UsageError."""
    given = {name: options.pop(name) for _, name, _, _, _ in _OPTIONS}
    given["kind"] = FrontKind(given["kind"])
    given["compression"] = CompressionLevel(given["compression"])
    try:
        return FrontSettings(**given)
    except ValueError as error:
        raise click.UsageError(str(error)) from None
