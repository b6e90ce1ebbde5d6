"""The options of every verb that calls a server."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

_Command = TypeVar("_Command", bound=Callable[..., Any])


def client_options(command: _Command) -> _Command:
    """Adds --address, --token, --model-version and --timeout (as timeout_s)."""
    for option in reversed(
        (
            click.option(
                "--address",
                default="localhost:8001",
                show_default=True,
                metavar="HOST:PORT",
                help="The server's gRPC port.",
            ),
            click.option(
                "--token",
                envvar="KEDGE_TOKEN",
                help="Bearer token; better in KEDGE_TOKEN, where no process list shows it.",
            ),
            click.option("--model-version", default="", help="Version to ask; default: newest."),
            click.option(
                "--timeout",
                "timeout_s",
                type=click.FloatRange(min=0, min_open=True),
                default=30.0,
                show_default=True,
                metavar="SECONDS",
                help="Longest wait for an answer.",
            ),
        )
    ):
        command = option(command)
    return command
