"""`kedge serve`: options to ServerSettings; the rest is `kedge.app.server`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any, TypeVar

import click

from kedge.cli.front_options import front_options, front_settings
from kedge.cli.progress import download_bar
from kedge.config.problems import NOT_YET
from kedge.config.units import format_size, parse_size_bytes
from kedge.core.errors import ServeError
from kedge.core.settings import MODEL_CACHE_BYTES_MAX, ServerSettings

_DEFAULTS = {field.name: field.default for field in fields(ServerSettings)}
_PORT = click.IntRange(0, 65535)
_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
_Command = TypeVar("_Command", bound=Callable[..., Any])


RAY = f"belongs to engine ray, which is {NOT_YET}"


def _refused(name: str, reason: str, **option: Any) -> Callable[[_Command], _Command]:
    """An option whose meaning is fixed and which this version cannot honour: hidden, refused."""

    def refuse(_context: click.Context, _parameter: click.Parameter, value: Any) -> None:
        if value:
            raise click.BadParameter(reason)

    return click.option(
        name, hidden=True, is_eager=True, expose_value=False, callback=refuse, **option
    )


def _engine(_context: click.Context, _parameter: click.Parameter, value: str) -> str:
    if value != "local":
        raise click.BadParameter(f"engine {value} is {NOT_YET}; use local")
    return value


def _size(_context: click.Context, _parameter: click.Parameter, value: str) -> int:
    try:
        size_bytes = parse_size_bytes(value)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None
    if size_bytes < 1:
        raise click.BadParameter("expected more than 0B")
    return size_bytes


def state_option(command: _Command) -> _Command:
    """Adds --state as the argument `state_dir`."""
    return click.option(
        "--state",
        "state_dir",
        type=click.Path(file_okay=False, path_type=Path),
        default=Path(".kedge"),
        show_default=True,
        help="Folder for what the server keeps.",
    )(command)


_LISTENERS = (
    ("--host", str, "Address to listen on."),
    ("--grpc-port", _PORT, "gRPC port; 0: any free one."),
    ("--http-port", _PORT, "REST port; 0: any free one."),
    ("--metrics-port", _PORT, "Prometheus port; 0: any free one."),
)


def listener_options(command: _Command) -> _Command:
    """Adds --host and the three ports, with the defaults of `ServerSettings`."""
    for name, kind, text in reversed(_LISTENERS):
        default = _DEFAULTS[name.removeprefix("--").replace("-", "_")]
        option = click.option(name, type=kind, default=default, show_default=True, help=text)
        command = option(command)
    return command


@click.command()
@click.argument("targets", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--engine",
    type=click.Choice(["local", "ray"]),
    default="local",
    show_default=True,
    callback=_engine,
    expose_value=False,
    help="What runs the models.",
)
@_refused("--address", RAY)
@listener_options
@click.option(
    "--model-control",
    type=click.Choice(["none", "poll", "explicit"]),
    default=_DEFAULTS["model_control"],
    show_default=True,
    help="none: load all at start; poll: follow changes of the files; explicit: load on request.",
)
@click.option(
    "--load-model",
    "load_models",
    multiple=True,
    metavar="NAME",
    help="With --model-control explicit: load NAME at start; '*' for all. Repeatable.",
)
@click.option("--token-file", type=_FILE, help="Bearer tokens, lines role:token.")
@front_options
@click.option(
    "--allow-model-code",
    is_flag=True,
    help="Load models that are code, and uploads; they can do anything.",
)
@state_option
@click.option(
    "--model-cache-size",
    "model_cache_bytes_max",
    metavar="SIZE",
    default=format_size(MODEL_CACHE_BYTES_MAX),
    show_default=True,
    callback=_size,
    help="Most disk for models fetched from URLs; those that serve always stay.",
)
@_refused("--stop", f"{RAY}; send SIGTERM", is_flag=True)
@click.pass_context
def serve(context: click.Context, /, **options: Any) -> None:
    """Serve every TARGET until SIGTERM.

    TARGET is an endpoint YAML, a folder of them, or a Triton model repository. When everything is
    loaded, one line `ready grpc=HOST:PORT http=HOST:PORT metrics=HOST:PORT` is printed.
    """
    if options["load_models"] and options["model_control"] != "explicit":
        raise click.UsageError("--load-model needs --model-control explicit")
    settings = ServerSettings(front=front_settings(options), **options)
    from kedge.app.server import serve as run  # noqa: PLC0415 - 0.5 s that --help must not pay

    try:
        bar = download_bar()
        context.exit(run(settings, bar) if bar else run(settings))
    except (ServeError, ValueError, OSError) as error:
        raise click.ClickException(str(error)) from None
