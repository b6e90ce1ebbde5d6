"""`kedge explain`: what the keys of a configuration mean."""

from __future__ import annotations

import json
from dataclasses import asdict

import click

from kedge.cli.output import output_option, show_rows

FOOTNOTE = """
Durations: us ms s m h d (2ms). Sizes: B kB KiB MB MiB GB GiB (64MiB).
Keys under serving can be overridden: KEDGE__SERVING__QUEUE__TIMEOUT=50ms."""


@click.group()
def explain() -> None:
    """Explain a configuration."""


@explain.command()
@click.option("--schema", is_flag=True, help="Print the JSON schema instead, for editors.")
@output_option
def config(schema: bool, output: str) -> None:
    """Every key of an endpoint file: type, default, meaning."""
    from kedge.config.endpoint import json_schema  # noqa: PLC0415 - imports pydantic, 50 ms
    from kedge.config.explain import endpoint_keys  # noqa: PLC0415

    if schema:
        click.echo(json.dumps(json_schema(), indent=2))
        return
    keys = [asdict(key) for key in endpoint_keys()]
    if output != "table":
        show_rows(keys, output)
        return
    for key in keys:
        key["default"] = "required" if key.pop("required") else key["default"]
    show_rows(keys, output)
    click.echo(FOOTNOTE)
